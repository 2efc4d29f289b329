"""Recipes: named settings of whole training runs, as YAML files that ship with the package.

In goes a name or a path, out come plain values, as YAML gives them; `models.config` checks them. May import
`behavior`, and nothing of `models`.
"""

from models.recipes.packaged import load_yaml, packaged_yaml
from models.recipes.recipes import describe_recipes, load_recipe, recipe_names

__all__ = ["describe_recipes", "load_recipe", "load_yaml", "packaged_yaml", "recipe_names"]
