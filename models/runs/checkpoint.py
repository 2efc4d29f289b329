"""Checkpoints: one safetensors file each, written whole or not at all, and nothing in it that is code.

Tensors are named `model.<weight>`, `optimizer.<parameter number>.<value>` and `random.<device>`; everything
else (settings, data set, progress) is JSON in the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from behavior.errors import UserError
from models.runs.files import has_file, told, write_atomically
from models.runs.former import without_former
from models.runs.records import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_FORMAT_VERSION,
    CheckpointHead,
    Position,
    check_record,
    check_version,
    damaged,
    parse_json,
)
from models.runs.tensors import (
    DAMAGED,
    RESTORE,
    START_AGAIN,
    check_tensors,
    expected_like,
    raise_for_problems,
)

_METADATA = "lrm-kit"


@dataclass(frozen=True)
class Checkpoint:
    """What one file holds."""

    config: dict[str, Any]
    """The resolved settings."""
    dataset: dict[str, Any]
    """Name, digest and sizes of the data set."""
    progress: dict[str, Any]
    """Plain numbers: where the training stood, or the metrics of the model."""
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any] | None = None
    """As `Optimizer.state_dict`; None where only the model was saved."""
    random: dict[str, torch.Tensor] = field(default_factory=dict)
    """State of each random generator, uint8."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under a temporary name, then rename it, so that a crash leaves the old one."""
    tensors = {f"model.{name}": tensor for name, tensor in checkpoint.model.items()}
    tensors |= {f"random.{name}": tensor for name, tensor in checkpoint.random.items()}
    groups = None
    if checkpoint.optimizer is not None:
        groups = checkpoint.optimizer["param_groups"]
        for number, values in checkpoint.optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in values.items()}
    head = CheckpointHead(
        config=checkpoint.config,
        dataset=checkpoint.dataset,
        progress=checkpoint.progress,
        param_groups=groups,
        tensors=sorted(tensors),
    )
    # Tied weights would otherwise be refused, and views saved with all of their storage.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    text = json.dumps(head.model_dump())
    write_atomically(path, save(tensors, metadata={_METADATA: text}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint into CPU memory.

    Its JSON follows its schema, and all tensors are there that it was saved with; who uses them checks that
    they fit (`load_weights`, `models.training.state`).

    Raises:
        UserError: the file is missing, damaged, not a checkpoint of lrm-kit or of another format.
    """
    if not has_file(path):
        raise UserError("there is no checkpoint", where=str(path), fix="train first, or check the path")
    try:
        with told(path, "cannot read"), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _METADATA not in metadata:
                raise UserError("this is not a checkpoint of lrm-kit", where=str(path), fix=RESTORE)
            head = _head(metadata[_METADATA], path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, ValueError) as error:
        raise UserError(f"the checkpoint cannot be read: {error}", where=str(path), fix=RESTORE) from None
    missing = sorted(set(head.tensors or ()) - tensors.keys())
    raise_for_problems([f"{name} is missing" for name in missing], DAMAGED, path)
    return Checkpoint(
        config=head.config,
        dataset=head.dataset,
        progress=head.progress,
        model=_named(tensors, "model."),
        optimizer=_optimizer_state(tensors, head.param_groups, path),
        random=_named(tensors, "random."),
    )


def position_in(checkpoint: Checkpoint, path: Path) -> Position:
    """Where the training stood.

    Raises:
        UserError: the checkpoint does not say.
    """
    return check_record(Position, checkpoint.progress, "the checkpoint", where=str(path), fix=RESTORE)


def load_weights(module: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Copy saved weights into a module; what it had in former versions and has no more is left out.

    Raises:
        UserError: they do not fit; see `check_weights`.
    """
    check_weights(module, weights, path)
    module.load_state_dict(without_former(module, weights))


def check_weights(
    module: torch.nn.Module,
    weights: dict[str, torch.Tensor],
    path: Path,
    rows: Mapping[str, int] | None = None,
) -> None:
    """Check that saved weights are those of a module.

    Args:
        module: it need not have them yet.
        weights: by name.
        path: the checkpoint's file, for the error.
        rows: of tensors that are whole in a checkpoint, while the module has a part of their rows.

    Raises:
        UserError: names, shapes or types differ, or a weight is not a finite number; says which.
    """
    expected = {name: expected_like(own, (rows or {}).get(name)) for name, own in module.state_dict().items()}
    check_tensors(without_former(module, weights), expected, "this model", path)


def check_same(
    checkpoint: Checkpoint, config: dict[str, Any], dataset: dict[str, Any], free: set[str], path: Path
) -> None:
    """Check that a checkpoint was made with these settings on this data.

    Args:
        checkpoint: the one to go on from.
        config: settings now.
        dataset: data set now.
        free: dotted keys of settings that may differ.
        path: the checkpoint's file, for the error.

    Raises:
        UserError: says what differs.
    """
    found = {**_flat(checkpoint.config), **_flat(checkpoint.dataset, "data set ")}
    wanted = {**_flat(config), **_flat(dataset, "data set ")}
    problems = [
        f"{key} was {found.get(key)!r} and is now {wanted.get(key)!r}"
        for key in {**found, **wanted}
        if key not in free and found.get(key) != wanted.get(key)
    ]
    if problems:
        raise UserError(
            "the checkpoint is of another run: " + "; ".join(problems), where=str(path), fix=START_AGAIN
        )


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of torch's random generators: the CPU's, and that of a GPU which is trained on."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states[str(device).replace(":", ".")] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, torch.Tensor], device: torch.device, path: Path) -> None:
    """Put the generators back; the state of another device is left out.

    Raises:
        UserError: a state is missing, or is none.
    """
    on_device = str(device).replace(":", ".")
    own = {name: state for name, state in states.items() if name in ("cpu", on_device)}
    sizes = random_state(torch.device("cpu"))
    if on_device in own and device.type == "cuda":
        sizes[on_device] = torch.cuda.get_rng_state(device)
    expected = {name: expected_like(state) for name, state in sizes.items()}
    check_tensors(own, expected, "the generator", path, prefix="random.", misfit=DAMAGED)
    try:
        torch.set_rng_state(own["cpu"])
        if on_device != "cpu" and on_device in own:
            torch.cuda.set_rng_state(own[on_device], device)
    except (RuntimeError, TypeError) as error:
        how = f"random: {error}".splitlines()[0]
        raise damaged("the checkpoint", how, where=str(path), fix=RESTORE) from None


def _head(text: str, path: Path) -> CheckpointHead:
    found = parse_json(text, "the checkpoint", where=str(path), fix=RESTORE)
    if isinstance(found, dict):
        if found.get("format") != CHECKPOINT_FORMAT:
            raise UserError("this is not a checkpoint of lrm-kit", where=str(path), fix=RESTORE)
        check_version(found, CHECKPOINT_FORMAT_VERSION, "the checkpoint", where=str(path))
    return check_record(CheckpointHead, found, "the checkpoint", where=str(path), fix=RESTORE)


def _named(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer_state(
    tensors: dict[str, torch.Tensor], groups: list[dict[str, Any]] | None, path: Path
) -> dict[str, Any] | None:
    if groups is None:
        return None
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in _named(tensors, "optimizer.").items():
        number, _, name = key.partition(".")
        if not (number.isascii() and number.isdigit() and len(number) < 10 and name):
            raise_for_problems([f"optimizer.{key} is of no parameter"], DAMAGED, path)
        state.setdefault(int(number), {})[name] = tensor
    return {"state": state, "param_groups": groups}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
