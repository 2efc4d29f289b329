"""Data sets in a folder of a file system that is not the local one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder
from pipelines.append import append
from pipelines.prepare import prepare
from tests.pipelines.by_hand import by_hand, rounded
from tests.pipelines.content import content
from tests.pipelines.shapes import COLUMNS, FEATURES, ONE, check, make_log, spec_of, with_features, write_log
from tests.pipelines.test_prepare import contents


@pytest.fixture
def remote() -> Folder:
    """A folder of a file system that is not the local one."""
    folder = Folder("memory://shapes/out")
    folder.remove_tree("")
    return folder


GROWING = {"sessions": {"gap": 4}, "events": {
    "files": "log1.csv", "columns": COLUMNS, "behavior": {"column": "behavior"},
    "features": [FEATURES[0], *FEATURES[4:7], FEATURES[8]],
}}  # fmt: skip


def test_a_remote_folder_is_written_and_added_to_like_a_local_one(tmp_path: Path, remote: Folder) -> None:
    log = make_log(11, 300)
    write_log(tmp_path / "log1.csv", log[:200])
    write_log(tmp_path / "log2.csv", log[200:])
    spec = spec_of(**GROWING)
    for out in (remote, tmp_path / "local"):
        assert not prepare(spec, str(tmp_path), out, runner=ONE).done_before
    check(remote, by_hand(spec, with_features(log[:200])))
    assert prepare(spec, str(tmp_path), remote, runner=ONE).done_before
    for out in (remote, tmp_path / "local"):
        append(spec, str(tmp_path), out, [str(tmp_path / "log2.csv")], runner=ONE)
    there = {name: remote.sha256(name) for name in remote.names()}
    assert there == contents(tmp_path / "local")
    expected = by_hand(spec, with_features(log))
    found = rounded(content(remote))
    assert found["sequences"] == rounded(expected["sequences"])
    assert found["items"] == expected["items"]


@pytest.mark.parametrize("stage", ["ReadChunks", "WriteSequences"])
def test_an_interrupted_job_in_a_remote_folder_is_run_again(
    stage: str, tmp_path: Path, remote: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make_log(12, 300)
    write_log(tmp_path / "log1.csv", log[:200])
    write_log(tmp_path / "log2.csv", log[200:])
    spec, new = spec_of(**GROWING), [str(tmp_path / "log2.csv")]
    module = "reading" if stage == "ReadChunks" else "partitions"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupted(run: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(f"pipelines.{module}.{stage}.process", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run()

    interrupted(lambda: prepare(spec, str(tmp_path), remote, runner=ONE))
    with pytest.raises(UserError, match="is not a data set"):
        open_shards(remote)
    prepare(spec, str(tmp_path), remote, runner=ONE)
    before = content(remote)
    check(remote, by_hand(spec, with_features(log[:200])))
    interrupted(lambda: append(spec, str(tmp_path), remote, new, runner=ONE))
    assert content(remote) == before
    append(spec, str(tmp_path), remote, new, runner=ONE)
    found = rounded(content(remote))
    assert found["sequences"] == rounded(by_hand(spec, with_features(log))["sequences"])
    assert not [name for name in remote.names() if JOB_FOLDER in name]
