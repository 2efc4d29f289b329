"""Which optimizer each parameter gets, by its role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from behavior.errors import UserError
from models.distributed.tables import item_tables
from models.layers.roles import Role, roles_of
from models.layers.transfer import Factors
from models.layers.transferred import factors_of
from models.optim.by_rows import SparseAdam, SparseRowwiseAdagrad
from models.optim.config import OptimizerConfig
from models.optim.optimizer_set import OptimizerSet
from models.optim.rowwise_adagrad import RowwiseAdagrad

Roles = Mapping[nn.Parameter, Role]

_TABLES = (Role.ITEM_TABLE, Role.FEATURE_TABLE)


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> OptimizerSet:
    """Fused AdamW, and beside it what `item_table` says for the tables of items and item features.

    With `model.transfer`, parameters of blocks have learning rates of their own (`models.layers.transfer`).

    State dicts number AdamW's parameters first, in the order of `module.parameters()` (with `decay_on=linear`
    those that decay before the others; then items with an `item_weight_decay`, and those with a
    `logit_learning_rate`), then the tables.

    Raises:
        UserError: a setting is for parameters that the module has none of.
    """
    roles = roles_of(module)
    factors = factors_of(module, roles)
    if config.item_table == "adamw":
        if config.item_learning_rate is not None:
            raise UserError(
                "with AdamW for all parameters none has a learning rate of its own",
                where=f"optimizer.item_learning_rate = {config.item_learning_rate}",
                fix="set optimizer.item_table=rowwise_adagrad, or leave item_learning_rate out",
            )
        return OptimizerSet(_adamw(config, roles, factors))
    if config.has_sparse_items:
        return _with_sparse_items(config, module, roles, factors)
    tables = _having(roles, _TABLES, f"item_table = {config.item_table}")
    others = {parameter: role for parameter, role in roles.items() if role not in _TABLES}
    rowwise = RowwiseAdagrad(
        _with_item_decay(config, tables, roles),
        lr=config.item_learning_rate or config.learning_rate,
        weight_decay=config.weight_decay if config.decay_on == "all" else 0.0,
    )
    return OptimizerSet(_adamw(config, others, factors), rowwise)


def _with_sparse_items(
    config: OptimizerConfig, module: nn.Module, roles: Roles, factors: Mapping[nn.Parameter, Factors]
) -> OptimizerSet:
    """AdamW, beside sparse row-wise Adagrad the dense one for item features, and item tables by rows."""
    setting = f"item_table = {config.item_table}"
    items = [one for one in _having(roles, (Role.ITEM_TABLE,), setting) if one.requires_grad]
    tables = [table for table in item_tables(module) if table.weight in set(items)]
    if not tables or len(tables) != len(items):
        raise UserError(
            "this model trains no item table that keeps gradients by row",
            where=f"optimizer.{setting}",
            fix="set optimizer.item_table=adamw, or make the table with the task's make_items",
        )
    adagrad = config.item_table == "sparse_rowwise_adagrad"
    features = [one for one, role in roles.items() if role is Role.FEATURE_TABLE and adagrad]
    rate = config.item_learning_rate or config.learning_rate
    decay = config.weight_decay if config.decay_on == "all" else 0.0
    own = decay if config.item_weight_decay is None else config.item_weight_decay
    left = {
        one: role for one, role in roles.items() if role is not Role.ITEM_TABLE and one not in set(features)
    }
    made: list[torch.optim.Optimizer] = [_adamw(config, left, factors)]
    if features:
        made.append(RowwiseAdagrad(features, lr=rate, weight_decay=decay))
    decays = [own] * len(tables)
    made.append(
        SparseRowwiseAdagrad(tables, decays, lr=rate)
        if adagrad
        else SparseAdam(tables, decays, lr=rate, betas=config.betas)
    )
    return OptimizerSet(*made)


def _adamw(
    config: OptimizerConfig, roles: Roles, factors: Mapping[nn.Parameter, Factors]
) -> torch.optim.Optimizer:
    groups = _decay_groups(config, roles)
    return torch.optim.AdamW(
        _by_factors(config, _grouped(groups), factors) if factors else groups,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


_EPS = 1e-8
"""AdamW's epsilon."""


def _by_factors(
    config: OptimizerConfig, groups: list[Any], factors: Mapping[nn.Parameter, Factors]
) -> list[Any]:
    """Groups divided by what learning rates and the like are multiplied by, in each the order as it was."""
    found: list[Any] = []
    for group in groups:
        parts: dict[Factors, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(factors.get(parameter, Factors()), []).append(parameter)
        for (rate, decay, eps), parameters in parts.items():
            changed = {
                "params": parameters,
                "lr": rate * group.get("lr", config.learning_rate),
                "weight_decay": decay * group.get("weight_decay", config.weight_decay),
                "eps": _EPS * eps,
            }
            found.append(group | changed)
    return found


def _with_item_decay(config: OptimizerConfig, tables: list[nn.Parameter], roles: Roles) -> list[Any]:
    """Tables, in groups where those of items decay otherwise."""
    if config.item_weight_decay is None:
        return tables
    items = [table for table in tables if roles[table] is Role.ITEM_TABLE]
    others = [table for table in tables if roles[table] is not Role.ITEM_TABLE]
    apart = {"params": items, "weight_decay": config.item_weight_decay}
    return [{"params": others}, apart] if others else [apart]


def _decay_groups(config: OptimizerConfig, roles: Roles) -> list[Any]:
    if config.item_weight_decay is None or config.item_table != "adamw":
        return _logits_apart(config, roles, [])
    setting = f"item_weight_decay = {config.item_weight_decay}"
    items = _having(roles, (Role.ITEM_TABLE,), setting)
    others = {one: role for one, role in roles.items() if role is not Role.ITEM_TABLE}
    return _logits_apart(config, others, [{"params": items, "weight_decay": config.item_weight_decay}])


def _logits_apart(config: OptimizerConfig, roles: Roles, then: list[Any]) -> list[Any]:
    """Groups by decay, then some others, and last those that learn at the rate of logits."""
    if config.logit_learning_rate is None:
        return [*_grouped(_by_decay(config, roles)), *then] if then else _by_decay(config, roles)
    setting = f"logit_learning_rate = {config.logit_learning_rate}"
    apart = {"params": _having(roles, (Role.LOGIT,), setting), "lr": config.logit_learning_rate}
    if config.decay_on == "linear":
        apart["weight_decay"] = 0.0
    groups = _by_decay(config, {one: role for one, role in roles.items() if role is not Role.LOGIT})
    return [*_grouped(groups), *then, apart]


def _grouped(groups: list[Any]) -> list[Any]:
    """Parameters that are in no group, in one."""
    return groups if isinstance(groups[0], dict) else [{"params": groups}]


def _by_decay(config: OptimizerConfig, roles: Roles) -> list[Any]:
    if config.decay_on == "all" or config.weight_decay == 0.0:
        return list(roles)
    matrices = _having(roles, (Role.MATRIX,), f"decay_on = {config.decay_on}")
    others = [parameter for parameter, role in roles.items() if role is not Role.MATRIX]
    return [{"params": matrices}, {"params": others, "weight_decay": 0.0}]


def _made_by(wanted: Collection[Role]) -> str:
    return ", or set loss.history, loss.jumps or loss.trends to learned" if Role.LOGIT in wanted else ""


def _having(roles: Roles, wanted: Collection[Role], setting: str) -> list[nn.Parameter]:
    """The parameters of some roles, of which there has to be one."""
    found = [parameter for parameter, role in roles.items() if role in wanted]
    if not found:
        there = ", ".join(f"{role.value} ({count})" for role, count in Counter(roles.values()).items())
        raise UserError(
            f"no parameter of this model is {' or '.join(f'{role.value}' for role in wanted)}",
            where=f"optimizer.{setting}",
            fix=f"leave the setting out{_made_by(wanted)}; the model's parameters are: {there or 'none'}",
        )
    return found
