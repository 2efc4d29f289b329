"""docs/spec.md: its tables are those of the code, and its examples prepare to what it says."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import TypeAdapter

from behavior.config import Config, meaning_of, parse_config
from behavior.errors import UserError
from behavior.flow.memory import PreparedTables, prepare_tables
from behavior.spec.dataset_spec import DatasetSpec, FileFormat
from behavior.spec.docs import EXAMPLES, examples_of, field_table, main, spec_markdown

PATH = Path(__file__).parents[3] / "docs" / "spec.md"
TEXT = PATH.read_text(encoding="utf-8")

# What snippets leave out because they are not about it.
REST = {
    "name": "snippet",
    "events": {"files": "log.csv", "columns": {"user": "user", "item": "item", "timestamp": "time"}},
    "timestamp_unit": "s",
}


@dataclass(frozen=True)
class Example:
    """One worked example of the document."""

    title: str
    spec: str
    files: dict[str, str]
    prepared: str


def examples() -> list[Example]:
    """The sections of the chapter "Worked examples"."""
    chapter = TEXT.partition("\n## Worked examples\n")[2]
    found = []
    for section in re.split(r"^### ", chapter, flags=re.MULTILINE)[1:]:
        [spec] = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
        files = dict(re.findall(r"^`([^`]+)`:\n\n```\w+\n(.*?)```", section, re.DOTALL | re.MULTILINE))
        [prepared] = re.findall(r"^Prepared: ?(.*)$", section, re.MULTILINE)
        found.append(Example(section.partition("\n")[0], spec, files, prepared))
    return found


def summary(data: PreparedTables) -> str:
    """What the document says of a prepared example."""
    counts, stats = data.counts, data.stats
    behaviors = ", ".join(f"{name} {number}" for name, number in stats["behaviors"].items())
    return (
        f"{counts.read} rows read, {counts.accepted} accepted, {counts.rejected} rejected, "
        f"{counts.filtered} filtered; {counts.users} users, {counts.items} items; {behaviors}; "
        f"{stats['users_validated']} validated, {stats['users_tested']} tested."
    )


def prepared(example: Example, folder: Path) -> PreparedTables:
    for name, content in example.files.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "spec.yaml").write_text(example.spec, encoding="utf-8")
    return prepare_tables(folder / "spec.yaml")


def rows(data: PreparedTables, *names: str) -> dict[Any, Any]:
    """User -> the values of some columns of the sequences, with raw item ids; `?` for unknown items."""
    ids = dict(zip(*(data.tables.items.column(name).to_pylist() for name in ("index", "id")), strict=True))
    found = {}
    for row in data.sequences.to_pylist():
        row["item"] = [ids.get(item, "?") for item in row["item"]]
        found[row["user"]] = tuple(row[name] for name in names) if len(names) > 1 else row[names[0]]
    return found


def example(title: str) -> Example:
    return next(example for example in examples() if example.title == title)


def test_the_tables_are_up_to_date() -> None:
    assert spec_markdown(TEXT) == TEXT, "run: python -m behavior.spec.docs docs/spec.md"


def test_every_section_of_a_spec_has_a_table_under_its_name() -> None:
    assert re.findall(r"<!-- fields of (\w+) -->", TEXT) == re.findall(
        rf"^##+ ({'|'.join(model.__name__ for model in EXAMPLES)})$", TEXT, re.MULTILINE
    )
    assert set(EXAMPLES) == {DatasetSpec, *models_in(DatasetSpec)} | {FileFormat}


def models_in(model: type[Config]) -> set[type[Config]]:
    """The models that a model's fields name, all the way down."""
    named = {
        name for field in model.model_fields.values() for name in re.findall(r"\w+", str(field.annotation))
    }
    direct = {other for other in EXAMPLES if other.__name__ in named and other is not model}
    return direct | {deeper for other in direct for deeper in models_in(other)}


@pytest.mark.parametrize("model", EXAMPLES, ids=lambda model: model.__name__)
def test_every_field_has_a_docstring_and_an_example_it_takes(model: type[Config]) -> None:
    shown = examples_of(model)
    assert set(shown) == set(yaml.safe_load(EXAMPLES[model]))
    for name, line in shown.items():
        field = model.model_fields[name]
        assert meaning_of(model, name), name
        value = yaml.safe_load(line)[name]
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value)
        assert value is None or value != field.default, f"{name}: the example is the default"


def test_every_snippet_is_a_spec() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 16
    for block in blocks:
        parse_config(DatasetSpec, {**REST, **yaml.safe_load(block)}, where=block)


@pytest.mark.parametrize("case", examples(), ids=lambda case: case.title)
def test_worked_examples_prepare_to_what_is_said(case: Example, tmp_path: Path) -> None:
    assert case.prepared == summary(prepared(case, tmp_path))


def test_what_is_said_of_several_groups(tmp_path: Path) -> None:
    data = prepared(example("One file a behavior"), tmp_path)
    assert rows(data, "item", "behavior") == {
        "ann": (["lamp", "desk", "lamp", "desk"], [1, 1, 2, 2]),
        "bob": (["desk", "desk"], [1, 2]),
    }


def test_what_is_said_of_domains(tmp_path: Path) -> None:
    merged, apart = tmp_path / "merged", tmp_path / "apart"
    merged.mkdir()
    apart.mkdir()
    data = prepared(example("Several domains, one user"), merged)
    assert rows(data, "item", "domain")["ann"] == (["dune", "dune", "emma", "alien"], [1, 2, 1, 2])
    items = data.tables.items.to_pylist()
    assert [(row["domain"], row["id"]) for row in items].count(("books", "dune")) == 1
    assert sorted(row["id"] for row in items) == ["alien", "dune", "dune", "emma"]
    data = prepared(example("Several domains, kept apart"), apart)
    keys = zip(*(data.sequences.column(name).to_pylist() for name in ("user", "user_domain")), strict=True)
    assert sorted(keys) == [("1", 1), ("1", 2), ("2", 2)]
    values = data.tables.vocabularies["color"].to_pylist()
    assert ("de", "gift") in {(row["domain"], row["value"]) for row in values}
    assert ("fr", "gift") in {(row["domain"], row["value"]) for row in values}


def test_what_is_said_of_sessions_and_event_features(tmp_path: Path) -> None:
    data = prepared(example("Features of events, and sessions"), tmp_path)
    assert rows(data, "session") == {"ann": [0, 0, 1], "bob": [0, 0, 0]}
    assert rows(data, "seconds") == {"ann": [4, 2, 4], "bob": [4, 5, 2]}
    assert rows(data, "playlist")["ann"][2] == 1


def test_what_is_said_of_tables(tmp_path: Path) -> None:
    tables = prepared(example("Item and user tables of every kind"), tmp_path).tables
    by_id = {row["id"]: row for row in tables.items.to_pylist()}
    assert [by_id[item]["brand"] for item in "abcde"] == [3, 3, 2, 2, 1]
    assert [by_id[item]["price_range"] for item in "abcde"] == [2, 3, 3, 4, 1]
    assert by_id["e"]["title"] == []
    assert len(tables.vocabularies["tags"]) == 2
    ages = {row["id"]: row["age"] for row in tables.users.to_pylist()}
    assert math.isnan(ages["3"])


def test_what_is_said_of_filters_and_splits(tmp_path: Path) -> None:
    for name in ("filters", "temporal", "basket"):
        (tmp_path / name).mkdir()
    data = prepared(example("What filters leave out"), tmp_path / "filters")
    assert rows(data, "item") == {"ann": ["b", "a"], "bob": ["a", "b"]}
    data = prepared(example("A temporal split"), tmp_path / "temporal")
    assert rows(data, "item", "train_end", "valid_end") == {
        "ann": (["a", "?", "c", "?"], 1, 3),
        "bob": (["a", "c"], 2, 2),
        "eve": (["?", "?"], 0, 1),
    }
    data = prepared(example("The next basket"), tmp_path / "basket")
    assert rows(data, "train_end", "valid_end") == {"1": (2, 4), "2": (2, 2)}


def test_a_document_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- fields of Sessions -->\nold\n<!-- end -->\nafter\n")
    main([str(path)])
    table = field_table(next(model for model in EXAMPLES if model.__name__ == "Sessions"))
    assert path.read_text() == f"before\n<!-- fields of Sessions -->\n\n{table}\n<!-- end -->\nafter\n"
    with pytest.raises(UserError, match="name one Markdown file"):
        main([str(tmp_path / "none.md")])
