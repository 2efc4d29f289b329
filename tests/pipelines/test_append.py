"""`prepare --append` against preparing everything afresh."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards import logical, open_shards
from behavior.spec import DatasetSpec
from pipelines.append import append
from pipelines.job import JOB_FOLDER
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.content import content

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


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    write_events(folder / "old-1.csv", seed=1, users=30, items=40, events=500)
    write_events(folder / "old-2.csv", seed=2, users=30, items=40, events=300)
    write_events(folder / "new-1.csv", seed=3, users=40, items=60, events=200)
    write_events(folder / "new-2.csv", seed=4, users=3, items=90, events=40)
    items = "\n".join(f"{item},b{item % 7}" for item in range(0, 90, 2))
    (folder / "items.csv").write_text(f"item,brand\n{items}\n")
    return folder


def test_adding_twice_equals_preparing_everything(logs: Path, tmp_path: Path) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    spec = spec_of()
    prepare(spec, str(logs), out)
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


def test_only_buckets_with_new_events_are_written(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    spec = spec_of()
    prepare(spec, str(logs), out)
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


def test_the_same_files_are_not_added_twice(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(spec_of(), str(logs), out)
    first = append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    again = append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert not first.done_before
    assert again.done_before
    assert again.manifest == first.manifest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"filters": {"k_core": 2}}, "k_core"),
        ({"filters": {"repeats": True}}, "filters.repeats"),
        ({"max_events": 9}, "max_events"),
        ({"vocabulary": {"max_size": 5}}, "vocabulary.max_size"),
        ({"vocabulary": {"min_count": 2}}, "vocabulary.min_count"),
        ({"vocabulary": {"fit_on": "train"}}, "fit_on: train"),
        (
            {"items": {"files": "items.csv", "id": "item", "features": [{"name": "brand", "max_size": 3}]}},
            "feature 'brand' of items",
        ),
        (
            {"events": {**SPEC["events"], "features": [{"name": "price", "kind": "numeric"}]}},
            "feature 'price' of events: transform: standardize",
        ),
    ],
)
def test_specs_under_which_old_rows_change_are_refused_unless_full(
    changes: dict, reason: str, logs: Path, tmp_path: Path
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    spec = spec_of(**changes)
    prepare(spec, str(logs), out)
    before = {str(p): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(UserError) as error:
        append(spec, str(logs), out, [str(logs / "new-1.csv")])
    assert reason in error.value.what
    assert "--full" in str(error.value.fix)
    assert {str(p): p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    append(spec, str(logs), out, [str(logs / "new-1.csv")], full=True)
    append(spec, str(logs), out, [str(logs / "new-2.csv")], full=True)
    source = {**spec.model_dump()["events"][0], "files": ["old-1.csv", "old-2.csv", "new-1.csv", "new-2.csv"]}
    prepare(parse_config(DatasetSpec, {**spec.model_dump(), "events": [source]}, where="t"), str(logs), fresh)
    assert content(out) == content(fresh)
    assert [entry.counts.read for entry in open_shards(out).manifest.history] == [201, 41]


def test_a_job_that_fails_leaves_the_data_set_as_it_was(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(spec_of(), str(logs), out)
    before = content(out)
    (logs / "bad.csv").write_text("user,item,action,time,device,price,shop\n" + "u1,1,view,soon,a,1,s\n" * 9)
    with pytest.raises(UserError, match="rejected"):
        append(spec_of(), str(logs), out, [str(logs / "bad.csv")])
    assert content(out) == before
    assert json.loads((out / "manifest.json").read_text())["version"] == 1
    with pytest.raises(UserError, match="another spec"):
        append(spec_of(name="other"), str(logs), out, [str(logs / "new-1.csv")])
