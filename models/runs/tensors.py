"""Checks of the tensors of a checkpoint against what they are for: names, shapes, types, finite numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from behavior.errors import UserError

DAMAGED = "the checkpoint is damaged"
OF_ANOTHER_MODEL = "the checkpoint is of another architecture"
START_AGAIN = "use the settings and data of that run, or train into another folder"
RESTORE = "bring the checkpoint back from a copy, use the run's other one, or train again"
_MOST_TOLD = 3


class Expected(NamedTuple):
    """What a tensor has to be."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def expected_like(tensor: Tensor, rows: int | None = None) -> Expected:
    """The same as a tensor; with `rows`, as many of them."""
    shape = tuple(tensor.shape)
    return Expected(shape if rows is None else (rows, *shape[1:]), tensor.dtype)


def check_tensors(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Expected],
    what: str,
    path: Path,
    *,
    prefix: str = "",
    misfit: str = OF_ANOTHER_MODEL,
) -> None:
    """Check tensors against what they are for.

    Args:
        found: tensors by name.
        expected: what each has to be, by name; there are no others.
        what: has the expected ones: `this model`, say.
        path: of the checkpoint, for the error.
        prefix: of names, in messages.
        misfit: what is wrong where names or shapes differ.

    Raises:
        UserError: names, shapes or types differ, or there are values that are no finite numbers; it tells the
            first few.
    """
    problems = [f"{prefix}{name} is missing" for name in expected if name not in found]
    for name, tensor in found.items():
        want = expected.get(name)
        if want is None:
            problems.append(f"{prefix}{name} is not part of {what}")
        elif tuple(tensor.shape) != want.shape:
            problems.append(f"{prefix}{name} is {list(tensor.shape)}, {what} has {list(want.shape)}")
    raise_for_problems(problems, misfit, path)
    for name, tensor in found.items():
        want = expected[name]
        if tensor.dtype != want.dtype:
            problems.append(f"{prefix}{name} is {_name(tensor.dtype)}, {what} has {_name(want.dtype)}")
        elif not _is_finite(tensor):
            problems.append(f"{prefix}{name} has values that are no finite numbers")
    raise_for_problems(problems, DAMAGED, path)


def raise_for_problems(problems: Sequence[str], misfit: str, path: Path) -> None:
    """Raise UserError where there are problems; it tells the first of them."""
    if problems:
        more = f" (and {len(problems) - _MOST_TOLD} more)" if len(problems) > _MOST_TOLD else ""
        fix = START_AGAIN if misfit == OF_ANOTHER_MODEL else RESTORE
        raise UserError(f"{misfit}: {'; '.join(problems[:_MOST_TOLD])}{more}", where=str(path), fix=fix)


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    # The largest magnitude, without a temporary of a table's size.
    return bool(torch.linalg.vector_norm(tensor, ord=math.inf).isfinite())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
