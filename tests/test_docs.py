"""What the README and the documents show works."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

import behavior
import models
from behavior.config import parse_config
from behavior.spec import ready
from behavior.spec.dataset_spec import DatasetSpec
from cli.main import app
from models.config import load_config

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTS}
README = TEXTS["README.md"]


def commands(text: str) -> list[list[str]]:
    """The `lrm` command lines of the indented blocks, continued lines joined."""
    text = text.replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"^    (lrm .*)$", text, re.MULTILINE)]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that a line calls, in whatever group it stands, and the words after its name."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def anchors(text: str) -> set[str]:
    """What links to the headings of a document may name."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_example_spec_is_one() -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    spec = parse_config(DatasetSpec, yaml.safe_load(block), where="README.md")
    assert spec.target_ids == [3]


def test_the_readme_counts_the_ready_specs() -> None:
    assert f" {len(ready.names())} ready specs of public data sets" in README


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_shown_has_the_flags_shown(name: str) -> None:
    shown = commands(TEXTS[name])
    assert name != "README.md" or len(shown) >= 6
    for words in shown:
        command, rest = command_of(words)
        assert not hasattr(command, "commands"), f"{' '.join(words)}: there is no such command"
        known = {option for parameter in command.params for option in parameter.opts}
        # What stands behind -- is another program's.
        own = itertools.takewhile(lambda word: word != "--", rest)
        assert {word.partition("=")[0] for word in own if word.startswith("--")} <= known, " ".join(words)


def test_commands_of_groups_are_found() -> None:
    command, rest = command_of(["lrm", "data", "fetch", "ml-1m", "--out", "x"])
    assert (command.name, rest) == ("fetch", ["ml-1m", "--out", "x"])


def test_settings_and_recipes_shown_exist() -> None:
    for words in itertools.chain.from_iterable(map(commands, TEXTS.values())):
        pairs = list(itertools.pairwise(words))
        recipes = [value for flag, value in pairs if flag == "--recipe"]
        load_config(*recipes, overrides=[value for flag, value in pairs if flag == "--set"])


def test_names_imported_from_the_library_are_there() -> None:
    shown = [names for text in TEXTS.values() for names in re.findall(r"from behavior import (.*)", text)]
    assert shown
    assert {name.strip() for names in shown for name in names.split(",")} <= set(behavior.__all__)


def test_functions_called_in_examples_are_there() -> None:
    blocks = [
        block for text in TEXTS.values() for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ]
    called = {call for block in blocks for call in re.findall(r"\b(behavior|models)\.(\w+)\(", block)}
    assert {("behavior", "prepare"), ("models", "train")} <= called
    for package, name in called:
        assert name in {"behavior": behavior, "models": models}[package].__all__


def test_the_index_has_every_page() -> None:
    linked = re.findall(r"\]\((\w[\w-]*\.md)\)", TEXTS["index.md"])
    assert sorted(linked) == sorted(set(TEXTS) - {"README.md", "index.md"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_the_documents_link_to_is_there(path: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", TEXTS[path.name]):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link
