"""Names are shown as they are, whatever they look like; no control character of a log reaches a terminal."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import yaml

from behavior.errors import UserError
from behavior.printable import printable
from cli.console import note, print_error, print_table, progress_bars, say
from tests.cli.conftest import SMALL, Lrm

CONTROLS = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
SHOWN = r"\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
NAMES = ["r[/]", "[red]x", ":heart:", "a [b] [/b]", "[link=x]"]
TINY = ("--epochs", 1, "--batch-sequences", 2, *SMALL[:4], "--set", "model.blocks=1")


def write_log(folder: Path, *, items: str = "i", file: str = "log.csv") -> Path:
    """Four users with five events each, and their spec."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"u{user},{items}{item},{item},b{items}" for user in range(4) for item in range(5)]
    (folder / file).write_text("user,item,time,what\n" + "\n".join(rows) + "\n")
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    events = {"files": "*.csv*", "columns": columns, "behavior": {"column": "what"}}
    spec = {"name": "hostile", "events": events, "timestamp_unit": "s", "behaviors": [f"b{items}"]}
    spec |= {"items": {"files": file, "id": "item", "features": [{"name": "brand", "column": "what"}]}}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder / "spec.yaml"


def clean(text: str) -> bool:
    """Whether a terminal obeys nothing of it."""
    return printable(text) == text


@pytest.mark.parametrize("name", NAMES)
def test_every_way_to_print_shows_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    import cli.console

    cli.console.out.file, cli.console.err.file = sys.stdout, sys.stderr
    say(name)
    note(name, style="yellow")
    print_table(name, (name, "number"), [(name, 1)])
    print_error(UserError(name, where=name, fix=name))
    found = capsys.readouterr()
    assert found.out.count(name) == 4
    assert found.err.count(name) == 4
    bars = progress_bars()
    task = bars.add_task(name, note=name, total=None)
    for column in (bars.columns[0], bars.columns[-1]):
        assert str(column.render(bars.tasks[task])) == name


@pytest.mark.parametrize("name", NAMES[:2])
def test_commands_of_folders_with_brackets(
    lrm: Lrm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spec = write_log(tmp_path / "raw")
    with (tmp_path / "raw" / "log.csv").open("a") as file:
        file.write(",,yesterday,b\n")
    monkeypatch.chdir(tmp_path)
    prepare = ("prepare", spec, "--out", name, "--max-rejects", 1)
    first, second = lrm(*prepare), lrm(*prepare)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert f"reason: {name}/rejected/" in first.out
    assert f"'{name}' already holds this data set" in second.out
    run = f"{name}run"
    trained = lrm("train", "--data", name, "--out", run, *TINY)
    assert trained.code == 0, trained.err
    assert f"next: lrm evaluate {run}" in trained.out
    evaluated = lrm("evaluate", run, "--baselines")
    assert evaluated.code == 0
    assert f"{run}: test" in evaluated.out
    assert name in lrm("inspect", name).out


def test_a_line_of_a_table_with_brackets(lrm: Lrm, tmp_path: Path, shards: Path) -> None:
    table = tmp_path / "table.yaml"
    settings = {"model.dim": 8, "model.max_length": 20, "train.epochs": 1}
    table.write_text(yaml.safe_dump({"title": "T [/b]", "rows": {"A [/]": settings}}))
    found = lrm("ablate", table, "--data", shards, "--out", tmp_path / "o[/]")
    assert found.code == 0, found.err
    assert "A [/], seed 0" in found.out
    assert "T [/b]" in found.out
    assert f"every run: {tmp_path}/o[/]/results.csv" in found.out


def test_a_damaged_file_with_brackets_and_controls(lrm: Lrm, tmp_path: Path) -> None:
    spec = write_log(tmp_path / "x[", file="log.csv")
    whole = gzip.compress((tmp_path / "x[" / "log.csv").read_bytes() * 2000)
    (tmp_path / "x[" / f"b].{CONTROLS.replace('/', '')}.csv.gz").write_bytes(whole[: len(whole) // 2])
    found = lrm("prepare", spec, "--out", tmp_path / "d", "--max-rejects", "50%")
    assert found.code == 0, found.err
    assert f"not read to their end: b].{SHOWN}.csv.gz" in found.err.replace(f"{tmp_path}/x[/", "")
    assert clean(found.out + found.err)


def test_controls_of_a_log_are_escaped(lrm: Lrm, tmp_path: Path) -> None:
    spec = write_log(tmp_path / "raw", items=CONTROLS)
    data, run = tmp_path / "data", tmp_path / f"run{CONTROLS}"
    outcomes = [
        lrm("inspect", tmp_path / "raw" / "log.csv"),
        lrm("inspect", tmp_path / "raw" / "log.csv", "--json"),
        lrm("prepare", spec, "--out", data),
        lrm("inspect", data),
        lrm("inspect", data, "--json"),
        lrm("train", "--data", data, "--out", run, *TINY),
        lrm("evaluate", run, "--by", "behavior", "--by", "brand"),
    ]
    for found in outcomes:
        assert found.code == 0, found.err
        assert clean(found.out + found.err), found
    assert f"{SHOWN}0" in outcomes[0].out
    assert f"{SHOWN}0" in outcomes[3].out
    assert f"b{SHOWN}" in outcomes[6].out
    assert json.loads(outcomes[4].out)["behaviors"] == [f"b{CONTROLS}"]
    for file in (data / "manifest.json", *(run.rglob("*.json*"))):
        assert clean(file.read_text(encoding="utf-8")), file


def test_controls_in_rejected_rows_and_errors(lrm: Lrm, tmp_path: Path) -> None:
    spec = write_log(tmp_path)
    with (tmp_path / "log.csv").open("a") as file:
        file.write(f"u,{CONTROLS},{CONTROLS},bi\n")
    found = lrm("prepare", spec, "--out", tmp_path / "none")
    assert found.code == 1
    assert r"\x1b" in found.err
    assert clean(found.err)
    assert lrm("prepare", spec, "--out", tmp_path / "data", "--max-rejects", 1).code == 0
    [rejected] = (tmp_path / "data" / "rejected").iterdir()
    assert clean(rejected.read_text(encoding="utf-8"))
    assert json.loads(rejected.read_text(encoding="utf-8"))["text"].count(CONTROLS) == 2
    wrong = lrm("inspect", tmp_path / f"no{CONTROLS}.csv")
    assert f"no{SHOWN}.csv" in wrong.err
    assert clean(wrong.err)


def test_tables_in_a_pipe_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    import cli.console

    cli.console.out.file = sys.stdout
    print_table("title", ("name", "number"), [("word " * 100, 1)])
    assert "word " * 99 in capsys.readouterr().out
