"""Roles of parameters: what each of them is, said by the module that has it.

A module names its parameters' roles in `parameter_roles`, by names relative to itself:

    class Scale(nn.Module):
        parameter_roles = {"gain": Role.VECTOR}

Linear layers, norms and embeddings of torch need not be named. A module may name parameters of its children;
the outermost module that names one decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from torch import nn


class Role(Enum):
    """What a parameter is; optimizer settings are by role."""

    ITEM_TABLE = "item table"
    """[item ids, dim] embedding table of items: grows with the catalog."""
    FEATURE_TABLE = "feature table"
    """[values, dim] embedding table of an item feature: grows with its vocabulary."""
    EMBEDDING = "embedding"
    """Any other table: positions, behaviors, relative attention biases."""
    LOGIT = "logit"
    """Constant or table that is added to logits as it is: of history, jump and trend logits."""
    MATRIX = "matrix"
    """[out, in] weight of a linear map."""
    VECTOR = "vector"
    """Bias of a linear map, gain or bias of a norm, or another parameter of few numbers."""


_OF_TORCH: list[tuple[type[nn.Module], dict[str, Role]]] = [
    (nn.Linear, {"weight": Role.MATRIX, "bias": Role.VECTOR}),
    (nn.LayerNorm, {"weight": Role.VECTOR, "bias": Role.VECTOR}),
    (nn.RMSNorm, {"weight": Role.VECTOR}),
    (nn.Embedding, {"weight": Role.EMBEDDING}),
    (nn.EmbeddingBag, {"weight": Role.EMBEDDING}),
]


def roles_of(module: nn.Module) -> dict[nn.Parameter, Role]:
    """The role of each parameter, in the order of `module.parameters()`.

    Raises:
        TypeError: a parameter has no role, or is shared under names with different ones.
    """
    declared = _declared(module)
    roles: dict[nn.Parameter, Role] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name not in declared:
            raise TypeError(f"parameter {name} has no role: its module has to name it in `parameter_roles`")
        if roles.setdefault(parameter, declared[name]) is not declared[name]:
            raise TypeError(f"parameter {name} is shared, and is {roles[parameter]} by another name")
    return roles


def _declared(module: nn.Module) -> dict[str, Role]:
    """Roles by the parameters' full names; modules come before their children."""
    declared: dict[str, Role] = {}
    for prefix, part in module.named_modules():
        for name, role in _roles_named_by(part).items():
            declared.setdefault(f"{prefix}.{name}" if prefix else name, role)
    return declared


def _roles_named_by(part: nn.Module) -> Mapping[str, Role]:
    known: dict[str, Role] = {}
    for kind, roles in _OF_TORCH:
        if isinstance(part, kind):
            known |= roles
    return known | getattr(type(part), "parameter_roles", {})
