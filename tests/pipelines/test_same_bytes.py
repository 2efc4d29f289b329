"""A local run, Beam's job and `behavior.prepare` write the same: every byte of every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import behavior
from behavior.runtime import scratch
from behavior.shards.storage import Folder
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.conftest import make_spec
from tests.pipelines.shapes import (
    COLUMNS,
    FEATURES,
    ITEM_FEATURES,
    make_log,
    spec_of,
    write_domains,
    write_log,
)
from tests.pipelines.test_prepare import contents

pytestmark = pytest.mark.usefixtures("one_thread")
USERS = {"files": "users.csv", "id": "id", "features": [{"name": "city", "kind": "hashed", "hash_size": 3}]}


def check_same(spec: DatasetSpec, folder: Path, **options: Any) -> dict[str, str]:
    """Prepare in all three ways, and with all arrays in files; the files of the data set, their checksums."""
    prepare(spec, str(folder), folder / "local", **options)
    prepare(spec, str(folder), folder / "beam", runner=RunnerOptions("DirectRunner"), **options)
    shards = behavior.prepare(spec, folder / "memory", folder, **options)
    shards.verify()
    files = contents(folder / "memory")
    assert files == contents(folder / "beam")
    assert files == contents(folder / "local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "LARGE_BYTES", 0)
        behavior.prepare(spec, folder / "files", folder, **options)
    assert files == contents(folder / "files")
    assert set(files) == {"manifest.json", *(entry.path for entry in shards.manifest.files)}
    return files


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shards": None},
        {
            "filters": {"k_core": 4, "duplicates": True, "repeats": True},
            "max_events": 9,
            "sessions": {"gap": 3},
        },
        {"vocabulary": {"hash_size": 6}, "split": {"kind": "next_basket"}},
        {"vocabulary": {"fit_on": "train", "min_count": 3, "oov": 2}},
        {"shards": 40},
        {"split": {"kind": "random", "test_share": 0.3}, "filters": {"k_core": 3, "core_behaviors": ["buy"]}},
    ],
    ids=str,
)
def test_rules_of_the_spec(changes: dict[str, Any], tmp_path: Path) -> None:
    log = make_log(31, 300)
    write_log(tmp_path / "log1.csv", log[:170])
    write_log(tmp_path / "log2.csv", log[170:])
    (tmp_path / "users.csv").write_text("id,city\nu1,Rome\nu2,Oslo\nu3,\nu4,Rome\n")
    check_same(spec_of(**changes, users=USERS), tmp_path)


def test_a_log_without_times_in_one_line_a_user(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("".join(f"u{n} {n % 5} {n % 3} {n % 7}\n" for n in range(40)))
    source = {"files": "log.txt", "format": "sequences"}
    check_same(spec_of(events=source, timestamp_unit="none", behaviors=None, targets=None), tmp_path)


def test_features_of_events(tmp_path: Path) -> None:
    write_log(tmp_path / "log.csv", make_log(32, 400))
    source = {"columns": COLUMNS, "behavior": {"column": "behavior"}, "features": FEATURES}
    files = check_same(spec_of(events={**source, "files": "log.csv"}), tmp_path)
    assert "vocabulary/event.device.parquet" in files


@pytest.mark.parametrize("users", ["shared", "separate"])
def test_domains_and_tables_of_items(users: str, tmp_path: Path) -> None:
    _, _, common = write_domains(tmp_path)
    tables = [
        {"files": f"items-{domain}.csv", "id": "id", "domain": domain, "features": ITEM_FEATURES}
        for domain in ("toys", "books", "games")
    ]
    (tmp_path / "items-toys.csv").open("a").write("torn,row\n")
    spec = spec_of(**common, items=tables, domain_ids={"items": "separate", "users": users})
    files = check_same(spec, tmp_path)
    assert {"vocabulary/tags.parquet", "rejected/tables.jsonl"} <= set(files)


def test_rejected_rows_of_several_chunks(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam's chunks are small here, those in memory are not: lines count from the start of the file."""
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", 512)
    with (raw / "part-3.csv").open("a") as file:
        file.write("u1,i1,lick,3\nu1,i1,buy\n")
    files = check_same(make_spec(filters={"min_user_events": 30}), raw)
    assert {f"rejected/part-0000{number}.jsonl" for number in range(3)} <= set(files)


def test_files_that_are_skipped(raw: Path) -> None:
    (raw / "part-0.csv").write_text("no,such,columns\n1,2,3\n")
    data = (raw / "part-2.csv.gz").read_bytes()
    (raw / "part-2.csv.gz").write_bytes(data[: len(data) // 2])
    check_same(make_spec(), raw, skip_bad_files=True)


def test_replacing_a_data_set(raw: Path) -> None:
    check_same(make_spec(), raw)
    assert "items@2.parquet" in check_same(make_spec(shards=2), raw, overwrite=True)


def test_what_one_has_finished_the_other_leaves(raw: Path) -> None:
    spec = make_spec()
    prepare(spec, str(raw), raw / "out")
    before = {path: path.stat().st_mtime_ns for path in (raw / "out").rglob("*")}
    behavior.prepare(spec, raw / "out", raw)
    assert {path: path.stat().st_mtime_ns for path in (raw / "out").rglob("*")} == before
    assert prepare(spec, str(raw), raw / "out").done_before


def test_a_remote_folder(raw: Path) -> None:
    check_same(make_spec(), raw)
    out = Folder("memory://same-bytes")
    try:
        behavior.prepare(make_spec(), out, raw)
        found = {name: out.sha256(name) for name in out.names()}
    finally:
        out.remove_tree()
    assert found == contents(raw / "memory")
