"""docs/settings.md: its tables are those of the code, and complete."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from behavior.errors import UserError
from models.config import RunConfig
from models.recipes import describe_recipes, recipe_names
from models.settings_docs import main, settings_markdown
from tests.cli.conftest import Lrm, lrm

__all__ = ["lrm"]

PATH = Path(__file__).parents[2] / "docs" / "settings.md"
TEXT = PATH.read_text(encoding="utf-8")


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    """The names of all settings, as a run's config.yaml has them."""
    found: list[str] = []
    for name, value in values.items():
        inner = isinstance(value, dict) and value
        found += leaves(value, f"{prefix}{name}.") if inner else [prefix + name]
    return found


def test_the_page_is_that_of_the_code() -> None:
    assert settings_markdown(TEXT) == TEXT, "run: python -m models.settings_docs docs/settings.md"


def test_every_setting_and_recipe_is_there_with_a_meaning() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \| (.+) \| (.+) \|$", TEXT, re.MULTILINE)
    names = [name for name, *_ in rows]
    assert len(names) == len(set(names))
    settings = leaves(RunConfig().model_dump(mode="json"))
    assert len(settings) > 70
    assert set(settings) <= set(names)
    assert "loader.sampling.stochastic_length.alpha" in names
    assert all(meaning.strip() for *_, meaning in rows)
    for name in recipe_names():
        assert f"| `{name}` |" in TEXT


def test_recipes_say_what_they_are(lrm: Lrm) -> None:
    found = json.loads(lrm("recipes", "--json").out)
    assert found == describe_recipes()
    assert [recipe["recipe"] for recipe in found] == recipe_names()
    assert all(recipe["about"].endswith((".", "cores.")) and recipe["backbone"] for recipe in found)
    cpu = next(recipe for recipe in found if recipe["recipe"] == "ml-1m/hstu-cpu")
    assert cpu["expected"].startswith("Expected: NDCG@10 .1811")
    assert "Protocol" not in cpu["about"]
    assert "ml-1m/hstu-cpu" in lrm("recipes").out


def test_the_page_is_written_in_place(tmp_path: Path) -> None:
    page = tmp_path / "settings.md"
    page.write_text(re.sub(r"(<!-- \w+ -->\n).*?(<!-- end -->)", r"\1\2", TEXT, flags=re.DOTALL))
    assert page.read_text() != TEXT
    main([str(page)])
    assert page.read_text() == TEXT
    with pytest.raises(UserError, match="name one Markdown file"):
        main([])
