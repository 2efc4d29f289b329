"""Recipes by name."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from models.recipes.packaged import load_yaml, packaged_yaml

_EXPECTED = ("Expected", "Published")
_AFTER_ABOUT = (*_EXPECTED, "Protocol:", "Data:")


def recipe_names() -> list[str]:
    """Names of the recipes in the package, such as `ml-1m/hstu`."""
    return sorted(packaged_yaml("recipes"))


def describe_recipes() -> list[dict[str, str]]:
    """The recipes in the package, from their comments: `recipe` (name), `backbone`, `about`, `expected`."""
    found = []
    for name, file in sorted(packaged_yaml("recipes").items()):
        text = file.read_text(encoding="utf-8")
        comment = [
            line[1:].strip() for line in takewhile(lambda line: line.startswith("#"), text.splitlines())
        ]
        places = [place for place, line in enumerate(comment) if line.startswith(_AFTER_ABOUT)]
        about = " ".join(comment[: min(places, default=len(comment))])
        expected = [line for line in comment if line.startswith(_EXPECTED)]
        settings = yaml.safe_load(text) or {}
        backbone = settings.get("model", {}).get("kind", "")
        found.append({"recipe": name, "backbone": backbone, "about": about, "expected": " ".join(expected)})
    return found


def load_recipe(name: str | Path) -> dict[str, Any]:
    """A recipe's settings; what it leaves out keeps its default.

    Args:
        name: of a recipe in the package, or path of a YAML file.

    Raises:
        UserError: there is neither; names the nearest recipe.
    """
    return load_yaml(name, "recipes", what="recipe")
