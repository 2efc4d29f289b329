"""Where a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import torch

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.runtime.cores import usable_cores
from models.gpu.config import DeviceName
from models.gpu.precision import pick_precision

DEVICES: tuple[str, ...] = get_args(DeviceName)


def pick_device(name: DeviceName) -> torch.device:
    """The device of a setting; `auto` is a GPU where there is one.

    Raises:
        UserError: a GPU was asked for and there is none, or something else.
    """
    if name not in DEVICES:
        raise UserError(
            f"there is no device '{name}'", where=f"device = {name}", fix=did_you_mean(name, DEVICES)
        )
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("there is no CUDA device here", where="device = cuda", fix="use cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On the CPU, have torch add gradients in a fixed order, which several threads otherwise do not."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def device_facts() -> dict[str, Any]:
    """Usable CPU cores, threads that torch uses, the names of all CUDA devices, and the precision that
    `train.precision=auto` is here, as plain values."""
    cards = []
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "cores": usable_cores(),
        "torch_threads": torch.get_num_threads(),
        "cuda": cards,
        "precision": pick_precision("auto", pick_device("auto")),
    }
