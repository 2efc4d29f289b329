"""What is left of a run that was given up does nothing to the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.shards.storage import Folder
from behavior.sources.chunks import Chunk
from pipelines.fence import FencedFolder, GivenUpError, fenced
from pipelines.job import PrepareJob
from pipelines.reading import ChunkGroup, ReadChunks
from pipelines.shuffle import FileShuffle
from tests.pipelines.test_transforms import make_job

Run = tuple[FencedFolder, FencedFolder]


@pytest.fixture(params=["local", "remote"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    out = Folder(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out")
    return fenced(out, out.child("work"))


def write(folder: Folder) -> None:
    folder.write_text("deep/er/name", "text")


def create(folder: Folder) -> None:
    with folder.create("deep/er/name") as file:
        file.write(b"text")


@pytest.mark.parametrize("how", [write, create])
def test_files_appear_only_while_the_run_goes_on(how: Callable[[Folder], None], run: Run) -> None:
    out, work = run
    how(out)
    how(work.child("one"))
    mark = f"work/{work.name}"
    assert out.names() == ["deep/er/name", "work/one/deep/er/name", mark]
    assert out.read_text("deep/er/name") == "text"
    out.remove_tree()  # as the next run does
    following = fenced(Folder(out.url), Folder(work.url))
    for folder in (out, work, work.child("one")):
        with pytest.raises(GivenUpError):
            how(folder)
    assert out.names() == [f"work/{following[0].name}"]
    how(following[0])
    assert out.exists("deep/er/name")


def test_a_file_that_is_being_written_when_the_run_is_given_up_does_not_appear(run: Run) -> None:
    out, work = run

    def given_up_meanwhile() -> None:
        with out.create("deep/er/name") as file:
            file.write(b"text")
            work.take_down()

    with pytest.raises(GivenUpError):
        given_up_meanwhile()
    assert out.names() == []
    if out.is_local:  # and no folder lies about
        assert [path.name for path in out.path.iterdir()] == ["work"]


@pytest.fixture
def job(raw: Path, tmp_path: Path) -> PrepareJob:
    made = make_job(raw, tmp_path / "out")
    out, work = fenced(made.out, made.out.child("work"))
    return replace(made, preparation=replace(made.preparation, out=out), work=work, notes=work, timed=False)


BROKEN = ChunkGroup(0, [(Chunk(0, 0, 0, "/nowhere.csv", 0, 9), "nowhere.csv")])


def test_an_error_of_the_users_ends_the_run(job: PrepareJob) -> None:
    assert not job.given_up
    assert list(ReadChunks(job, FileShuffle()).process(BROKEN)) == []
    assert job.given_up
    error = job.kept_error()
    assert error is not None
    assert "nowhere.csv" in str(error)


def test_an_error_of_a_run_that_was_given_up_is_not_the_next_runs(
    job: PrepareJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is at work while its files go finds them gone."""
    _, work = fenced(Folder(job.out.url), Folder(job.work.url))
    following = replace(job, work=work, notes=work)
    read = "pipelines.work.ChunkReader"

    def gone(*_: object) -> None:
        job.notes.take_down()  # type: ignore[attr-defined]
        raise FileNotFoundError(2, "gone", str(job.work.path / "sorted"))

    monkeypatch.setattr(read, gone)
    assert list(ReadChunks(job, FileShuffle()).process(BROKEN)) == []
    assert following.kept_error() is None
    assert not following.given_up
    with pytest.raises(UserError, match="of its own"), following.stage("read"):
        raise UserError("of its own")
    assert str(following.kept_error()) == "of its own"
