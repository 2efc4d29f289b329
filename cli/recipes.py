"""`lrm recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.console import print_json, print_table, say


def recipes(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the recipes that ship with lrm: backbone, what each is, and the metrics to expect.

    Example:  lrm recipes
    """
    from models.recipes import describe_recipes

    found = describe_recipes()
    if json:
        print_json(found)
        return
    rows = [(r["recipe"], r["backbone"], "\n".join(filter(None, (r["about"], r["expected"])))) for r in found]
    print_table("recipes", ("recipe", "backbone", "is"), rows)
    say(
        "to use one: lrm train --recipe NAME; to change a setting: --set section.key=value (docs/settings.md)"
    )
