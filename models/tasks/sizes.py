"""Parameters of a model apart: tables that are looked up, and what computes."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from models.backbones.backbone import Backbone
from models.distributed.tables import count_parameters
from models.layers.roles import Role, roles_of

_TABLES = (Role.ITEM_TABLE, Role.FEATURE_TABLE, Role.EMBEDDING)


class Parameters(NamedTuple):
    """How many there are. Laws of size are about the backbone's: tables grow with the catalog (Kaplan et al.
    2020 count them apart for that reason)."""

    embedding: int
    """Tables of items, features, behaviors, positions and so on, rows of other processes included."""
    backbone: int
    """All that is in the blocks, tables of their attention biases included."""
    other: int
    """The rest: fusions, heads, logits."""

    @property
    def total(self) -> int:
        return self.embedding + self.backbone + self.other


def parameters_of(model: nn.Module) -> Parameters:
    """Parameters of a model by what they are."""
    backbones = [part for part in model.modules() if isinstance(part, Backbone)]
    within = {id(each): each for backbone in backbones for each in backbone.parameters()}
    roles = roles_of(model)
    others = [
        parameter for parameter, role in roles.items() if id(parameter) not in within and role not in _TABLES
    ]
    backbone = sum(parameter.numel() for parameter in within.values())
    other = sum(parameter.numel() for parameter in others)
    return Parameters(count_parameters(model) - backbone - other, backbone, other)
