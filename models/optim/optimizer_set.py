"""Several optimizers used as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class OptimizerSet:
    """One or several optimizers over different parameters, used as one.

    State dicts are those of a single optimizer with all parameter groups: parameters are numbered through.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.peak: list[float] = [group["lr"] for group in self.param_groups]
        """Peak learning rate of each group, which the schedule scales."""
        self.rates = list(self.peak)
        """Learning rate of each group, now."""
        self._on_device: list[torch.Tensor] = []

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers, in order."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order in which state dicts number them."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @property
    def learning_rate(self) -> float:
        """The rate of the first group, now."""
        return self.rates[0]

    def scale_learning_rates(self, factor: float) -> None:
        """Set every group's learning rate to `factor` times its peak."""
        self._set_rates([peak * factor for peak in self.peak])

    def keep_rates_on(self, device: torch.device) -> None:
        """Hold learning rates in tensors, which a captured step reads when its CUDA graph is replayed."""
        self._on_device = [torch.tensor(rate, device=device) for rate in self.rates]
        self._set_rates(self.rates)

    def _set_rates(self, rates: list[float]) -> None:
        self.rates = rates
        held: Iterable[Any] = rates
        if self._on_device:
            held = [tensor.fill_(rate) for tensor, rate in zip(self._on_device, rates, strict=True)]
        for group, rate in zip(self.param_groups, held, strict=True):
            group["lr"] = rate

    @contextmanager
    def capturable(self) -> Iterator[None]:
        """During the capture of a CUDA graph; AdamW takes no step in it otherwise."""
        groups = [group for group in self.param_groups if "capturable" in group]
        for group in groups:
            group["capturable"] = True
        try:
            yield
        finally:
            for group in groups:
                group["capturable"] = False

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        rates = iter(self.rates)
        begin = 0
        for optimizer in self.optimizers:
            own = optimizer.state_dict()
            state |= {begin + number: values for number, values in own["state"].items()}
            groups += [
                group | {"lr": next(rates), "params": [begin + number for number in group["params"]]}
                for group in own["param_groups"]
            ]
            begin += _count(optimizer)
        return {"state": state, "param_groups": groups}

    def state_shapes(self, shapes: Sequence[torch.Size]) -> list[dict[str, torch.Size]]:
        """Names and shapes of the state of each parameter once it has taken a step, all float32.

        Args:
            shapes: of the parameters, in the order in which state dicts number them.
        """
        found: list[dict[str, torch.Size]] = []
        for optimizer in self.optimizers:
            of_shape = getattr(optimizer, "state_shapes", _adam_shapes)
            found += [of_shape(shape) for shape in shapes[len(found) :][: _count(optimizer)]]
        return found

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        begin, groups = 0, list(saved["param_groups"])
        for optimizer in self.optimizers:
            count, own = _count(optimizer), groups[: len(optimizer.param_groups)]
            groups = groups[len(own) :]
            optimizer.load_state_dict(
                {
                    "state": {
                        number - begin: values
                        for number, values in saved["state"].items()
                        if begin <= number < begin + count
                    },
                    "param_groups": [
                        group | {"params": [number - begin for number in group["params"]]} for group in own
                    ],
                }
            )
            begin += count
        self._set_rates([group["lr"] for group in saved["param_groups"]])


def _adam_shapes(shape: torch.Size) -> dict[str, torch.Size]:
    return {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}


def _count(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)
