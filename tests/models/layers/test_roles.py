"""Every parameter of every model has one role, and optimizers number parameters as they always did."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from behavior.errors import UserError
from models.backbones import build_backbone
from models.backbones.config import BackboneConfig
from models.backbones.kinds import BACKBONES
from models.distributed.tables import ItemTable
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.layers.kinds import BiasSetting, FeedForwardKind, NormKind, ResidualKind
from models.layers.roles import Role, roles_of
from models.optim import OptimizerConfig, build_optimizer
from tests.models.inputs.test_embedding import make_catalog


def model_of(embedding: EmbeddingConfig | None = None, **backbone: object) -> nn.Module:
    """An embedding and a backbone, under the names that they have in a model."""
    config = BackboneConfig(dim=8, heads=2, blocks=2, **backbone)  # type: ignore[arg-type]
    model = nn.Module()
    model.embedding = InputEmbedding(
        embedding or EmbeddingConfig(), make_catalog(), num_behaviors=2, dim=8, max_length=6, dropout=0.0
    )
    model.backbone = build_backbone(config, max_length=6)
    return model


def role_by_name(name: str, parameter: nn.Parameter) -> Role:
    """By the names that parameters have today, and by their shapes."""
    if name == "embedding.item.weight":
        return Role.ITEM_TABLE
    if name.startswith("embedding.features.") and name.endswith(".table.weight"):
        return Role.FEATURE_TABLE
    tables = ("position", "time", "behavior.weight")
    if name.startswith("embedding.position") or name.endswith(tables):
        return Role.EMBEDDING
    return Role.MATRIX if parameter.dim() == 2 else Role.VECTOR


def check(model: nn.Module) -> set[Role]:
    roles = roles_of(model)
    assert list(map(id, roles)) == [id(parameter) for parameter in model.parameters()]
    for name, parameter in model.named_parameters():
        assert roles[parameter] is role_by_name(name, parameter), name
    return set(roles.values())


def test_all_backbones_and_their_settings() -> None:
    """Each setting in turn; what one backbone refuses another one takes."""
    values = {
        "activation": ("silu", "softmax"),
        "attention_norm": get_args(NormKind),
        "bias": get_args(BiasSetting),
        "bias_tables": ("shared", "per_head"),
        "feed_forward": get_args(FeedForwardKind),
        "final_norm": (False, True),
        "gate": (False, True),
        "norm": get_args(NormKind),
        "pointwise": (False, True),
        "residual": get_args(ResidualKind),
    }
    every = {(name, value) for name, choices in values.items() for value in choices}
    checked = set()
    for kind in BACKBONES:
        check(model_of(kind=kind))
        for name, value in every:
            try:
                model = model_of(kind=kind, **{name: value})
            except (ValueError, UserError):
                continue
            check(model)
            checked.add((name, value))
    assert checked == every


def test_all_inputs() -> None:
    """Of a catalog with a feature of each kind."""
    config = EmbeddingConfig(behaviors="add", query_behavior="add", features="mean")
    assert check(model_of(config)) == set(Role) - {Role.LOGIT}  # those are of the losses


@pytest.mark.parametrize("decay_on", ["all", "linear"])
@pytest.mark.parametrize("item_table", ["adamw", "rowwise_adagrad"])
def test_optimizers_number_parameters_as_saved_states_do(item_table: str, decay_on: str) -> None:
    """States of before say nothing of names: the order is that of module paths and types."""
    model = model_of(EmbeddingConfig(features="add", behaviors="add"), kind="hstu")
    config = OptimizerConfig(item_table=item_table, decay_on=decay_on, weight_decay=0.1)  # type: ignore[arg-type]
    tables, matrices = [], []
    for name, part in model.named_modules():
        by_name = f".{name}.".endswith(".embedding.item.") or ".embedding.features." in f".{name}."
        if by_name and isinstance(part, nn.Embedding | nn.EmbeddingBag | ItemTable):
            tables.append(id(part.weight))
        if isinstance(part, nn.Linear):
            matrices.append(id(part.weight))
    assert len(tables) > 2
    if item_table == "adamw":
        tables = []
    wanted = [id(parameter) for parameter in model.parameters() if id(parameter) not in tables]
    if decay_on == "linear":
        wanted.sort(key=lambda one: one not in matrices)
    optimizer = build_optimizer(config, model)
    assert list(map(id, optimizer.parameters)) == wanted + tables
    groups = optimizer.state_dict()["param_groups"]
    assert [number for group in groups for number in group["params"]] == list(range(len(wanted + tables)))


class Renamed(nn.Module):
    """A parameter that nobody speaks of, one that its parent speaks of, and a shared one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))


def test_a_parameter_without_a_role_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"1\.scale has no role"):
        roles_of(nn.Sequential(nn.Linear(2, 2), Renamed()))


def test_the_outermost_module_decides() -> None:
    class Outer(nn.Module):
        parameter_roles = {"inner.scale": Role.VECTOR, "table.weight": Role.ITEM_TABLE}

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.table = Renamed(), nn.Embedding(3, 2)

    assert list(roles_of(nn.Sequential(Outer())).values()) == [Role.VECTOR, Role.ITEM_TABLE]


def test_a_shared_parameter_has_one_role() -> None:
    tied = nn.ModuleList([nn.Linear(2, 3, bias=False), nn.Linear(2, 3, bias=False)])
    tied[1].weight = tied[0].weight
    assert list(roles_of(tied).values()) == [Role.MATRIX]
    table = nn.Embedding(3, 2)
    table.weight = tied[0].weight
    with pytest.raises(TypeError, match="is shared"):
        roles_of(nn.ModuleList([tied, table]))
