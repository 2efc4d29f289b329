"""What is wrong, where, and what to do: exit code 1 and no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import SMALL, Lrm, Outcome


def check(found: Outcome, *expected: str, code: int = 1) -> None:
    """The user's error: its exit code, the words expected, nothing on standard output, no stack trace."""
    assert found.code == code, found
    assert found.err.startswith("error: ")
    assert "Traceback" not in found.err
    assert not found.out
    for text in expected:
        assert text in found.err


def write_spec(folder: Path, **changes: Any) -> Path:
    """A spec of `log.csv`, with changes."""
    data: dict[str, Any] = {
        "name": "bad",
        "events": {"files": "log.csv", "columns": {"user": "user", "item": "item", "timestamp": "time"}},
        "timestamp_unit": "s",
    }
    data["events"] |= changes.pop("events", {})
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(data | changes))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(
        "user,item,time\n" + "".join(f"u{n % 5},i{n % 7},{n}\n" for n in range(50))
    )
    return tmp_path


def prepare(lrm: Lrm, folder: Path, **changes: Any) -> Outcome:
    return lrm("prepare", write_spec(folder, **changes), "--out", folder / "out")


def test_a_missing_file(lrm: Lrm, folder: Path) -> None:
    check(prepare(lrm, folder, events={"files": "logs.csv"}), "there is no file", "logs.csv", "log.csv")
    check(prepare(lrm, folder, events={"files": "*.parquet"}), "no file matches '*.parquet'")
    check(lrm("prepare", folder / "none.yaml", "--out", folder / "out"), "there is no file", "none.yaml")
    check(lrm("inspect", folder / "none.csv"), "there is no file", "none.csv")


def test_a_missing_column_names_those_there(lrm: Lrm, folder: Path) -> None:
    columns = {"user": "visitor", "item": "item", "timestamp": "time"}
    check(
        prepare(lrm, folder, events={"columns": columns}),
        "no column 'visitor'",
        "user, item, time",
        "log.csv",
    )


def test_an_unknown_key_names_the_nearest(lrm: Lrm, folder: Path, shards: Path) -> None:
    check(prepare(lrm, folder, splt={}), "unknown key 'splt'", "'split'", "spec.yaml")
    check(prepare(lrm, folder, events={"seperator": ","}), "seperator", "'separator'")
    train = ["train", "--data", shards, "--out", folder / "run"]
    check(lrm(*train, "--set", "model.bloks=2"), "model.bloks", "'blocks'", "--set", code=2)
    check(lrm(*train, "--recipe", "ml-1m/hstuu"), "ml-1m/hstuu", "'ml-1m/hstu'")
    check(lrm(*train, "--backbone", "hstuu"), "model.kind", "hstu", "where: --backbone", code=2)
    check(lrm(*train, "--set", "model.kind=hstuu"), "where: --set model.kind=hstuu", code=2)


def test_a_separator_that_does_not_split(lrm: Lrm, folder: Path) -> None:
    check(
        prepare(lrm, folder, events={"separator": "::"}),
        "'::' does not split",
        "user,item,time",
        "',' looks likely",
    )


def test_a_timestamp_that_is_no_number(lrm: Lrm, folder: Path) -> None:
    (folder / "log.csv").write_text("user,item,time\nu,i,yesterday\nu,i,5\n")
    check(
        prepare(lrm, folder),
        "1 of 2 rows were rejected",
        "log.csv line 2",
        "'yesterday' is not a whole number",
    )


def test_an_empty_log(lrm: Lrm, folder: Path) -> None:
    (folder / "log.csv").write_text("")
    check(prepare(lrm, folder), "log.csv", "empty")
    (folder / "log.csv").write_text("user,item,time\n")
    check(prepare(lrm, folder), "the log is empty")


def test_a_log_where_every_row_is_rejected(lrm: Lrm, folder: Path) -> None:
    (folder / "log.csv").write_text("user,item,time\n" + ",i,5\n" * 9)
    check(prepare(lrm, folder, max_rejects=1.0), "every one of the 9 rows", "log.csv line 2", "user (empty)")
    assert not (folder / "out").exists()


def test_an_output_folder_that_holds_something_else(lrm: Lrm, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    check(prepare(lrm, folder), "notes.txt", "--overwrite")
    assert (folder / "out" / "notes.txt").read_text() == "mine"


def test_a_folder_without_a_manifest(lrm: Lrm, folder: Path) -> None:
    check(lrm("train", "--data", folder, "--out", folder / "run"), "is not a data set", "manifest.json")
    (folder / "empty").mkdir()
    check(lrm("inspect", folder / "empty"), "is not a data set")
    assert "proposed spec" in lrm("inspect", folder).out  # its raw files
    check(lrm("inspect", folder / "nowhere"), "there is no file")


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def test_a_wrong_checksum(lrm: Lrm, copy: Path, tmp_path: Path) -> None:
    part = next((copy / "sequences").iterdir())
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(bytes(data))
    check(lrm("train", "--data", copy, "--out", tmp_path / "run", *SMALL), "checksum", part.name)
    part.unlink()
    check(lrm("train", "--data", copy, "--out", tmp_path / "run2", *SMALL), "missing", part.name)


def test_a_newer_format_version(lrm: Lrm, copy: Path, tmp_path: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    check(lrm("train", "--data", copy, "--out", tmp_path / "run"), "format version 99", "update lrm-kit")


def test_a_checkpoint_of_another_architecture(lrm: Lrm, run: Path, shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    resume = ["train", "--data", shards, "--out", copy, "--resume", "--epochs", 3, *SMALL]
    check(lrm(*resume, "--backbone", "sasrec"), "model.kind", "hstu", "sasrec")
    check(lrm(*resume, "--backbone", "hstu", "--set", "model.blocks=3"), "model.blocks")


def test_a_run_that_is_none(lrm: Lrm, tmp_path: Path) -> None:
    check(lrm("evaluate", tmp_path), "is not a training run")


def test_debug_shows_the_stack_trace(lrm: Lrm, tmp_path: Path) -> None:
    from behavior.errors import UserError

    with pytest.raises(UserError):
        lrm("--debug", "inspect", tmp_path / "none.csv")


def test_a_file_that_ends_too_early_is_an_error_and_not_aborted(
    lrm: Lrm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typer takes an `EOFError`, which files raise, for the end of what the user types."""

    def ends(*_: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr("models.gpu.device.device_facts", ends)
    found = lrm("doctor")
    check(found, "Ran out of input")


def test_what_is_written_here_takes_no_address(
    lrm: Lrm, run: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--out s3://bucket/run` was a folder `s3:` beside the user."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for arguments in (
        ("train", "--data", shards, "--out", "s3://bucket/run", *SMALL),
        ("embed", run, "--out", "s3://bucket/vectors"),
        ("export", run, "--out", "gs://bucket/exported"),
        ("recommend", run, "--out", "s3://bucket/top.csv"),
        ("evaluate", run, "--per-user", "s3://bucket/ranks.csv"),
        ("ablate", "ml-1m/bias", "--data", shards, "--out", "s3://bucket/table"),
        ("report", run.parent, "--html", "s3://bucket/page.html"),
        ("demo", "--out", "s3://bucket/demo"),
        ("data", "fetch", "ml-1m", "--out", "s3://bucket/ml-1m"),
    ):
        found = lrm(*arguments)
        assert (found.code, "is an address, and this is written to a path of this machine" in found.err) == (
            1,
            True,
        ), found
    assert not list(Path().iterdir())
    assert lrm("report", run.parent, "--html", shards / "items.parquet").code == 2
