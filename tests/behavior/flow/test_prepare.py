"""`behavior.prepare` as a whole; tests/pipelines/test_same_bytes.py compares it with the Beam job."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

import behavior
from behavior.errors import UserError
from behavior.shards.lock import exclusive
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder
from tests.behavior.logs import make_spec

LOG = "user,item,time\nu,a,3\nv,a,1\nu,b,3\nu,a,1\nv,c,2\nv,b,2\nw,d,9\n"
SPEC = make_spec(shards=2)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "log.csv").write_text(LOG)
    return folder


def users_of(shards: behavior.ShardFolder) -> set[str]:
    return {user for table in shards.iter_sequences(["user"]) for user in table.column("user").to_pylist()}


def test_a_spec_by_its_path(raw: Path, tmp_path: Path) -> None:
    (raw / "spec.yaml").write_text(SPEC.model_dump_json())  # JSON is YAML
    shards = behavior.prepare(raw / "spec.yaml", tmp_path / "out")
    assert users_of(shards) == {"u", "v", "w"}
    assert shards.manifest.counts == behavior.prepare_tables(SPEC, raw).counts
    assert shards.stats() == behavior.prepare_tables(SPEC, raw).stats


def test_another_data_set_is_not_replaced_unless_told_to(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    behavior.prepare(SPEC, out, raw)
    other = make_spec(max_events=1)
    with pytest.raises(UserError, match="holds a data set of another spec"):
        behavior.prepare(other, out, raw)
    shards = behavior.prepare(other, out, raw, overwrite=True)
    assert (shards.manifest.version, shards.manifest.counts.events) == (2, 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        behavior.prepare(SPEC, tmp_path / "mine", raw, overwrite=True)


def test_two_at_once_in_a_folder(raw: Path, tmp_path: Path) -> None:
    with exclusive(Folder(str(tmp_path / "out"))), pytest.raises(UserError, match="another job is writing"):
        behavior.prepare(SPEC, tmp_path / "out", raw)


@pytest.mark.parametrize(
    ("kind", "told", "left"),
    [
        (UserError("wrong"), "wrong", False),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write: No space left", False),
        (KeyboardInterrupt("stop"), "stop", True),
    ],
)
def test_one_that_ends_early_is_no_data_set_and_can_be_run_again(
    kind: BaseException, told: str, left: bool, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise kind

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("behavior.flow.memory.summarize", fail)
        with pytest.raises((UserError, KeyboardInterrupt), match=told):
            behavior.prepare(SPEC, out, raw)
    assert (out / JOB_FOLDER / "job.json").exists() == left
    assert not (out / "manifest.json").exists()
    assert users_of(behavior.prepare(SPEC, out, raw)) == {"u", "v", "w"}
    assert not (out / JOB_FOLDER).exists()


def test_nothing_is_written_of_a_log_that_is_rejected(raw: Path, tmp_path: Path) -> None:
    (raw / "log.csv").write_text("user,item,time\nu,a,soon\nu,b,late\n")
    with pytest.raises(UserError, match="every one of the 2 rows was rejected"):
        behavior.prepare(SPEC, tmp_path / "out", raw)
    assert not (tmp_path / "out").exists()
