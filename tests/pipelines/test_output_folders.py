"""Full disks, closed folders and jobs that end early: what was there stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from behavior.errors import UserError
from behavior.shards.storage import Folder
from pipelines.append import append
from pipelines.prepare import prepare
from tests.pipelines.broken import ONE, logs
from tests.pipelines.content import content
from tests.pipelines.shapes import make_log, spec_of, write_log

__all__ = ["logs"]

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")


@needs_permissions
def test_an_output_folder_that_may_not_be_written(tmp_path: Path) -> None:
    write_log(tmp_path / "log.csv", make_log(25, 50))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    for out in (closed, closed / "new"):
        with pytest.raises(UserError, match="Permission denied"):
            prepare(spec_of(), str(tmp_path), out)
    assert list(closed.iterdir()) == []


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A context in which files whose names begin so cannot be written for want of room."""
    create = Folder.create

    @contextmanager
    def full(start: str) -> Iterator[None]:
        @contextmanager
        def failing(self: Folder, name: str, **options: Any) -> Iterator[Any]:
            if name.startswith(start):
                raise OSError(errno.ENOSPC, "No space left on device", self.where(name))
            with create(self, name, **options) as file:
                yield file

        with monkeypatch.context() as patch:
            patch.setattr(Folder, "create", failing)
            yield

    return full


@pytest.mark.parametrize("name", [".lrm-job/job.json", "sorted/", "sequences/", "manifest.json"])
def test_a_full_disk_is_said_so_and_leaves_what_was_there(
    name: str, logs: Path, tmp_path: Path, full_disk: Any
) -> None:
    out, spec = tmp_path / "out", spec_of()
    with full_disk(name), pytest.raises(UserError, match="No space left on device"):
        prepare(spec, str(logs), out, runner=ONE)
    assert not out.exists()
    prepare(spec, str(logs), out, runner=ONE)
    before = content(out)
    files = set(out.rglob("*"))
    other = spec_of(max_events=7)
    for run in (
        lambda: prepare(other, str(logs), out, overwrite=True, runner=ONE),
        lambda: append(spec, str(logs), out, [str(logs / "new.csv")], runner=ONE),
    ):
        with full_disk(name), pytest.raises(UserError, match="No space left on device"):
            run()
        assert content(out) == before
        assert set(out.rglob("*")) == files
    prepare(other, str(logs), out, overwrite=True, runner=ONE)
    prepare(other, str(logs), tmp_path / "fresh", runner=ONE)
    assert content(out) == content(tmp_path / "fresh")


def test_a_spill_that_finds_the_disk_full(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.shuffle.FileShuffle.write", full)
        with pytest.raises(UserError, match="No space left on device") as error:
            prepare(spec_of(), str(logs), tmp_path / "out")
    assert "free some space" in str(error.value.fix)
    assert not (tmp_path / "out").exists()


def test_a_job_that_fails_leaves_an_empty_folder_of_the_users(logs: Path, tmp_path: Path) -> None:
    """It may be a mount, or have permissions of its own."""
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match="no event is left"):
        prepare(spec_of(filters={"min_user_events": 1000}), str(logs), out)
    assert list(out.iterdir()) == []


def test_a_file_where_the_folder_should_be(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file, not a folder"):
        prepare(spec_of(), str(logs), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(("kind", "left"), [(KeyboardInterrupt, 0), (UserError, 0), (RuntimeError, 1)])
def test_a_job_that_ends_early_leaves_at_most_its_log(
    kind: type[BaseException], left: int, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a remote folder much lies in temporary ones; after a crash the log stays, which the error names."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def fail(*_: object) -> None:
        assert any(temporary.glob("lrm-work-*/sorted/*"))
        raise kind("stop")

    monkeypatch.setattr("behavior.flow.partitions.finish_sequences", fail)
    with pytest.raises((KeyboardInterrupt, UserError), match="stop"):
        prepare(spec_of(), str(logs), Folder(f"memory://reliability/{kind.__name__}"), runner=ONE)
    assert [path.name[:12] for path in temporary.iterdir()] == ["lrm-prepare-"] * left
