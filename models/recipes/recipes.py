"""Recipes by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from behavior.config import read_yaml
from behavior.named import is_ready
from models.recipes.packaged import packaged_yaml


def recipe_names() -> list[str]:
    """Names of the recipes in the package, such as `ml-1m/hstu`."""
    return sorted(packaged_yaml("recipes"))


def load_recipe(name: str | Path) -> dict[str, Any]:
    """A recipe's settings; what it leaves out keeps its default.

    Args:
        name: of a recipe in the package, or path of a YAML file.

    Raises:
        UserError: there is neither; names the nearest recipe.
    """
    recipes = packaged_yaml("recipes")
    if is_ready(name, recipes, what="recipe"):
        data: dict[str, Any] = yaml.safe_load(recipes[str(name)].read_text(encoding="utf-8")) or {}
        return data
    return read_yaml(name)
