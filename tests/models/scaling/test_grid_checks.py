"""What in a grid contradicts itself or changes nothing is refused, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from behavior.config import parse_config
from behavior.errors import UserError
from models.scaling.checks import check_grid
from models.scaling.grid import ScaleGrid, grid_names, load_grid
from models.scaling.store import Store

RATES = {"rates": [0.001, 0.01], "rule": "each"}


def grid(**changes: Any) -> ScaleGrid:
    return ScaleGrid(**{"title": "t", "backbones": {"A": None}, "blocks": [1, 2], "widths": [8], **changes})


@pytest.mark.parametrize("name", grid_names())
def test_those_that_ship_are_sound(name: str) -> None:
    check_grid(load_grid(name))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"set": {"model.blocks": 4}}, "model.blocks = 4"),
        ({"set": {"model.dim": 4}}, "model.dim = 4"),
        ({"backbones": {"A": {"shapes": [[1, 8]], "model.dim": 4}}}, "model.dim = 4"),
        ({"lengths": [5], "backbones": {"A": {"model.max_length": 9}}}, "model.max_length = 9"),
        ({"set": {"train.seed": 3}}, "train.seed = 3"),
        ({"data": [0.5], "set": {"data.fraction": 0.1}}, "data.fraction = 0.1"),
        ({"learning_rate": RATES, "set": {"optimizer.learning_rate": 0.1}}, "optimizer.learning_rate = 0.1"),
    ],
)
def test_what_an_axis_says_is_not_set_again(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(UserError, match="is set, and") as caught:
        check_grid(grid(**changes))
    assert caught.value.where == f"backbone 'A': {where}"


def test_what_no_axis_says_may_be_set() -> None:
    """A grid without widths, say, has those of the settings; likewise one backbone's own."""
    one = {"backbones": {"A": None}, "blocks": [1, 2]}
    set_ = {"model.dim": 8, "optimizer.learning_rate": 0.1, "data.fraction": 0.5}
    check_grid(ScaleGrid(**one, set=set_))
    check_grid(ScaleGrid(widths=[8], backbones={"A": {"model.blocks": 3}, "B": {"blocks": [1, 2]}}))


@pytest.mark.parametrize("axis", ["blocks", "widths", "shapes", "lengths", "data", "seeds", "rates"])
@pytest.mark.parametrize("of_a_backbone", [False, True])
def test_an_axis_of_nothing_is_refused(axis: str, of_a_backbone: bool) -> None:
    if axis == "rates":
        changes: dict[str, Any] = {"learning_rate": {"rates": []}}
    else:
        changes = {"backbones": {"A": {axis: []}}} if of_a_backbone else {axis: []}
    whole = {"title": "t", "backbones": {"A": None}, **changes}
    with pytest.raises(UserError, match=rf"{axis}.* is empty") as caught:
        check_grid(parse_config(ScaleGrid, whole, where="grid"))
    place = str(caught.value)
    assert ("backbone 'A': " in place) == (of_a_backbone and axis != "rates")


def test_grids_that_earlier_versions_wrote_down_are_read(tmp_path: Path) -> None:
    """With an empty list for each axis that was left out."""
    store = Store(tmp_path)
    store.begin_call(grid(), "data")
    written = yaml.safe_load(store.grid_file.read_text())
    assert not {"lengths", "shapes"} & set(written)
    store.grid_file.write_text(yaml.safe_dump(written | {"lengths": [], "shapes": []}))
    assert load_grid(store.grid_file).sizes() == grid().sizes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": {**RATES, "blocks": 1}}, "each size has its own"),
        ({"learning_rate": {**RATES, "width_power": -1.0}}, "each size has its own"),
        ({"data_by": "time"}, "all of the training part"),
        ({"shapes": [[1, 8]]}, "shapes are blocks and widths already"),
        ({"blocks": [1, 1]}, "'A, blocks 1, width 8' and 'A, blocks 1, width 8' are one run"),
        (
            {"backbones": {"A": None, "B": {}}},
            "'B, blocks 1, width 8' and 'A, blocks 1, width 8' are one run",
        ),
    ],
)
def test_what_changes_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_grid(grid(**changes))


def test_a_wrong_setting_is_told_with_its_line() -> None:
    with pytest.raises(UserError, match="no backbone 'nope'") as caught:
        check_grid(grid(backbones={"A": None, "B": {"model.kind": "nope"}}))
    assert "the grid's line 'B, blocks 1, width 8'" in str(caught.value.where)
