"""Ablation tables: settings to be compared, line by line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from behavior.config import Config, parse_config
from models.config import RunConfig, load_config
from models.recipes import load_yaml, packaged_yaml

Settings = dict[str, Any]


class AblationTable(Config):
    """Lines to compare: named `rows`, a `grid` (a Cartesian product of settings), or a grid for each row."""

    title: str = Field("", description="what the table shows")
    recipe: str = Field(
        "default", description="recipe that all lines start from: a name, or the path of a YAML file"
    )
    set: Settings = Field({}, description="settings shared by all lines, such as train.epochs: 50")
    seeds: list[int] = Field(
        [0], min_length=1, description="random seeds; every line is trained once with each"
    )
    refit: bool = Field(
        False,
        description="whether every run is also refitted on training and validation events, as a line of its "
        "own",
    )
    rows: dict[str, Settings] = Field({}, description="name of a line: the settings in which it differs")
    grid: dict[str, list[Any]] = Field({}, description="setting: its values; a line for every combination")

    @field_validator("rows", mode="before")
    @classmethod
    def _empty_lines(cls, rows: Any) -> Any:
        # `name:` without settings is the recipe itself.
        return {name: line or {} for name, line in rows.items()} if isinstance(rows, dict) else rows

    @model_validator(mode="after")
    def _has_lines(self) -> AblationTable:
        if not self.rows and not self.grid:
            raise ValueError("a table has rows, or a grid, or both")
        empty = [setting for setting, values in self.grid.items() if not values]
        if empty:
            raise ValueError(f"grid: '{empty[0]}' has no values")
        return self

    def lines(self) -> dict[str, Settings]:
        """Name and settings of every line. With a grid, each row is a family of lines, one a combination."""
        combinations = [
            dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
        ]
        found = {}
        for name, settings in (self.rows or {"": {}}).items():
            for combination in combinations:
                parts = [name, *(f"{key.rpartition('.')[2]} {value}" for key, value in combination.items())]
                found[", ".join(part for part in parts if part)] = {**self.set, **settings, **combination}
        return found

    def config(self, settings: Settings, seed: int, overrides: list[str]) -> RunConfig:
        """The configuration of one run of a line.

        A line may name a recipe of its own, as the setting `recipe`.

        Raises:
            UserError: a setting is not known or does not fit.
        """
        shared: list[str] = []
        own: list[str] = []
        for key, value in settings.items():
            if key != "recipe":
                of_all = key in self.set and value == self.set[key]
                (shared if of_all else own).append(f"{key}={json.dumps(value)}")
        recipe = settings.get("recipe", self.recipe)
        return load_config(recipe, [*own, *overrides, f"train.seed={seed}"], shared=shared)


def check_tables(names: Sequence[str], overrides: Sequence[str] = ()) -> None:
    """Check the settings of all lines of some tables, without torch and before any data is read.

    Raises:
        UserError: a table or a setting is not known, or does not fit.
    """
    for name in names:
        table = load_table(name)
        for settings in table.lines().values():
            table.config(settings, 0, list(overrides))


def table_names() -> list[str]:
    """Names of the tables that ship with the package, such as `ml-1m/bias`."""
    return sorted(packaged_yaml("experiments/ablations"))


def load_table(name: str | Path) -> AblationTable:
    """A table that ships with the package, by name, or a YAML file.

    Raises:
        UserError: there is neither (names the nearest table), or it is not a table.
    """
    data = load_yaml(name, "experiments/ablations", what="table")
    return parse_config(AblationTable, data, where=f"table {name}")
