"""Grids: which sizes of which backbones are trained on how much data, and by which learning rates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from behavior.config import Config, parse_config
from behavior.errors import UserError
from behavior.problems import first_problem
from models.config import RunConfig
from models.experiments.table import AblationTable, Settings
from models.recipes import load_yaml, packaged_yaml

Counts = list[Annotated[int, Field(ge=1)]]
Shares = list[Annotated[float, Field(gt=0.0, le=1.0)]]
Rate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class RateRule(Config):
    """Which learning rate each size has. One rate for all sizes would compare how well it suits each."""

    rates: list[Rate] = Field(
        min_length=1, description="rates that are tried, with the first seed and length and the most data"
    )
    rule: Literal["each", "transfer"] = Field(
        "each",
        description="each: every size tries all rates and keeps the best by validation; transfer: the "
        "smallest sizes of each backbone do, and the others follow rate = c * width^width_power * "
        "blocks^depth_power",
    )
    blocks: int = Field(2, ge=1, description="transfer: of so many of the smallest numbers of blocks")
    widths: int = Field(2, ge=1, description="transfer: of so many of the smallest widths")
    width_power: float | None = Field(
        None,
        description="transfer: power of the width; null: fitted to the best rates by least squares, -1 to 0",
    )
    depth_power: float | None = Field(
        None, description="transfer: power of the number of blocks; null: fitted likewise"
    )
    widen: int = Field(
        2,
        ge=0,
        description="rates that a size may try beyond the lowest or the highest, one after the other, as "
        "long as the outermost is its best",
    )


AXES = ("blocks", "widths", "shapes", "lengths", "data", "seeds")
Shapes = list[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]]


class Axes(Config):
    """Sizes of one backbone: every combination is trained. What is left out is as in the grid."""

    blocks: Counts = Field([], description="numbers of blocks; left out: the recipe's")
    widths: Counts = Field([], description="widths (model.dim); left out: the recipe's")
    shapes: Shapes = Field(
        [], description="pairs of blocks and width, instead of every combination of blocks and widths"
    )
    lengths: Counts = Field([], description="maximum history lengths, in events; left out: the recipe's")
    data: Shares = Field([1.0], min_length=1, description="fractions of the training part (data.fraction)")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1, description="random seeds")

    def pairs(self) -> list[tuple[int | None, int | None]]:
        """Blocks and width of each shape; None: the recipe's."""
        blocks: list[int | None] = [*self.blocks] or [None]
        widths: list[int | None] = [*self.widths] or [None]
        return [*(self.shapes or itertools.product(blocks, widths))]


class ScaleGrid(Axes):
    """A grid of runs: backbones x blocks x widths x lengths x fractions of the data x seeds."""

    title: str = Field("", description="what the grid shows")
    recipe: str = Field("default", description="recipe that all runs start from: a name, or a YAML file")
    set: Settings = Field({}, description="settings of all runs, such as train.epochs: 50")
    backbones: dict[str, Settings] = Field(
        min_length=1,
        description="name: the settings in which it differs, a recipe among them, and sizes of its own "
        "(blocks, widths, lengths, data, seeds)",
    )
    data_by: Literal["users", "time"] = Field(
        "users", description="what a fraction of the data is measured by (data.fraction_by)"
    )
    learning_rate: RateRule | None = Field(
        None, description="a learning rate for each size; null: that of the recipe for all"
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_the_recipe(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("backbones"), dict):
            named = {name: own or {} for name, own in data["backbones"].items()}
            return {**data, "backbones": named}
        return data

    @model_validator(mode="after")
    def _sizes_are_sizes(self) -> ScaleGrid:
        for name in self.backbones:
            try:
                self.axes(name)
            except ValidationError as error:
                raise ValueError(f"backbone '{name}': {first_problem(error)}") from None
        return self

    def axes(self, backbone: str) -> Axes:
        """The sizes of a backbone."""
        own = {key: value for key, value in self.backbones[backbone].items() if key in AXES}
        shared = {name: getattr(self, name) for name in AXES}
        if "shapes" in own:
            shared |= {"blocks": [], "widths": []}
        elif own.keys() & {"blocks", "widths"}:
            shared |= {"shapes": []}
        return Axes(**{**shared, **own})

    def sizes(self) -> list[Size]:
        """Every size, the backbones in order."""
        return [size for backbone in self.backbones for size in self._sizes_of(backbone)]

    def _sizes_of(self, backbone: str) -> Iterator[Size]:
        axes = self.axes(backbone)
        lengths: list[int | None] = [*axes.lengths] or [None]
        combined = itertools.product(axes.pairs(), lengths, axes.data, axes.seeds)
        for (depth, width), length, data, seed in combined:
            yield Size(backbone, depth, width, length, data, seed)

    def config(self, size: Size, rate: float | None = None) -> RunConfig:
        """All settings of a run.

        Args:
            size: of it.
            rate: its learning rate; None: that of the recipe.

        Raises:
            UserError: a setting is not known or does not fit.
        """
        table = AblationTable(recipe=self.recipe, set=self.set, rows={size.backbone: {}})
        try:
            return table.config(self.settings(size, rate), size.seed, [])
        except UserError as error:
            where = f"the grid's line '{size.label}'" + (f", {error.where}" if error.where else "")
            raise type(error)(error.what, where=where, fix=error.fix) from None

    def settings(self, size: Size, rate: float | None) -> Settings:
        """The settings in which a run differs from its recipe."""
        own = {key: value for key, value in self.backbones[size.backbone].items() if key not in AXES}
        fraction = {} if size.data == 1.0 else {"data.fraction": size.data, "data.fraction_by": self.data_by}
        chosen = {
            "model.blocks": size.blocks,
            "model.dim": size.width,
            "model.max_length": size.length,
            "optimizer.learning_rate": rate,
        }
        given = {key: value for key, value in chosen.items() if value is not None}
        return {**self.set, **own, **given, **fraction}


@dataclass(frozen=True, order=True)
class Size:
    """What distinguishes the runs of a grid, but for the learning rate; None: as the recipe says."""

    backbone: str
    blocks: int | None
    width: int | None
    length: int | None
    data: float
    seed: int

    @property
    def label(self) -> str:
        """In words."""
        named = {"blocks": self.blocks, "width": self.width, "length": self.length}
        parts = [self.backbone, *(f"{name} {value}" for name, value in named.items() if value is not None)]
        return ", ".join([*parts, *([] if self.data == 1.0 else [f"data {self.data:g}"])])

    def line(self, rate: float | None) -> str:
        """A run of this size, by its learning rate where it is not the recipe's."""
        return self.label if rate is None else f"{self.label}, rate {rate:g}"

    @property
    def shape(self) -> tuple[str, int | None, int | None]:
        """What a learning rate is for: backbone, blocks and width."""
        return self.backbone, self.blocks, self.width


def grid_names() -> list[str]:
    """Names of the grids that ship with the package, such as `ml-1m/depth-width`."""
    return sorted(packaged_yaml("scaling/grids"))


def load_grid(name: str | Path) -> ScaleGrid:
    """A grid that ships with the package, by name, or a YAML file.

    Raises:
        UserError: there is neither (names the nearest grid), or it is not a grid.
    """
    return parse_config(ScaleGrid, load_yaml(name, "scaling/grids", what="grid"), where=f"grid {name}")
