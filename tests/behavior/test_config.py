from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from behavior.config import Config, apply_overrides, did_you_mean, nearest, parse_config, read_yaml
from behavior.errors import UserError


class Leaf(Config):
    width: int = Field(1, ge=1)


class Tree(Config):
    name: str
    leaf: Leaf = Leaf()
    leaves: list[Leaf] = []
    maybe: Leaf | None = None
    deep: dict[str, Leaf] = {}


@pytest.mark.parametrize(
    ("data", "key", "close"),
    [
        ({"nmae": 1}, "nmae", "name"),
        ({"leaf": {"widht": 1}}, "leaf.widht", "width"),
        ({"leaves": [{"width": 1}, {"wdth": 1}]}, "leaves.1.wdth", "width"),
        ({"maybe": {"with": 1}}, "maybe.with", "width"),
        ({"deep": {"a": {"widthh": 1}}}, "deep.a.widthh", "width"),
    ],
)
def test_an_unknown_key_at_any_depth_names_the_nearest(data: dict[str, Any], key: str, close: str) -> None:
    with pytest.raises(UserError) as error:
        parse_config(Tree, {"name": "x", **data}, where="tree.yaml")
    assert error.value.what == f"unknown key '{key}'"
    assert error.value.fix == f"did you mean '{close}'?"
    assert error.value.where == "tree.yaml"


def test_a_misspelt_key_is_the_message_even_where_it_makes_another_one_missing() -> None:
    with pytest.raises(UserError, match="unknown key 'nam'"):
        parse_config(Tree, {"nam": "x"}, where="f")


def test_an_unknown_key_that_is_like_nothing_lists_all() -> None:
    with pytest.raises(UserError, match="known: deep, leaf, leaves, maybe, name\\."):
        parse_config(Tree, {"name": "x", "zzzzzz": 1}, where="f")


def test_other_errors_name_key_and_value() -> None:
    with pytest.raises(UserError, match="the key 'name' is missing"):
        parse_config(Tree, {}, where="f")
    with pytest.raises(UserError, match=r"'leaf.width': .*greater than or equal to 1 \(got 0\)"):
        parse_config(Tree, {"name": "x", "leaf": {"width": 0}}, where="f")
    with pytest.raises(UserError, match=r"'leaf.width': .*integer"):
        parse_config(Tree, {"name": "x", "leaf": {"width": "wide"}}, where="f")
    with pytest.raises(UserError):
        parse_config(Tree, {"name": "x", 3: 1}, where="f")  # type: ignore[dict-item]


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Leaf().width = 2  # type: ignore[misc]


def test_nearest() -> None:
    assert nearest("buyy", ["buy", "cart"]) == "buy"
    assert nearest("xyz", ["buy", "cart"]) is None
    assert did_you_mean("xyz", ["cart", "buy"]) == "known: buy, cart."


def test_overrides_are_yaml_and_leave_the_rest_alone() -> None:
    data = {"a": {"b": 1, "c": 2}, "d": 3}
    changed = apply_overrides(data, ["a.b=[1, x]", "e.f.g=2.5", "d=null", " h = yes", "k=a=b", "t="])
    assert changed == {
        "a": {"b": [1, "x"], "c": 2},
        "d": None,
        "e": {"f": {"g": 2.5}},
        "h": True,
        "k": "a=b",
        "t": None,
    }
    assert data == {"a": {"b": 1, "c": 2}, "d": 3}
    assert apply_overrides(data, ["d=4", "d=5"])["d"] == 5


@pytest.mark.parametrize("setting", ["a", "=1", "d.x=1", "a.b={", "a=2024-13-01", "a=" + "[" * 1500])
def test_overrides_that_are_none(setting: str) -> None:
    with pytest.raises(UserError) as error:
        apply_overrides({"d": 3}, [setting])
    assert error.value.where == "--set"


def test_a_colon_without_a_space_is_told() -> None:
    class Weighted(Config):
        weights: dict[str, float] = {}

    given = apply_overrides({}, ["weights={buy:1}"])
    with pytest.raises(UserError, match="should be a valid number") as error:
        parse_config(Weighted, given, where="--set")
    assert "'buy: 1'" in str(error.value.fix)
    assert parse_config(Weighted, apply_overrides({}, ["weights={buy: 1}"]), where="x").weights == {"buy": 1}


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "this is not YAML", "line 3, column "),
        ("a: 1\n  b: 2\n", "this is not YAML", "line 2, column "),
        ("a: 2024-13-01\n", "this is not YAML: month must be in 1..12", "x.yaml"),
        ("[" * 1500, "this is not YAML", "x.yaml"),
        ("- 1\n", "a mapping of keys to values was expected", "x.yaml"),
        ("", "a mapping of keys to values was expected", "x.yaml"),
        ("a: \x01\n", "this is not YAML", "x.yaml"),
    ],
)
def test_bad_yaml_names_file_and_line(tmp_path: Path, text: str, message: str, place: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_yaml(tmp_path / "x.yaml")
    assert error.value.what.startswith(message)
    assert str(error.value.where).startswith(str(tmp_path / "x.yaml"))
    assert place in str(error.value.where)


def test_yaml_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\n")
    for path in (tmp_path / "none.yaml", tmp_path / "x.yaml", tmp_path):
        with pytest.raises(UserError) as error:
            read_yaml(path)
        assert str(path) in error.value.what


def test_errors_show_all_three_parts_and_survive_a_process_border() -> None:
    error = UserError("it is broken", where="here", fix="mend it")
    assert str(error) == "it is broken\n  where: here\n  to do: mend it"
    again = pickle.loads(pickle.dumps(error))
    assert (again.what, again.where, again.fix) == ("it is broken", "here", "mend it")
