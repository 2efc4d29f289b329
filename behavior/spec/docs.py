"""The tables of docs/spec.md: every field of the spec with its type, default, docstring and an example.

They stand in the document between `<!-- fields of SplitSpec -->` and `<!-- end -->`; all else is written by
hand.
After a change to a field:

    python -m behavior.spec.docs docs/spec.md
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from behavior.config import Config, meaning_of
from behavior.errors import UserError
from behavior.spec.dataset_spec import (
    BehaviorFrom,
    BehaviorRule,
    Condition,
    DatasetSpec,
    DomainIds,
    EventColumns,
    EventSource,
    Explode,
    Feature,
    FeatureTable,
    FileFormat,
    Filters,
    IdTypes,
    PackingSpec,
    Sessions,
    SplitSpec,
    VocabularySpec,
)
from behavior.spec.values import OneOrMany

EXAMPLES: dict[type[Config], str] = {
    DatasetSpec: """
name: shop
description: clicks and orders of 2024
homepage: https://example.com/shop-log
license: CC BY 4.0
events: {files: events.csv, columns: {user: user, item: item, timestamp: time}}
timestamp_unit: ms
timestamp_format: "%d.%m.%Y %H:%M"
behaviors: [view, cart, buy]
targets: [buy]
domains: [books, toys]
domain_ids: {items: separate}
id_types: {user: integer, item: integer}
items: {files: products.csv, id: product, features: [{name: brand}]}
users: {files: customers.csv, id: customer, features: [{name: age, kind: numeric}]}
filters: {k_core: 5}
max_events: 1000
split: {kind: next_basket}
sessions: {gap: 1800}
vocabulary: {oov: 100}
packing: {tokens: 8192, max_length: 512}
max_rejects: 0.05
min_coverage: 0.5
shards: 64
""",
    FileFormat: """
files: ["logs/2023-*.csv.gz", logs/2024.csv.gz]
format: sequences
separator: "::"
header: false
names: [user, item, rating, time]
quote: null
multiline: true
encoding: latin-1
compression: gzip
trim: true
where: [{column: country, one_of: [DE, FR]}, {column: user_id, missing: false}]
""",
    Condition: """
column: country
one_of: [DE, FR]
none_of: [test, bot]
missing: false
min: 0.01
max: 100
""",
    EventSource: """
columns: {user: customer, item: product, timestamp: time}
behavior: buy
timestamp_format: epoch_ns
domain: books
explode: {column: impressions, fields: [item, clicked], field_separator: "-"}
features: [{name: device}, {name: price, kind: numeric, transform: log}]
""",
    Explode: """
column: impressions
fields: [item, clicked]
separator: ","
literal: true
field_separator: "-"
""",
    EventColumns: """
user: customer_id
item: product_id
timestamp: time
value: stars
domain: shop
session: session_id
""",
    BehaviorFrom: """
constant: buy
column: action
map: {pv: view, "3": buy, hover: null}
rules: [{when: "value >= 4", name: like}]
otherwise: see
""",
    BehaviorRule: """
when: "value >= 4"
name: like
""",
    Feature: """
name: brand
column: brand_name
kind: multi_categorical
separator: ";"
literal: true
pattern: '\\((\\d{4})\\)'
number_format: us
invalid: missing
transform: buckets
boundaries: [10, 50, 200]
quantiles: 10
min_count: 5
max_size: 10000
hash_size: 50000
per_domain: true
""",
    FeatureTable: """
id: product
rows_per_id: all
domain: books
features: [{name: brand}, {name: price, kind: numeric}]
""",
    Filters: """
k_core: 5
min_user_events: 3
min_item_events: 10
core_behaviors: [like]
behaviors: [cart, buy]
start: 2024-01-01
end: "2024-07-01T00:00:00+02:00"
duplicates: true
repeats: true
""",
    SplitSpec: """
kind: temporal
targets: all
valid_at: 2024-06-01
test_at: 1719792000
valid_share: 0.1
test_share: 0.2
seed: 1
""",
    VocabularySpec: """
oov: 100
fit_on: train
min_count: 5
max_size: 1000000
hash_size: 1048576
""",
    DomainIds: """
items: separate
users: separate
""",
    Sessions: """
gap: 1800
""",
    IdTypes: """
user: integer
item: string
""",
    PackingSpec: """
tokens: 8192
max_length: 512
""",
}
"""One example a field, each by itself: they do not make one spec."""

_TABLE = re.compile(r"(<!-- fields of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def spec_markdown(text: str) -> str:
    """A document with its tables of fields written anew.

    Args:
        text: Markdown with `<!-- fields of Model -->` and `<!-- end -->` around the place of each table.

    Raises:
        KeyError: a marker names no model of the spec.
    """
    models = {model.__name__: model for model in EXAMPLES}
    return _TABLE.sub(lambda found: f"{found[1]}\n{field_table(models[found[2]])}\n{found[3]}", text)


def field_table(model: type[Config]) -> str:
    """A Markdown table of the fields that a model adds to the one it extends, a row each."""
    lines = ["| field | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    for name, example in examples_of(model).items():
        field = model.model_fields[name]
        cells = (
            f"`{name}`",
            type_words(field),
            default_words(field),
            meaning_of(model, name),
            f"`{example}`",
        )
        lines.append(f"| {' | '.join(table_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def examples_of(model: type[Config]) -> dict[str, str]:
    """Field -> example, in the order of the fields a model adds to the one it extends.

    Raises:
        KeyError: a field has no example.
    """
    lines = {line.partition(":")[0]: line for line in EXAMPLES[model].strip().splitlines()}
    inherited = getattr(model.__base__, "model_fields", {})
    return {name: lines[name] for name in model.model_fields if name not in inherited}


def type_words(field: FieldInfo) -> str:
    """What a field may be, in words."""
    annotation: Any = field.annotation
    if field.default is None and type(None) in get_args(annotation):
        # That it may be left out is told by the default.
        annotation = Union[tuple(kind for kind in get_args(annotation) if kind is not type(None))]  # noqa: UP007
    return _words(annotation, field.metadata)


def _words(kind: Any, metadata: Sequence[Any] = ()) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(arguments[0], arguments[1:])
    if origin is Literal:
        return f"one of {', '.join(f'`{value}`' for value in arguments)}"
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part, metadata) for part in arguments)
    if origin is list:
        single = _words(arguments[0])
        return f"{single}, or a list of them" if OneOrMany in metadata else f"list of {single}"
    if origin is tuple:
        return f"list of {len(arguments)} {_words(arguments[0])}s"
    if origin is dict:
        return f"mapping of {_words(arguments[0])} to {_words(arguments[1])}"
    if issubclass(kind, Config):
        link = f"[{kind.__name__}](#{kind.__name__.lower()})"
        short = any(isinstance(mark, BeforeValidator) for mark in metadata)
        return f"string or {link}" if short else link
    return _PLAIN[kind] + (_bounds(metadata) if kind in (int, float) else "")


def _bounds(metadata: Sequence[Any]) -> str:
    low = next((f"{mark.ge:,} or more" for mark in metadata if isinstance(mark, annotated_types.Ge)), "")
    low = low or next((f"above {mark.gt:,}" for mark in metadata if isinstance(mark, annotated_types.Gt)), "")
    below = next((f"below {mark.lt:,}" for mark in metadata if isinstance(mark, annotated_types.Lt)), "")
    high = below or next(
        (f"at most {mark.le:,}" for mark in metadata if isinstance(mark, annotated_types.Le)), ""
    )
    given = [words for words in (low, high) if words]
    return f", {', '.join(given)}" if given else ""


def default_words(field: FieldInfo) -> str:
    """What holds where a field is left out."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "not set"
    if isinstance(value, Config):
        value = value.model_dump(exclude_defaults=True)
        if not value:
            return "its defaults"
    # YAML ends a document that is a single value with three dots.
    shown = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{shown}`"


def table_cell(text: str) -> str:
    """Text as it may stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", r"\|")


def rewrite(arguments: Sequence[str], tables: Callable[[str], str], *, usage: str) -> None:
    """Write the tables of a document anew, in place.

    Args:
        arguments: of the command line.
        tables: the document with its tables as they are to be.
        usage: the command, for the error.

    Raises:
        UserError: there is not exactly one argument, an existing file.
    """
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        raise UserError("name one Markdown file", fix=usage)
    path = Path(arguments[0])
    path.write_text(tables(path.read_text(encoding="utf-8")), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """See `rewrite`."""
    rewrite(arguments, spec_markdown, usage="python -m behavior.spec.docs docs/spec.md")


if __name__ == "__main__":
    main(sys.argv[1:])
