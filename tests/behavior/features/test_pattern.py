"""Features that are a part of a text: what a regular expression's group matches."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.features import matched
from behavior.flow.memory import prepare
from behavior.spec.dataset_spec import DatasetSpec, Feature


def found(pattern: str, *texts: str | None) -> list[str | None]:
    return matched(Feature(name="f", pattern=pattern), pa.array(texts, pa.string())).to_pylist()


def test_the_value_is_what_the_group_matches() -> None:
    titles = "Heat (1995)", "(500) Days (2009) ", "1984", None, ""
    assert found(r"\((\d{4})\)\s*$", *titles) == ["1995", "2009", None, None, None]


@pytest.mark.parametrize(
    ("pattern", "text", "value"),
    [
        (r"\((a)\)", "(a)", "a"),
        (r"[(](a)", "(a", "a"),
        (r"[\](](b)", "](b", "b"),
        (r"(?:x|y)(\w)", "yz", "z"),
        (r"(?P<year>\d+)", "in 1995", "1995"),
        (r"\\(c)", "\\c", "c"),
    ],
)
def test_the_group_is_found_among_other_parentheses(pattern: str, text: str, value: str) -> None:
    assert found(pattern, text) == [value]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pattern": "(a"}, "no regular expression"),
        ({"pattern": "a"}, "0 groups"),
        ({"pattern": "(a)(b)"}, "2 groups"),
        ({"pattern": "(a)", "kind": "numeric"}, "categorical and hashed"),
    ],
)
def test_patterns_that_cannot_be(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Feature.model_validate({"name": "f", **settings})


def test_a_pattern_that_only_python_knows_is_told() -> None:
    with pytest.raises(UserError, match="feature 'f': the pattern cannot be used"):
        found(r"(?<=a)(b)", "ab")


def test_items_and_events_are_prepared_by_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("u,i,t,agent\n1,a,10,Lynx/2\n1,b,20,curl\n2,a,30,Mosaic/1\n")
    (tmp_path / "items.csv").write_text("id,title\na,Heat (1995)\nb,Alien\n")
    spec = {
        "name": "parts",
        "events": {
            "files": "log.csv",
            "columns": {"user": "u", "item": "i", "timestamp": "t"},
            "features": [{"name": "browser", "column": "agent", "pattern": r"^(\w+)/"}],
        },
        "timestamp_unit": "s",
        "items": {
            "files": "items.csv",
            "id": "id",
            "features": [{"name": "year", "column": "title", "pattern": r"\((\d+)\)"}],
        },
    }
    shards = prepare(parse_config(DatasetSpec, spec, where="spec"), tmp_path / "out", tmp_path)
    assert shards.vocabulary("year")["value"].to_pylist() == ["1995"]
    assert sorted(shards.vocabulary("event.browser")["value"].to_pylist()) == ["Lynx", "Mosaic"]
    assert 1 in shards.items()["year"].to_pylist()  # missing
