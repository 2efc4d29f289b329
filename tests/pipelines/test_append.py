"""`prepare --append` against preparing everything afresh."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipelines.prepare
from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.names import logical
from behavior.shards.owned import JOB_FOLDER
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.behavior.shards.test_damage import enter
from tests.pipelines.content import content

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICES = ("phone", "tablet", "desk", "")


def write_events(path: Path, seed: int, users: int, items: int, events: int) -> None:
    """A CSV file with ties in time, missing devices and prices, and one bad line."""
    rng = random.Random(seed)
    lines = ["user,item,action,time,device,price,shop"]
    for _ in range(events):
        price = rng.choice(["", f"{rng.random() * 50:.2f}"])
        lines.append(
            f"u{rng.randrange(users)},{rng.randrange(items)},{rng.choice(['view', 'buy'])},"
            f"{1000 + rng.randrange(300)},{rng.choice(DEVICES)}{rng.randrange(3)},{price},s{rng.randrange(9)}"
        )
    lines[7:7] = ["u1,1,view"]
    path.write_text("\n".join(lines) + "\n")


SPEC: dict[str, Any] = {
    "name": "growing",
    "events": {
        "files": "old-*.csv",
        "columns": {"user": "user", "item": "item", "timestamp": "time"},
        "behavior": {"column": "action"},
        "features": [
            {"name": "device"},
            {"name": "price", "kind": "numeric", "transform": "log"},
            {"name": "band", "column": "price", "kind": "numeric", "transform": "buckets",
             "boundaries": [5, 20]},
            {"name": "shop", "kind": "hashed", "hash_size": 4},
        ],
    },
    "timestamp_unit": "s",
    "behaviors": ["view", "buy"],
    "targets": ["buy"],
    "items": {"files": "items.csv", "id": "item", "features": [{"name": "brand"}]},
    "sessions": {"gap": 20},
    "shards": 5,
    "max_rejects": 0.1,
}  # fmt: skip


def spec_of(**changes: Any) -> DatasetSpec:
    return parse_config(DatasetSpec, SPEC | changes, where="test")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw `logs`, and `out`, a data set of the old ones; not to be changed."""
    whole = tmp_path_factory.mktemp("made")
    folder = whole / "logs"
    folder.mkdir()
    write_events(folder / "old-1.csv", seed=1, users=30, items=40, events=500)
    write_events(folder / "old-2.csv", seed=2, users=30, items=40, events=300)
    write_events(folder / "new-1.csv", seed=3, users=40, items=60, events=200)
    write_events(folder / "new-2.csv", seed=4, users=3, items=90, events=40)
    items = "\n".join(f"{item},b{item % 7}" for item in range(0, 90, 2))
    (folder / "items.csv").write_text(f"item,brand\n{items}\n")
    prepare(spec_of(), str(folder), whole / "out")
    return whole


@pytest.fixture
def logs(made: Path, tmp_path: Path) -> Path:
    """Copies with the times of the originals, by which a data set knows them."""
    return shutil.copytree(made / "logs", tmp_path / "logs")


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """What `prepare` makes of `spec_of()` and the old logs."""
    return shutil.copytree(made / "out", tmp_path / "out")


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


def test_the_same_files_are_not_added_twice(logs: Path, out: Path) -> None:
    first = append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    again = append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert not first.done_before
    assert again.done_before
    assert again.manifest == first.manifest


# Under any of them, a new event may change rows that are there.
AGAINST: list[tuple[str, dict[str, Any]]] = [
    ("k_core", {"filters": {"k_core": 2}}),
    ("filters.repeats", {"filters": {"repeats": True}}),
    ("max_events", {"max_events": 9}),
    ("vocabulary.max_size", {"vocabulary": {"max_size": 5}}),
    ("vocabulary.min_count", {"vocabulary": {"min_count": 2}}),
    ("fit_on: train", {"vocabulary": {"fit_on": "train"}}),
    (
        "feature 'brand' of items",
        {"items": {"files": "items.csv", "id": "item", "features": [{"name": "brand", "max_size": 3}]}},
    ),
    (
        "feature 'price' of events: transform: standardize",
        {"events": {**SPEC["events"], "features": [{"name": "price", "kind": "numeric"}]}},
    ),
]


@pytest.mark.parametrize(("reason", "changes"), AGAINST, ids=[reason for reason, _ in AGAINST])
def test_specs_under_which_old_rows_change_are_refused(
    reason: str, changes: dict, logs: Path, out: Path
) -> None:
    """Before anything of the data set is looked at but its manifest."""
    spec = spec_of(**changes)
    change_manifest(out, spec_digest=spec.digest())
    before = files_of(out)
    with pytest.raises(UserError) as error:
        append(spec, str(logs), out, [str(logs / "new-1.csv")])
    assert reason in error.value.what
    assert "--full" in str(error.value.fix)
    assert files_of(out) == before


def test_a_spec_that_names_more_files_is_told_how_to_add_them(logs: Path, out: Path) -> None:
    more = SPEC["events"] | {"files": ["old-*.csv", "new-1.csv"]}
    wider, before = spec_of(events=more), files_of(out)
    with pytest.raises(UserError, match=r"(?s)of other input files.*leave 'files'.*--append FILES"):
        prepare(wider, str(logs), out)
    with pytest.raises(UserError, match=r"(?s)made by this spec with other 'files'.*leave 'files'"):
        append(wider, str(logs), out, [str(logs / "new-1.csv")])
    with pytest.raises(UserError, match="made by another spec"):
        append(spec_of(events=more, shards=6), str(logs), out, [str(logs / "new-1.csv")])
    assert files_of(out) == before


@pytest.mark.parametrize("without", [["fit_on: train"], ["k_core", "vocabulary.min_count"]], ids=str)
def test_full_takes_specs_under_which_old_rows_change(without: list[str], logs: Path, tmp_path: Path) -> None:
    """All changes at once that go together."""
    merged: dict[str, Any] = {}
    for reason, changes in AGAINST:
        for key, value in changes.items() if reason not in without else ():
            merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    merged["vocabulary"]["max_size"], merged["max_events"] = 30, 30
    out, fresh, spec = tmp_path / "old", tmp_path / "fresh", spec_of(**merged)
    prepare(spec, str(logs), out)
    append(spec, str(logs), out, [str(logs / "new-1.csv")], full=True)
    with pytest.raises(UserError, match="1 file that neither its spec nor --append names") as error:
        append(spec, str(logs), out, [str(logs / "new-2.csv")], full=True)
    assert "--append 'new-1.csv'" in str(error.value.fix)
    append(spec, str(logs), out, [str(logs / "new-?.csv")], full=True)
    names = ["old-1.csv", "old-2.csv", "new-1.csv", "new-2.csv"]
    prepare(spec_of(**merged | {"events": {**merged["events"], "files": names}}), str(logs), fresh)
    assert content(out) == content(fresh)
    assert open_shards(out).manifest.counts.events > 500
    assert [entry.counts.read for entry in open_shards(out).manifest.history] == [201, 41]


def test_a_job_that_fails_leaves_the_data_set_as_it_was(logs: Path, out: Path) -> None:
    before = content(out)
    (logs / "bad.csv").write_text("user,item,action,time,device,price,shop\n" + "u1,1,view,soon,a,1,s\n" * 9)
    with pytest.raises(UserError, match="rejected"):
        append(spec_of(), str(logs), out, [str(logs / "bad.csv")])
    assert content(out) == before
    assert json.loads((out / "manifest.json").read_text())["version"] == 1
    with pytest.raises(UserError, match="another spec"):
        append(spec_of(name="other"), str(logs), out, [str(logs / "new-1.csv")])


HEADER = "user,item,action,time,device,price,shop\n"


def files_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def change_manifest(out: Path, **changes: Any) -> None:
    path = out / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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


def without_times(table: pa.Table) -> pa.Table:
    return table.drop_columns(["timestamp"])


def of_half_the_events(table: pa.Table) -> pa.Table:
    return table.slice(0, table.num_rows // 2)


@pytest.mark.parametrize("edit", [without_times, of_half_the_events])
def test_nothing_is_added_to_damaged_sequences(
    edit: Callable[[pa.Table], pa.Table], logs: Path, out: Path
) -> None:
    for path in sorted((out / "sequences").iterdir()):
        pq.write_table(edit(pq.read_table(path, partitioning=None)), path)
        enter(out, f"sequences/{path.name}")
    before = files_of(out)
    with pytest.raises(
        UserError, match=r"no column 'timestamp'|the sequences are damaged: the manifest says"
    ):
        append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert files_of(out) == before


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"event_features": []}, "the event features are damaged: the manifest names none, the spec band, "),
        ({"split": {}}, "split: its kind"),
    ],
)
def test_nothing_is_added_where_manifest_and_spec_differ(
    changes: dict[str, Any], what: str, logs: Path, out: Path
) -> None:
    change_manifest(out, **changes)
    before = files_of(out)
    with pytest.raises(UserError, match=what):
        append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert files_of(out) == before


def test_nothing_is_added_to_statistics_that_are_none(logs: Path, out: Path) -> None:
    (out / "buckets.json").write_text("[1]")
    enter(out, "buckets.json")
    before = files_of(out)
    with pytest.raises(UserError, match="the statistics are damaged: "):
        append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert files_of(out) == before


@pytest.mark.parametrize("listed", [True, False])
def test_a_manifest_alone_names_no_file_to_open(
    listed: bool, logs: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the list of inputs, nor in the history that earlier versions kept instead."""
    secret = tmp_path / "secret.csv"
    write_events(secret, seed=7, users=4, items=6, events=20)
    record = json.loads((out / "manifest.json").read_text())
    if listed:
        size, modified = secret.stat().st_size, str(secret.stat().st_mtime)
        entry = {"group": 1, "path": str(secret), "size": size, "modified": modified}
        change_manifest(out, inputs=[*record["inputs"], entry])
    else:
        entry = {"version": 2, "input_digest": "", "counts": record["counts"], "files": [f"1={secret}"]}
        change_manifest(out, inputs=[], history=[entry])
    before = files_of(out)
    opened: list[str] = []
    monkeypatch.setattr("behavior.sources.plan.look_at_text", lambda _, __, path: opened.append(path))
    with pytest.raises(UserError, match="neither its spec nor --append names") as error:
        append(spec_of(), str(logs), out, [str(logs / "new-1.csv")], full=True)
    assert error.value.where == str(secret)
    assert not opened
    assert files_of(out) == before


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


@pytest.mark.parametrize("files", [[""], ["1="], []])
def test_an_empty_path_is_refused(files: list[str], logs: Path, out: Path) -> None:
    with pytest.raises(UserError, match=r"the path is empty|no file is named") as error:
        append(spec_of(), str(logs), out, files)
    assert error.value.where == "--append"


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


def test_what_only_describes_a_log_may_change(logs: Path, out: Path) -> None:
    told = spec_of(description="ours", homepage="here", license="none")
    assert told.digest() == spec_of().digest()
    append(told, str(logs), out, [str(logs / "new-1.csv")])
