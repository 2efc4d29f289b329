"""Graphs of tower and scorer, for batches of any size: traced by torch.export, then ONNX or AOTInductor."""

from __future__ import annotations

import importlib
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from behavior.errors import UserError
from models.attention.bias import time_bucket
from models.history.recency import recency_bucket
from models.serving.export.scoring import other_masses, retrieval_model
from models.serving.export.similar import item_vectors
from models.serving.export.tower import Scorer, UserTower
from models.serving.load import TrainedModel

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SIZES = ("batch", "N")
"""What the first two sizes of inputs are called where they are open."""
_ROWS, _EVENTS = 3, 4  # of the example that is traced


def tower_and_scorer(trained: TrainedModel) -> tuple[UserTower, Scorer]:
    """Both on the CPU, as they are exported.

    Raises:
        UserError: the model has no vectors of items, or ranks by what no graph holds.
    """
    model = retrieval_model(trained)
    tables = [what for name, what in other_masses(model).items() if name in ("jumps", "trends")]
    if tables:
        raise UserError(
            f"a graph of the tower has no {' and no '.join(tables)}: these are looked up in tables of the "
            "log on the host, and without them the ranking would be another one",
            where="--format",
            fix="export --format safetensors, serve with 'lrm recommend', or train without them",
        )
    tower = UserTower(model, time_known=trained.config.model.time == "known", has_time=trained.about.has_time)
    vectors = item_vectors(model, 0, model.num_items).cpu()
    history = model.history is not None
    return tower, Scorer(vectors, model.first_item, model.temperature, with_history=history)


def traced(module: UserTower | Scorer, examples: Sequence[Tensor], longest: int) -> Any:
    """The program of a module, for any number of rows, and of events up to `longest`.

    Args:
        module: in evaluation mode.
        examples: inputs whose first size is that of rows, and of `[batch, N]` the second that of events.
        longest: most events of a history.
    """
    rows = torch.export.Dim("batch", min=1, max=1 << 16)
    events = torch.export.Dim("events", min=1, max=max(2, longest))
    names = _shapes_of(module, rows, events)
    # What is kept a device must be there before: what is made while a graph is traced is none of its numbers.
    for bucket in (time_bucket, recency_bucket):
        bucket(torch.zeros(1, dtype=torch.int64))
    with torch.no_grad(), _quiet():
        return torch.export.export(module.eval(), tuple(examples), dynamic_shapes=names, strict=False)


def examples_of(tower: UserTower, dim: int) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs of the tower and of the scorer, of any values that are allowed."""
    inputs = []
    for each in tower.inputs:
        shape = (_ROWS, _EVENTS) if each.of_events else (_ROWS,)
        inputs.append(torch.ones(shape, dtype=each.dtype))
        if each.name == "lengths":
            inputs[-1] = torch.tensor([2, 4, 1])
    score = [torch.ones(_ROWS, dim)]
    if tower.model.history is not None:
        score += [inputs[0], torch.zeros(_ROWS, _EVENTS)]
    return inputs, score


def write_onnx(program: Any, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a program for onnxruntime.

    Args:
        program: of `traced`.
        path: of the file; large weights lie beside it.
        inputs: names.
        outputs: names.

    Raises:
        UserError: a package is missing.
    """
    check_onnx()
    with _quiet():
        made = torch.onnx.export(
            program.run_decompositions(_decompositions()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamo=True,
            verbose=False,
        )
        assert made is not None
        _name_sizes(made.model.graph)
        made.save(str(path))


def _name_sizes(graph: Any) -> None:
    """Call the sizes of inputs and outputs what they are: traced programs only number them."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for size, name in zip(value.shape, SIZES, strict=False):
            if not isinstance(size, int):
                names[str(size.value)] = name
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        for place, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and str(size.value) in names:
                value.shape[place] = names[str(size.value)]


def check_onnx() -> None:
    """Raise UserError where a package is missing that ONNX graphs are made with."""
    for name in ONNX_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise UserError(
                f"ONNX graphs are made with {', '.join(ONNX_PACKAGES)}, and '{name}' is not installed",
                where="--format onnx",
                fix='pip install "lrm-kit[export]"',
            ) from None


def write_aoti(program: Any, path: Path) -> None:
    """Compile a program for the CPU of this machine, by AOTInductor, into a package for C++ and Python.

    Raises:
        UserError: there is no C++ compiler.
    """
    check_compiler()
    with _quiet():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def check_compiler() -> None:
    """Raise UserError where there is no C++ compiler."""
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise UserError(
            "AOTInductor compiles with a C++ compiler, and there is none",
            where="--format aoti",
            fix="install g++, or export --format onnx",
        )


def _shapes_of(module: UserTower | Scorer, rows: Any, events: Any) -> dict[str, Any]:
    if isinstance(module, UserTower):
        return {
            "inputs": tuple({0: rows, 1: events} if each.of_events else {0: rows} for each in module.inputs)
        }
    history = {"history": ({0: rows, 1: events},) * 2} if module.with_history else {}
    return {"query": {0: rows}, **history}


def _decompositions() -> Any:
    """Torch's own, and of operations that ONNX lacks."""
    table = torch.export.default_decompositions()
    aten: Any = torch.ops.aten
    table.update({aten.searchsorted.Tensor: _search, aten.bucketize.Tensor: _bucket, aten.sort.stable: _sort})
    return table


def _search(
    bounds: Tensor, values: Tensor, *, right: bool = False, side: str | None = None, **_: Any
) -> Tensor:
    """`torch.searchsorted` of one row of boundaries, by comparing with all of them."""
    right = right or side == "right"
    value = values[..., None]
    return ((bounds <= value) if right else (bounds < value)).sum(-1)


def _bucket(values: Tensor, bounds: Tensor, *, right: bool = False, **_: Any) -> Tensor:
    """`torch.bucketize` by halving: as many look-ups as the number of boundaries has bits."""
    count = bounds.shape[0]
    found = torch.zeros_like(values)
    for bit in reversed(range(count.bit_length())):
        ahead = found + (1 << bit)
        edge = bounds[(ahead - 1).clamp(max=count - 1)]
        passed = (edge <= values) if right else (edge < values)
        found = torch.where(passed & (ahead <= count), ahead, found)
    return found


def _sort(
    values: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor]:
    """A stable ascending sort of whole numbers in one row, by making them different."""
    assert values.ndim == 1
    assert not descending
    count = values.shape[0]
    different = values * count + torch.arange(count)
    order = torch.topk(different, count, largest=False, sorted=True).indices
    return values[order], order


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says to those who write exporters."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
