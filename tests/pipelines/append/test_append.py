"""`prepare --append` against preparing everything afresh."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.names import logical
from behavior.shards.owned import JOB_FOLDER
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.append.append_logs import (
    HEADER,
    SPEC,
    change_manifest,
    spec_of,
    write_events,
)
from tests.pipelines.content import content

pytestmark = pytest.mark.usefixtures("one_thread")


def test_adding_twice_equals_preparing_everything(logs: Path, out: Path, tmp_path: Path) -> None:
    fresh, spec = tmp_path / "fresh", spec_of()
    before = {row["id"]: row["index"] for row in open_shards(out).items().to_pylist()}
    for name in ("new-1.csv", "new-2.csv"):
        append(spec, str(logs), out, [str(logs / name)])
    events = {**SPEC["events"], "files": ["old-1.csv", "old-2.csv", "new-1.csv", "new-2.csv"]}
    prepare(spec_of(events=events), str(logs), fresh)
    assert content(out) == content(fresh)
    after = {row["id"]: row["index"] for row in open_shards(out).items().to_pylist()}
    assert {item: after[item] for item in before} == before
    assert sorted(after.values()) == list(range(2, 2 + len(after)))
    manifest = open_shards(out).manifest
    assert manifest.version == 3
    assert [entry.counts.read for entry in manifest.history] == [201, 41]
    rejected = [e for e in manifest.files if e.path.startswith("rejected/part-")]
    assert len(rejected) == 4
    assert not (out / JOB_FOLDER).exists()


@pytest.mark.parametrize("changes", [{"domain_ids": {"items": "separate", "users": "separate"}}, {}])
def test_adding_to_domains(changes: dict, tmp_path: Path) -> None:
    logs, out, fresh = tmp_path / "logs", tmp_path / "out", tmp_path / "fresh"
    logs.mkdir()
    events = []
    for number, domain in enumerate(("books", "toys")):
        for kind in ("old", "new"):
            write_events(logs / f"{kind}-{domain}.csv", seed=number, users=20, items=30, events=150)
        columns = {"user": "user", "item": "item", "timestamp": "time"}
        source = {"columns": columns, "behavior": {"column": "action"}, "domain": domain}
        features = [{"name": "device", "per_domain": True}]
        events.append({**source, "files": [f"old-{domain}.csv"], "features": features})
    common = {**SPEC, "items": [], **changes}
    spec = parse_config(DatasetSpec, {**common, "events": events}, where="test")
    prepare(spec, str(logs), out)
    with pytest.raises(UserError, match="2 groups of events"):
        append(spec, str(logs), out, [str(logs / "new-toys.csv")])
    append(spec, str(logs), out, [f"2={logs}/new-toys.csv", f"1={logs}/new-books.csv"])
    for source in events:
        source["files"] = [*source["files"], source["files"][0].replace("old", "new")]
    prepare(parse_config(DatasetSpec, {**common, "events": events}, where="test"), str(logs), fresh)
    found, expected = content(out), content(fresh)
    if not changes:  # where users are shared, ties go by the order of the files, and there the groups mix
        found, expected = ({k: d[k] for k in ("items", "users", "counts")} for d in (found, expected))
        for rows in (*found["items"].values(), *expected["items"].values()):
            rows.pop("train_count")
        for rows in (*found["users"].values(), *expected["users"].values()):
            rows.pop("train_count")
    assert found == expected


def test_only_buckets_with_new_events_are_written(logs: Path, out: Path) -> None:
    spec = spec_of()
    before = {entry.path: entry.sha256 for entry in open_shards(out).sequence_files()}
    (logs / "one.csv").write_text("user,item,action,time,device,price,shop\nu1,7,buy,2000,phone0,1.5,s1\n")
    append(spec, str(logs), out, [str(logs / "one.csv")], runner=RunnerOptions(workers=1))
    after = {entry.path: entry.sha256 for entry in open_shards(out).sequence_files()}
    changed = set(after) - set(before)
    assert len(changed) == 1
    assert {logical(path) for path in changed} == set(before) - set(after)
    assert all(before[path] == after[path] for path in set(before) & set(after))
    on_disk = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert on_disk == {entry.path for entry in open_shards(out).manifest.files} | {"manifest.json"}


def test_a_job_that_fails_leaves_the_data_set_as_it_was(logs: Path, out: Path) -> None:
    before = content(out)
    (logs / "bad.csv").write_text("user,item,action,time,device,price,shop\n" + "u1,1,view,soon,a,1,s\n" * 9)
    with pytest.raises(UserError, match="rejected"):
        append(spec_of(), str(logs), out, [str(logs / "bad.csv")])
    assert content(out) == before
    assert json.loads((out / "manifest.json").read_text())["version"] == 1
    with pytest.raises(UserError, match="another spec"):
        append(spec_of(name="other"), str(logs), out, [str(logs / "new-1.csv")])


@pytest.mark.parametrize("kept", [True, False])
def test_separate_ids_stay_whole_numbers(kept: bool, tmp_path: Path) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"
    logs.mkdir()
    (logs / "old.csv").write_text("user,item,time\n7,1,1\n7,2,2\n8,1,3\n")
    (logs / "new.csv").write_text("user,item,time\n007,01,4\nx,1,5\n8,y,6\n")
    spec = parse_config(
        DatasetSpec,
        {
            "name": "separate",
            "events": {
                "files": "old.csv",
                "columns": {"user": "user", "item": "item", "timestamp": "time"},
                "behavior": {"constant": "view"},
                "domain": "shop",
            },
            "timestamp_unit": "s",
            "domain_ids": {"items": "separate", "users": "separate"},
            "id_types": {"user": "integer", "item": "integer"},
            "max_rejects": 1.0,
        },
        where="test",
    )
    prepare(spec, str(logs), out)
    assert open_shards(out).manifest.id_types == {"user": "integer", "item": "integer"}
    if not kept:
        change_manifest(out, id_types={})
    manifest = append(spec, str(logs), out, [str(logs / "new.csv")]).manifest
    assert (manifest.counts.rejected, manifest.counts.users, manifest.counts.items) == (2, 2, 2)
    assert sorted(open_shards(out).users().column("id").to_pylist()) == ["7", "8"]


@pytest.mark.parametrize("kind", ["integer", "string"])
def test_hashed_items_keep_their_type(kind: str, tmp_path: Path) -> None:
    logs, out, fresh = tmp_path / "logs", tmp_path / "out", tmp_path / "fresh"
    logs.mkdir()
    for name in ("old", "new"):
        numbers = pa.array([1, 22, 333, 4444, 1, 22])
        # Where the old items are text, so are the new ones, though their column holds whole numbers.
        items = numbers if name == "new" or kind == "integer" else numbers.cast(pa.string())
        columns = {"user": pa.array([1, 1, 1, 2, 2, 2]), "item": items, "time": pa.array([1, 2, 3, 4, 5, 6])}
        pq.write_table(pa.table(columns), logs / f"{name}.parquet")
    source = {
        "columns": {"user": "user", "item": "item", "timestamp": "time"},
        "behavior": {"constant": "view"},
    }
    common = {"name": "hashed", "timestamp_unit": "s", "vocabulary": {"hash_size": 1000}}
    spec = parse_config(DatasetSpec, {**common, "events": {**source, "files": "old.parquet"}}, where="test")
    prepare(spec, str(logs), out)
    assert open_shards(out).manifest.id_types == {"user": "integer", "item": kind}
    before = open_shards(out).items().column("id").to_pylist()
    shutil.copytree(out, tmp_path / "earlier")
    append(spec, str(logs), out, [str(logs / "new.parquet")])
    assert open_shards(out).items().column("id").to_pylist() == before
    both = {**common, "events": {**source, "files": ["old.parquet", "new.parquet"]}}
    prepare(parse_config(DatasetSpec, both, where="test"), str(logs), fresh)
    assert content(out) == content(fresh)
    change_manifest(tmp_path / "earlier", id_types={})
    with pytest.raises(UserError, match="did not keep the type of its item ids"):
        append(spec, str(logs), tmp_path / "earlier", [str(logs / "new.parquet")])


@pytest.mark.parametrize(
    ("text", "read", "filtered"),
    [
        ("", 0, 0),
        (HEADER, 0, 0),
        (HEADER + "u1,7,view,5000,phone0,1.5,s1\nu99,7,view,5001,phone0,1.5,s1\n", 2, 2),
    ],
)
def test_files_that_add_nothing(text: str, read: int, filtered: int, logs: Path, tmp_path: Path) -> None:
    out, spec = tmp_path / "out", spec_of(filters={"end": 4000})
    old = prepare(spec, str(logs), out).manifest
    before = content(out)
    (logs / "quiet.csv").write_text(text)
    result = append(spec, str(logs), out, [str(logs / "quiet.csv")])
    manifest = result.manifest
    assert not result.done_before
    assert manifest == open_shards(out).manifest
    assert (manifest.version, manifest.inputs[-1].path) == (2, "quiet.csv")
    assert manifest.input_digest != old.input_digest
    added = manifest.history[0].counts
    assert (added.read, added.filtered, added.accepted, added.users) == (read, filtered, 0, old.counts.users)
    assert manifest.counts.read == old.counts.read + read
    assert open_shards(out).sequence_files() == [e for e in old.files if e.path.startswith("sequences/")]
    after = content(out)
    assert {k: v for k, v in after.items() if k != "counts"} == {
        k: v for k, v in before.items() if k != "counts"
    }
    assert append(spec, str(logs), out, [str(logs / "quiet.csv")]).done_before
    append(spec, str(logs), out, [str(logs / "new-1.csv")])
    assert open_shards(out).manifest.counts.read == old.counts.read + read + 201


def test_copies_add_nothing(logs: Path, tmp_path: Path) -> None:
    out, spec = tmp_path / "out", spec_of(filters={"duplicates": True})
    old = prepare(spec, str(logs), out).manifest
    before = content(out)
    shutil.copy(logs / "old-1.csv", logs / "copy.csv")
    manifest = append(spec, str(logs), out, [str(logs / "copy.csv")]).manifest
    added = manifest.history[0].counts
    assert (added.read, added.accepted, added.rejected, added.filtered) == (501, 0, 1, 500)
    assert manifest.counts.events == old.counts.events
    assert content(out)["sequences"] == before["sequences"]


def test_what_only_describes_a_log_may_change(logs: Path, out: Path) -> None:
    told = spec_of(description="ours", homepage="here", license="none")
    assert told.digest() == spec_of().digest()
    append(told, str(logs), out, [str(logs / "new-1.csv")])
