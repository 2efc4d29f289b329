"""The files that `prepare --append` knows by the manifest: each is added once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import pipelines.prepare
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from pipelines.append import append
from pipelines.prepare import prepare
from tests.pipelines.append.append_logs import (
    HEADER,
    SPEC,
    change_manifest,
    files_of,
    spec_of,
    write_events,
)
from tests.pipelines.content import content

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_same_files_are_not_added_twice(logs: Path, out: Path) -> None:
    first = append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    again = append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert not first.done_before
    assert again.done_before
    assert again.manifest == first.manifest


def test_files_that_are_there_are_not_added_again(logs: Path, out: Path) -> None:
    spec = spec_of()
    for name in ("new-1.csv", "new-2.csv"):
        append(spec, str(logs), out, [str(logs / name)])
    (logs / "items.csv").write_text("item,brand\n1,b1\n")
    (out / "sequences" / f".{'ab' * 16}.tmp").write_text("of a job that was killed")
    before = open_shards(out).manifest
    for names in (["new-1.csv"], ["new-2.csv", "new-1.csv"], ["old-*.csv"], ["../logs/new-?.csv"]):
        again = append(spec, str(logs), out, [str(logs / name) for name in names])
        assert again.done_before
        assert open_shards(out).manifest == again.manifest == before
    assert set(files_of(out)) == {entry.path for entry in before.files} | {"manifest.json"}
    assert append(spec, str(logs), out, [str(logs / "new-1.csv")], full=True).done_before
    (logs / "new-3.csv").write_text(HEADER)
    kept = files_of(out)
    with pytest.raises(UserError, match="2 of the 3 files to add are in the data set already") as error:
        append(spec, str(logs), out, [str(logs / "new-*.csv")])
    assert error.value.where == "new-1.csv, new-2.csv"
    os.utime(logs / "new-1.csv", (5, 5))
    with pytest.raises(UserError, match="another size or modification time") as error:
        append(spec, str(logs), out, [str(logs / "new-1.csv")])
    assert error.value.where == "new-1.csv"
    assert "--full" in str(error.value.fix)
    assert files_of(out) == kept


def test_full_takes_each_file_once_and_as_it_is_now(logs: Path, tmp_path: Path) -> None:
    out, fresh, spec = tmp_path / "out", tmp_path / "fresh", spec_of(filters={"k_core": 2})
    shutil.copy(logs / "new-2.csv", tmp_path / "elsewhere.csv")
    prepare(spec, str(logs), out)
    append(spec, str(logs), out, [str(logs / "new-1.csv")], full=True)
    write_events(logs / "new-1.csv", seed=9, users=40, items=60, events=100)
    write_events(logs / "old-3.csv", seed=5, users=40, items=60, events=100)  # the glob's, but never named
    changed = [str(logs / name) for name in ("new-1.csv", "old-2.csv")]
    result = append(spec, str(logs), out, [*changed, str(tmp_path / "elsewhere.csv")], full=True)
    assert result.manifest.history[-1].files == ["1=new-1.csv", f"1={tmp_path}/elsewhere.csv"]
    names = ["old-1.csv", "old-2.csv", "new-1.csv", str(tmp_path / "elsewhere.csv")]
    assert [record.path for record in result.manifest.inputs] == names
    prepare(spec_of(filters={"k_core": 2}, events={**SPEC["events"], "files": names}), str(logs), fresh)
    assert content(out) == content(fresh)


def test_inputs_are_named_relative_to_their_folder(logs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(logs, moved)
    for folder in (logs, moved):
        prepare(spec_of(), str(folder), tmp_path / f"of-{folder.name}")
    assert files_of(tmp_path / "of-logs") == files_of(tmp_path / "of-moved")
    for folder in (logs, moved):
        append(spec_of(), str(folder), tmp_path / f"of-{folder.name}", [str(folder / "new-?.csv")])
    assert files_of(tmp_path / "of-logs") == files_of(tmp_path / "of-moved")
    manifest = open_shards(tmp_path / "of-logs").manifest
    assert manifest.history[0].files == ["1=new-1.csv", "1=new-2.csv"]
    assert [record.group for record in manifest.inputs] == [1] * 4
    assert append(spec_of(), str(moved), tmp_path / "of-logs", [str(moved / "new-1.csv")]).done_before


def test_a_data_set_that_does_not_name_its_inputs(logs: Path, out: Path, tmp_path: Path) -> None:
    fresh, spec = tmp_path / "fresh", spec_of()
    change_manifest(out, inputs=[], id_types={})
    for name in ("new-1.csv", "new-2.csv"):
        append(spec, str(logs), out, [str(logs / name)])
    assert append(spec, str(logs), out, [str(logs / "new-1.csv")]).done_before
    assert open_shards(out).manifest.inputs == []
    write_events(logs / "more.csv", seed=5, users=40, items=60, events=50)
    append(spec, str(logs), out, [str(logs / name) for name in ("more.csv", "new-*.csv")], full=True)
    names = ["old-1.csv", "old-2.csv", "new-1.csv", "new-2.csv", "more.csv"]
    assert [record.path for record in open_shards(out).manifest.inputs] == names
    prepare(spec_of(events={**SPEC["events"], "files": names}), str(logs), fresh)
    assert content(out) == content(fresh)


def test_the_input_folder_becomes_absolute(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = []
    run = pipelines.prepare.run_job
    monkeypatch.setattr(
        pipelines.prepare,
        "run_job",
        lambda job, *arguments: bases.append(job.preparation.base) or run(job, *arguments),
    )
    monkeypatch.chdir(tmp_path)
    prepare(spec_of(), "logs", "out")
    append(spec_of(), "logs", "out", ["logs/new-1.csv"])
    assert bases == [str(logs), str(logs)]
    assert append(spec_of(), str(logs), "out", ["logs/new-1.csv"]).done_before
