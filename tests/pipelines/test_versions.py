"""One data set after another in a folder: what is removed, when, and what never is."""

from __future__ import annotations

import errno
import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.flow import previous
from behavior.flow.previous import Previous
from behavior.shards.commit import claim, commit, sweep, version_of
from behavior.shards.folder import open_shards
from behavior.shards.lock import exclusive
from behavior.shards.manifest import MANIFEST_NAME, load_manifest
from behavior.shards.names import versioned
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.append.append_logs import SPEC, write_events
from tests.pipelines.content import content

ONE = RunnerOptions(workers=1)
DIGESTS = {"spec_digest": "a", "input_digest": "b"}
MARK = f"{JOB_FOLDER}/job.json"


def spec_of(**changes: Any) -> DatasetSpec:
    return parse_config(DatasetSpec, SPEC | {"items": [], "shards": 2} | changes, where="test")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    for seed, name in enumerate(("old-1", "new-1", "new-2")):
        write_events(folder / f"{name}.csv", seed=seed, users=10, items=12, events=80)
    return folder


@pytest.fixture
def out(logs: Path, tmp_path: Path) -> Folder:
    """A finished data set."""
    prepare(spec_of(), str(logs), tmp_path / "out", runner=ONE)
    return Folder(str(tmp_path / "out"))


def files_of(out: Folder) -> dict[str, bytes]:
    return {name: out.read_bytes(name) for name in out.names()}


def broken(monkeypatch: pytest.MonkeyPatch, method: str, name: str, error: OSError) -> None:
    """Let a method of folders fail for one file."""
    whole = getattr(Folder, method)

    def failing(self: Folder, file: str, *rest: Any) -> Any:
        if file == name:
            raise error
        return whole(self, file, *rest)

    monkeypatch.setattr(Folder, method, failing)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_manifest_that_cannot_be_read_is_not_taken_for_none(
    number: int, out: Folder, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(out)
    with monkeypatch.context() as patch:
        broken(patch, "read_bytes", MANIFEST_NAME, OSError(number, "it broke"))
        for work in (
            lambda: sweep(out),
            lambda: version_of(out),
            lambda: claim(out, DIGESTS, overwrite=True),
            lambda: prepare(spec_of(), str(logs), out, runner=ONE),
            lambda: prepare(spec_of(), str(logs), out, runner=ONE, overwrite=True),
            lambda: append(spec_of(), str(logs), out, [str(logs / "new-1.csv")], runner=ONE),
        ):
            with pytest.raises(UserError, match="it broke"):
                work()
    assert files_of(out) == before


def test_a_commit_asks_nobody_what_it_has_written(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = load_manifest(out)
    out.write_text(versioned("items.parquet", 7), "left over")
    with monkeypatch.context() as patch:
        broken(patch, "read_bytes", MANIFEST_NAME, OSError(errno.EIO, "it broke"))
        commit(out, manifest)
    assert set(out.names()) == {entry.path for entry in manifest.files} | {MANIFEST_NAME}


def newer(record: dict[str, Any]) -> None:
    record.update(format_version=99, version=4)


def damaged(record: dict[str, Any]) -> None:
    record["counts"]["read"] += 1
    del record["version"]


@pytest.mark.parametrize(("edit", "version"), [(newer, 5), (damaged, 4)])
def test_files_of_a_manifest_that_cannot_be_used_stay_until_it_is_replaced(
    edit: Callable[[dict], None], version: int, out: Folder, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.rename("items.parquet", versioned("items.parquet", 3))
    record = json.loads(out.read_text(MANIFEST_NAME))
    edit(record)
    out.write_text(MANIFEST_NAME, json.dumps(record))
    before = files_of(out)
    with pytest.raises(UserError, match=r"format version 99|manifest is damaged"):
        prepare(spec_of(), str(logs), out, runner=ONE)
    assert files_of(out) == before
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.prepare.commit", _fail)
        with pytest.raises(UserError, match="not today"):
            prepare(spec_of(), str(logs), out, runner=ONE, overwrite=True)
    after = files_of(out)
    assert {name: after[name] for name in before} == before
    assert not any(name.startswith(JOB_FOLDER) for name in after)
    # What the failed job left has its version, so that the next one goes beyond it or writes over it.
    manifest = prepare(spec_of(), str(logs), out, runner=ONE, overwrite=True).manifest
    assert manifest.version >= version
    assert not {entry.path for entry in manifest.files} & set(before)
    assert set(out.names()) == {entry.path for entry in manifest.files} | {MANIFEST_NAME}
    open_shards(out).verify()


def _fail(*_: object) -> None:
    raise UserError("not today")


def test_the_version_after_one_that_cannot_be_used(out: Folder) -> None:
    assert version_of(out) == 1
    out.write_text(MANIFEST_NAME, '{"version": 4')
    assert version_of(out) == 1
    out.write_text(versioned("vocabulary/event.device.parquet", 3), "")
    assert version_of(out) == 3
    out.write_text(MANIFEST_NAME, '{"version": 4}')
    assert version_of(out) == 4
    out.remove(MANIFEST_NAME)
    assert version_of(out) == 0


def test_a_torn_manifest_beside_our_mark_can_still_be_overwritten(out: Folder, logs: Path) -> None:
    out.write_text(MANIFEST_NAME, '{"version": 1')
    out.write_text(MARK, json.dumps(DIGESTS))
    before = files_of(out)
    sweep(out)
    assert files_of(out) == before
    assert prepare(spec_of(), str(logs), out, runner=ONE, overwrite=True).manifest.version == 2
    assert set(out.names()) == {entry.path for entry in load_manifest(out).files} | {MANIFEST_NAME}


@pytest.mark.parametrize("there", [True, False])
def test_a_sweep_killed_anywhere_leaves_a_folder_of_ours(
    there: bool, out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not there:
        out.remove(MANIFEST_NAME)
    for name in (MARK, f"{JOB_FOLDER}/a/work", f"{JOB_FOLDER}/z", versioned("stats.json", 9)):
        out.write_text(name, json.dumps(DIGESTS))
    remove = Folder.remove

    def once(self: Folder, name: str) -> None:
        remove(self, name)
        raise KeyboardInterrupt

    killed = 0
    while True:
        with monkeypatch.context() as patch:
            patch.setattr(Folder, "remove", once)
            try:
                sweep(out)
                break
            except KeyboardInterrupt:
                killed += 1
        left = out.names()
        # Without the mark nothing may be left but what the manifest names.
        expected = {entry.path for entry in load_manifest(out).files} | {MANIFEST_NAME} if there else set()
        assert MARK in left or set(left) == expected
    assert killed > 3
    assert not out.exists(JOB_FOLDER)


def test_what_a_killed_commit_left_goes_where_there_is_nothing_to_do(
    out: Folder, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(shards=3)
    with monkeypatch.context() as patch:
        patch.setattr("behavior.shards.commit.sweep", _killed_after_commit(out))
        with pytest.raises(KeyboardInterrupt):
            prepare(spec, str(logs), out, runner=ONE, overwrite=True)
    assert load_manifest(out).version == 2
    assert {"items.parquet", MARK} <= set(out.names())
    assert prepare(spec, str(logs), out, runner=ONE).done_before
    assert set(out.names()) == {entry.path for entry in load_manifest(out).files} | {MANIFEST_NAME}
    assert not out.exists(JOB_FOLDER)


def _killed_after_commit(out: Folder) -> Callable[..., None]:
    def sweep_or_die(folder: Folder, kept: Any = None) -> None:
        if load_manifest(out).version == 2:
            raise KeyboardInterrupt
        sweep(folder, kept)

    return sweep_or_die


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
def test_a_mount_without_locks_can_be_used(
    number: int, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", flock)
    prepare(spec_of(), str(logs), tmp_path / "out", runner=ONE)
    open_shards(tmp_path / "out").verify()


def test_a_lock_that_fails_for_another_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, "it broke")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match="cannot be locked: it broke"), exclusive(Folder(str(tmp_path / "a"))):
        pass
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("remote", [True, False])
@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, "later"), OSError(errno.ENOSPC, "full")])
def test_errors_of_the_job_are_not_taken_for_the_folder_s(
    remote: bool, error: OSError, tmp_path: Path
) -> None:
    place = f"memory://{uuid.uuid4().hex}/out" if remote else str(tmp_path / "out")
    with pytest.raises(OSError, match=r"later|full") as found, exclusive(Folder(place)):
        raise error
    assert found.value is error


def test_errors_of_a_remote_folder_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Folder(f"memory://{uuid.uuid4().hex}/out")
    broken(monkeypatch, "write_text", MARK, OSError("403 Forbidden"))
    with pytest.raises(UserError, match="403 Forbidden") as error:
        claim(out, DIGESTS, overwrite=False)
    assert error.value.fix == "check the address and credentials"
    broken(monkeypatch, "read_bytes", MANIFEST_NAME, OSError("token expired"))
    with pytest.raises(UserError, match="token expired"):
        claim(out, DIGESTS, overwrite=False)


def test_features_may_be_named_like_versions(logs: Path, tmp_path: Path) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    features = [{"name": name, "column": "device"} for name in ("v1", "v2", "v3")]
    events = {**SPEC["events"], "features": features}
    spec = spec_of(events=events)
    prepare(spec, str(logs), out, runner=ONE)
    for name in ("new-1.csv", "new-2.csv"):
        append(spec, str(logs), out, [str(logs / name)], runner=ONE)
    events = {**events, "files": ["old-1.csv", "new-1.csv", "new-2.csv"]}
    prepare(spec_of(events=events), str(logs), fresh, runner=ONE)
    assert content(out) == content(fresh)
    words = {path.name for path in (out / "vocabulary").iterdir()}
    assert words == {f"event.{name}@3.parquet" for name in ("v1", "v2", "v3")}


def test_a_state_is_told_from_the_next_one(out: Folder, logs: Path) -> None:
    before = Previous.of(out, spec_of())
    counts = before.vocabulary("item").counts
    manifest = load_manifest(out)
    append(spec_of(), str(logs), out, [str(logs / "new-1.csv")], runner=ONE)
    # The digest of the input says nothing of how often it was prepared.
    appended = load_manifest(out).model_copy(update={"input_digest": manifest.input_digest})
    appended.save(out)
    after = Previous.of(out, spec_of())
    assert after != before
    assert after.shards.manifest.version == 2
    assert after.vocabulary("item").counts != counts
    assert Previous.of(out, spec_of()) == after


def test_threads_load_a_data_set_once(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    started = threading.Barrier(8)

    def slowly(folder: Folder) -> Any:
        opened.append(folder)
        threading.Event().wait(0.05)
        return open_shards(folder)

    monkeypatch.setattr(previous, "open_shards", slowly)
    held = Previous(out, uuid.uuid4().hex, spec_of())
    found = []

    def load() -> None:
        started.wait()
        found.append((held.vocabulary("item"), held.shards))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert len({(id(words), id(shards)) for words, shards in found}) == 1
