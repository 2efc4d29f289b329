"""What the README shows works."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import typer.main
import yaml

from behavior.config import parse_config
from behavior.spec import DatasetSpec
from cli.main import app
from models.config import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The `lrm` command lines of the indented blocks, continued lines joined."""
    text = README.replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"^    (lrm .*)$", text, re.MULTILINE)]


def test_the_example_spec_is_one() -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    spec = parse_config(DatasetSpec, yaml.safe_load(block), where="README.md")
    assert spec.target_ids == [3]


def test_every_command_shown_has_the_flags_shown() -> None:
    group = typer.main.get_command(app)
    assert len(commands()) >= 6
    for _, name, *arguments in commands():
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        used = {argument for argument in arguments if argument.startswith("--")}
        assert used <= known, name


def test_settings_and_recipes_shown_exist() -> None:
    for words in commands():
        pairs = list(itertools.pairwise(words))
        recipes = [value for flag, value in pairs if flag == "--recipe"]
        load_config(*recipes, overrides=[value for flag, value in pairs if flag == "--set"])


def test_files_linked_from_the_documents_are_there() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
