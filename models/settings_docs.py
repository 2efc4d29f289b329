"""The tables of docs/settings.md: every setting of a training run, and every recipe, as they are in the code.

After a change to a setting or a recipe:

    python -m models.settings_docs docs/settings.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from behavior.config import Config, meaning_of
from behavior.spec.docs import default_words, rewrite, table_cell, type_words
from models.config import RunConfig
from models.recipes import describe_recipes

_PART = re.compile(r"(<!-- (settings|recipes) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_markdown(text: str) -> str:
    """A document with its tables written anew.

    Args:
        text: Markdown with `<!-- settings -->` or `<!-- recipes -->`, and `<!-- end -->`, around them.
    """
    parts = {"settings": settings_tables(), "recipes": recipes_table()}
    return _PART.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", text)


def settings_tables() -> str:
    """A heading and a Markdown table for each section, a row a setting."""
    parts = []
    for path, about, model in _sections(RunConfig, ""):
        lines = [f"### `{path}`", "", f"{about[:1].upper()}{about[1:]}.", ""]
        lines += ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
        for name, field in model.model_fields.items():
            section = _section_in(field.annotation)
            if section is not None and not field.is_required() and field.default is not None:
                continue
            words = f"section `{path}.{name}`" if section is not None else type_words(field)
            cells = (f"`{path}.{name}`", words, default_words(field), meaning_of(model, name))
            lines.append(f"| {' | '.join(table_cell(cell) for cell in cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def recipes_table() -> str:
    """A Markdown table of the recipes, a row each."""
    lines = ["| recipe | backbone | is | expected |", "| --- | --- | --- | --- |"]
    for recipe in describe_recipes():
        cells = (f"`{recipe['recipe']}`", recipe["backbone"], recipe["about"], recipe["expected"])
        lines.append(f"| {' | '.join(table_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _sections(model: type[Config], prefix: str) -> Iterator[tuple[str, str, type[Config]]]:
    """Path, description and model of every section, outer ones first."""
    for name, field in model.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is not None:
            yield prefix + name, meaning_of(model, name).rstrip("."), inner
            yield from _sections(inner, f"{prefix}{name}.")


def _section_in(annotation: Any) -> type[Config] | None:
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Config)), None)


def main(arguments: Sequence[str]) -> None:
    """See `behavior.spec.docs.rewrite`."""
    rewrite(arguments, settings_markdown, usage="python -m models.settings_docs docs/settings.md")


if __name__ == "__main__":
    main(sys.argv[1:])
