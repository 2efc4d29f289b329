"""What in a grid is wrong, before anything is planned: imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from behavior.errors import UserError
from models.scaling.grid import AXES, RateRule, ScaleGrid, Size


def check_grid(grid: ScaleGrid) -> None:
    """Check the settings of all runs, and that none of the grid's own changes nothing.

    Raises:
        UserError: a setting is not known, does not fit, or is another's; or two runs are the same.
    """
    check_settings(grid)
    seen: dict[str, Size] = {}
    for size in grid.sizes():
        config = grid.config(size).model_dump_json()
        if config in seen:
            raise UserError(
                f"'{size.label}' and '{seen[config].label}' are one run",
                where=f"the grid '{grid.title}'",
                fix="name each once, or settings in which they differ",
            )
        seen[config] = size


_OF_AXES = {"blocks": "model.blocks", "widths": "model.dim", "lengths": "model.max_length"}


def check_settings(grid: ScaleGrid) -> None:
    """Raise UserError where something in a grid is said twice, is empty, or is of what it does not do."""
    _check_axes(grid)
    for name in grid.backbones:
        axes, given = grid.axes(name), {**grid.set, **grid.backbones[name]}
        if axes.shapes and (axes.blocks or axes.widths):
            raise UserError(
                "shapes are blocks and widths already",
                where=f"backbone '{name}': shapes",
                fix="leave out blocks and widths, or shapes",
            )
        taken = {key: axis for axis, key in _OF_AXES.items() if getattr(axes, axis)}
        if axes.shapes:
            taken |= {"model.blocks": "shapes", "model.dim": "shapes"}
        taken |= {"train.seed": "seeds"}
        if axes.data != [1.0]:
            taken |= {"data.fraction": "data", "data.fraction_by": "data_by"}
        if grid.learning_rate is not None:
            taken["optimizer.learning_rate"] = "learning_rate"
        twice = next((key for key in given if key in taken), None)
        if twice is not None:
            raise UserError(
                f"'{twice}' is set, and '{taken[twice]}' of the grid says what it is",
                where=f"backbone '{name}': {twice} = {given[twice]}",
                fix="leave one of them out",
            )
    rule = grid.learning_rate
    unused = [] if rule is None or rule.rule == "transfer" else _changed(rule, _OF_TRANSFER)
    if unused:
        raise UserError(
            "that is of rates that are transferred, and each size has its own here",
            where=f"learning_rate.{unused[0]} = {getattr(rule, unused[0])}",
            fix="set learning_rate.rule to transfer, or leave it out",
        )
    if grid.data_by != "users" and all(grid.axes(name).data == [1.0] for name in grid.backbones):
        raise UserError(
            "every run has all of the training part",
            where=f"data_by = {grid.data_by}",
            fix="set data to fractions, or leave data_by out",
        )


def _check_axes(grid: ScaleGrid) -> None:
    """Raise UserError where an axis is an empty list, which left out would have the recipe's value."""
    given = {name: getattr(grid, name) for name in grid.model_fields_set.intersection(AXES)}
    own = {f"backbone '{name}': ": settings for name, settings in grid.backbones.items()}
    for place, values in {"": given, **own}.items():
        empty = next((axis for axis in AXES if values.get(axis) == []), None)
        if empty is not None:
            raise UserError(
                f"'{empty}' is empty: a grid of none has no runs",
                where=f"{place}{empty} = []",
                fix="name one at least, or leave it out, and all runs have the recipe's",
            )


_OF_TRANSFER = ("blocks", "widths", "width_power", "depth_power")


def _changed(rule: RateRule, names: Iterable[str]) -> list[str]:
    return [name for name in names if getattr(rule, name) != RateRule.model_fields[name].default]
