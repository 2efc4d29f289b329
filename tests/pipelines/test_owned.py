"""Only what this program has written is ever removed or written over in an output folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.flow.memory import prepare as prepare_in_memory
from behavior.shards.commit import claim
from behavior.shards.folder import open_shards
from behavior.shards.names import REJECTED, SEQUENCES, VOCABULARY
from behavior.shards.owned import JOB_FOLDER, is_own
from behavior.shards.storage import Folder
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.test_versions import DIGESTS, MARK, logs, out, spec_of

__all__ = ["logs", "out"]
ONE = RunnerOptions(workers=1)

NOTES = (
    "notes.txt",
    ".draft.tmp",
    "sequences/notes.txt",
    "sequences/part-1/notes.txt",
    "sequences/.swp.tmp",
    "sequences/part-00000-of-00002 (copy).parquet",
    "rejected/fixed.csv",
    "rejected/part-00000.jsonl.bak",
    "vocabulary/mine.parquet",
    "vocabulary/words.txt",
)
"""What users may leave in a data set."""


@pytest.mark.parametrize("name", ["items.parquet", "sequences/part-00003-of-00008@2.parquet"])
def test_names_of_ours(name: str) -> None:
    assert is_own(name)
    assert not is_own(name, job_only=True)
    assert not is_own(f"mine/{name}")
    assert not is_own(name.replace(".parquet", ".pq"))


def test_a_users_own_files_stay(out: Folder, logs: Path) -> None:
    for name in NOTES:
        out.write_text(name, f"I am {name}")
    Path(str(out), "sequences", "empty").mkdir()
    claimed = [
        lambda: append(spec_of(), str(logs), out, [str(logs / "new-1.csv")], runner=ONE),
        lambda: append(spec_of(), str(logs), out, [str(logs / "new-1.csv")], runner=ONE),
        lambda: prepare(spec_of(shards=1), str(logs), out, runner=ONE, overwrite=True),
        lambda: prepare_in_memory(spec_of(shards=3), out, logs, overwrite=True),
    ]
    for work in claimed:
        work()
        assert {name: out.read_text(name) for name in NOTES} == {name: f"I am {name}" for name in NOTES}
        named = {entry.path for entry in open_shards(out).manifest.files}
        assert set(out.names()) == named | {"manifest.json", *NOTES}
        assert Path(str(out), "sequences", "empty").is_dir()


@pytest.mark.parametrize("folder", [REJECTED, SEQUENCES, f"{VOCABULARY}/new", "logs", "."])
def test_input_in_the_output_folder_is_refused_before_anything_is_removed(
    folder: str, out: Folder, logs: Path
) -> None:
    place = Path(str(out), folder)
    place.mkdir(exist_ok=True)
    shutil.copy(logs / "new-1.csv", place / "fixed.csv")
    before = {name: out.read_bytes(name) for name in out.names()}
    link = logs / "linked.csv"
    link.symlink_to(place / "fixed.csv")
    spec = spec_of(events={**spec_of().model_dump()["events"][0], "files": [str(place / "fixed.csv")]})
    for work in (
        lambda: append(spec_of(), str(logs), out, [str(place / "fixed.csv")], runner=ONE),
        lambda: append(spec_of(), str(logs), out, [str(link)], runner=ONE, full=True),
        lambda: prepare(spec, str(logs), out, runner=ONE, overwrite=True),
        lambda: prepare_in_memory(spec, out, logs, overwrite=True),
    ):
        with pytest.raises(UserError, match="lies in the output folder"):
            work()
    assert {name: out.read_bytes(name) for name in out.names()} == before


@pytest.mark.parametrize("name", [SEQUENCES, VOCABULARY, REJECTED, JOB_FOLDER])
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_is_a_link_is_refused_by_name(
    name: str, there: bool, out: Folder, logs: Path, tmp_path: Path
) -> None:
    far, folder = tmp_path / "far", Path(str(out), name)
    if folder.exists():
        shutil.move(folder, far)
    else:
        far.mkdir()
        (far / "mine.txt").write_text("mine")
    if not there:
        shutil.rmtree(far)
    folder.symlink_to(far)
    before = sorted(far.rglob("*")) if there else []
    for work in (
        lambda: prepare(spec_of(), str(logs), out, runner=ONE),
        lambda: prepare(spec_of(), str(logs), out, runner=ONE, overwrite=True),
        lambda: append(spec_of(), str(logs), out, [str(logs / "new-1.csv")], runner=ONE),
        lambda: open_shards(out),
    ):
        with pytest.raises(UserError, match=f"'{name}' is a link to '{far}'"):
            work()
    assert (sorted(far.rglob("*")) if there else []) == before
    assert far.exists() == there


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_job_killed_before_its_mark_is_written_is_taken_up(
    overwrite: bool, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Folder(str(tmp_path / "out"))
    kill = KeyboardInterrupt()
    rename = Folder.rename

    def killed(self: Folder, source: str, target: str) -> None:
        if target == MARK:
            raise kill
        rename(self, source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "rename", killed)
        patch.setattr(Folder, "remove", lambda *_: None)  # killed: it clears nothing away
        with pytest.raises(KeyboardInterrupt):
            claim(place, DIGESTS, overwrite=False)
    assert [name.rpartition("/")[0] for name in place.names()] == [JOB_FOLDER]
    made = prepare(spec_of(), str(logs), place, runner=ONE, overwrite=overwrite).manifest
    assert set(place.names()) == {entry.path for entry in made.files} | {"manifest.json"}
