"""docs/architecture.md: its examples run, and what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from models.backbones.kinds import BACKBONES
from models.inputs.layouts import LAYOUTS
from models.losses.formulas import FORMULAS
from models.losses.kinds import LOSSES
from models.tasks import registry
from tests.models.losses.loss_oracle import ORACLES
from tests.pages import DOCS, run_page
from tests.source import Source
from tests.test_rooms import ROOMS

ROOT = DOCS.parent
PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:behavior|pipelines|models|cli|tests)/[\w/.]*)(?::(\w+))?`", PAGE)))


def top_level(path: Path) -> set[str]:
    """The names that a module defines."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_the_page_names_is_there(path: str, name: str) -> None:
    assert (ROOT / path).exists()
    assert not name or name in top_level(ROOT / path)


def test_its_tables_have_every_room_in_order() -> None:
    for package, rooms in ROOMS.items():
        [table] = re.findall(rf"^\| `{package}/` .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
        rows = [line.split("|")[1] for line in table.splitlines()[2:] if line]
        listed = [room for row in rows for room in re.findall(r"`([\w.]+)`", row)]
        assert sorted(listed) == sorted(rooms)


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[dict[str, Any]] = [BACKBONES, LAYOUTS, FORMULAS, LOSSES, registry._KINDS]
    before = [dict(table) for table in tables]
    try:
        _, outputs = run_page("architecture.md", tmp_path, monkeypatch)
    finally:
        for table, kept in zip(tables, before, strict=True):
            table.clear()
            table.update(kept)
    assert len(outputs) >= 9
    for printed, shown in outputs:
        assert printed == shown


def test_losses_are_named_in_both_places() -> None:
    """Settings are read without torch, so that they cannot look at the formulas."""
    assert set(LOSSES) == {"full_softmax", *FORMULAS} == set(ORACLES)


def test_every_kind_of_backbone_is_one_file_and_one_line() -> None:
    """No other module of the packages names the kinds."""
    texts = Source(ROOT, ("models", "cli")).texts
    for kind in set(BACKBONES) - {"hstu", "sasrec"}:  # also names of a residual and of the demo's models
        naming = [path for path, text in texts.items() if f'"{kind}"' in text]
        assert naming == ["models/backbones/kinds.py"]
