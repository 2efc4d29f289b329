"""The optimizers, and which parameters each of them gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from models.distributed.sharding import ShardedEmbedding
from models.optim.config import OptimizerConfig
from models.optim.rowwise_adagrad import RowwiseAdagrad


class OptimizerSet:
    """One or several optimizers over different parameters, used as one.

    State dicts are those of a single optimizer with all parameter groups: parameters are numbered through.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.highest: list[float] = [group["lr"] for group in self.param_groups]
        """Learning rate of each group that the schedule scales."""
        self.rates = list(self.highest)
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
        """Set every group's learning rate to `factor` times its highest."""
        self._set_rates([highest * factor for highest in self.highest])

    def keep_rates_on(self, device: torch.device) -> None:
        """Hold learning rates in tensors, of which a recorded step reads what they are when replayed."""
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
        """While a CUDA graph is recorded; AdamW takes no step in it otherwise."""
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


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> OptimizerSet:
    """The optimizers of a module's parameters: fused AdamW, and what `item_table` says for item tables."""
    tables = item_tables(module) if config.item_table == "rowwise_adagrad" else []
    chosen = {id(table) for table in tables}
    dense = [parameter for parameter in module.parameters() if id(parameter) not in chosen]
    adamw = torch.optim.AdamW(
        _decay_groups(config, module, dense),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )
    if not tables:
        return OptimizerSet(adamw)
    rowwise = RowwiseAdagrad(
        tables,
        lr=config.item_learning_rate or config.learning_rate,
        weight_decay=config.weight_decay if config.decay_on == "all" else 0.0,
    )
    return OptimizerSet(adamw, rowwise)


def item_tables(module: nn.Module) -> list[nn.Parameter]:
    """The embedding tables of items and of item features, each once: those that grow with the catalog."""

    def is_item_table(name: str, part: nn.Module) -> bool:
        named = f".{name}.".endswith(".embedding.item.") or ".embedding.features." in f".{name}."
        return named and isinstance(part, nn.Embedding | nn.EmbeddingBag | ShardedEmbedding)

    return _weights_of(module, is_item_table)


def _decay_groups(config: OptimizerConfig, module: nn.Module, dense: list[nn.Parameter]) -> list[Any]:
    if config.decay_on == "all" or config.weight_decay == 0.0:
        return dense
    linear = {id(weight) for weight in _weights_of(module, lambda _, part: isinstance(part, nn.Linear))}
    return [
        {"params": [parameter for parameter in dense if id(parameter) in linear]},
        {"params": [parameter for parameter in dense if id(parameter) not in linear], "weight_decay": 0.0},
    ]


def _weights_of(module: nn.Module, chosen: Callable[[str, nn.Module], bool]) -> list[nn.Parameter]:
    found: Iterable[Any] = (part.weight for name, part in module.named_modules() if chosen(name, part))
    return list({id(weight): weight for weight in found}.values())


def _count(optimizer: torch.optim.Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)
