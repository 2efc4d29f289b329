"""The job on every shape of data, by the spec alone, against the plain Python of `by_hand`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.flow.memory import prepare_tables
from behavior.shards.folder import open_shards
from pipelines.prepare import prepare
from tests.pipelines.by_hand import Rows, by_hand
from tests.pipelines.shapes import (
    COLUMNS,
    FEATURES,
    ITEM_FEATURES,
    ONE,
    START,
    check,
    make_log,
    spec_of,
    with_features,
    write_domains,
    write_log,
)

TOKYO = timezone(timedelta(hours=9))


def test_features_of_events_stay_beside_their_events(tmp_path: Path) -> None:
    """Two groups of files: the second lacks price and device, and calls the shop store."""
    first, second = make_log(1, 200), make_log(2, 100)
    write_log(tmp_path / "log.csv", first)
    renamed = [{**event, "store": event["shop"]} for event in second]
    write_log(tmp_path / "other.csv", renamed, ["user", "item", "behavior", "timestamp", "store"])
    source = {"columns": COLUMNS, "behavior": {"column": "behavior"}}
    shop = {"name": "shop", "column": "store", "kind": "hashed", "hash_size": 5}
    spec = spec_of(
        events=[
            {**source, "files": "log.csv", "features": FEATURES},
            {**source, "files": "other.csv", "features": [shop]},
        ]
    )
    prepare(spec, str(tmp_path), tmp_path / "out")
    log = with_features(first) + with_features(second, lost=("device", "price"))
    check(tmp_path / "out", by_hand(spec, log))


@pytest.mark.parametrize(
    "changes",
    [
        {"sessions": {"gap": 3}},
        {"filters": {"start": START + 10, "end": "2023-11-14T22:14:10"}},
        {"filters": {"duplicates": True}},
        {"filters": {"repeats": True}},
        {"filters": {"duplicates": True, "repeats": True, "k_core": 4}, "max_events": 9},
        {"filters": {"behaviors": ["buy"], "min_item_events": 3}},
        {"max_events": 5},
        {"vocabulary": {"min_count": 6, "oov": 3}},
        {"vocabulary": {"max_size": 4}},
        {"vocabulary": {"min_count": 9, "max_size": 4}},
        {"vocabulary": {"hash_size": 6}},
        {"vocabulary": {"fit_on": "train"}, "split": {"kind": "temporal", "valid_at": START + 20,
                                                      "test_at": START + 60}},
        {"split": {"kind": "next_basket"}, "targets": ["view", "buy"]},
        {"timestamp_unit": "none"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.usefixtures("one_thread")
def test_rules_of_the_spec(changes: dict[str, Any], tmp_path: Path) -> None:
    log = make_log(3, 300)
    write_log(tmp_path / "log1.csv", log[:170])
    write_log(tmp_path / "log2.csv", log[170:])
    if changes.get("timestamp_unit") == "none":
        source = {"files": "log*.csv", "columns": {"user": "user", "item": "item"}}
        changes["events"] = {**source, "behavior": {"column": "behavior"}}
    spec = spec_of(**changes)
    expected = by_hand(spec, log)
    assert expected["counts"]["accepted"] > 0
    result = prepare(spec, str(tmp_path), tmp_path / "out", runner=ONE)
    check(tmp_path / "out", expected)
    library = prepare_tables(spec, tmp_path)
    assert library.counts == result.manifest.counts


def test_times_outside_a_range_are_filtered_and_without_one_rejected(tmp_path: Path) -> None:
    log = make_log(4, 100)
    wild = [{**log[0], "timestamp": time} for time in (START * 1000, -5, START - 1)]
    write_log(tmp_path / "log.csv", [*log[:50], *wild, *log[50:]])
    spec = spec_of(filters={"start": START, "end": START + 1000}, max_rejects=0)
    prepare(spec, str(tmp_path), tmp_path / "out")
    expected = by_hand(spec, [*log, *wild])
    assert expected["counts"]["filtered"] == 3
    check(tmp_path / "out", expected)
    spec = spec_of(max_rejects=2)
    counts = prepare(spec, str(tmp_path), tmp_path / "all").manifest.counts
    assert (counts.rejected, counts.filtered, counts.accepted) == (2, 0, len(log) + 1)
    records = (tmp_path / "all" / "rejected" / "part-00000.jsonl").read_text()
    assert '"line": 52' in records
    assert "the year 1969" in records


@pytest.mark.parametrize("users", ["shared", "separate"])
@pytest.mark.parametrize("changes", [{}, {"filters": {"k_core": 4}, "vocabulary": {"min_count": 5}}], ids=str)
@pytest.mark.usefixtures("one_thread")
def test_domains_with_items_of_their_own(users: str, changes: dict, tmp_path: Path) -> None:
    log, table, common = write_domains(tmp_path)
    tables = [
        {"files": f"items-{domain}.csv", "id": "id", "domain": domain, "features": ITEM_FEATURES}
        for domain in ("toys", "books", "games")
    ]
    ids = {"items": "separate", "users": users}
    spec = spec_of(**common, **changes, items=tables, domain_ids=ids)
    prepare(spec, str(tmp_path), tmp_path / "out")
    check(tmp_path / "out", by_hand(spec, log, items=table))
    shards = open_shards(tmp_path / "out")
    rows = shards.items().to_pylist()
    assert [row["index"] for row in rows] == list(range(2, 2 + len(rows)))
    domains = [row["domain"] for row in rows]
    assert domains == sorted(domains, key=["books", "toys", "games"].index)  # ranges, in the spec's order
    found = {name for part in shards.iter_sequences() for name in part.column_names if name == "user_domain"}
    assert found == ({"user_domain"} if users == "separate" else set())


def test_domains_that_share_users_and_items_interleave_by_time(tmp_path: Path) -> None:
    """Two tables say different things of the same items."""
    log, table, common = write_domains(tmp_path)
    (brand, tags, size) = ITEM_FEATURES
    tables = [
        {"files": "items-books.csv", "id": "id", "features": [tags]},
        {"files": "items-toys.csv", "id": "id", "features": [size, {**brand, "per_domain": False}]},
    ]
    spec = spec_of(**common, items=tables)
    prepare(spec, str(tmp_path), tmp_path / "out")
    merged: Rows = {
        (None, item): {**table["toys", item], "tags": own["tags"]}
        for (domain, item), own in table.items()
        if domain == "books"
    }
    expected = by_hand(spec, log, items=merged)
    check(tmp_path / "out", expected)
    events, _, _ = expected["sequences"][None, "u1"]
    assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
    assert len({event["domain"] for event in events}) == 3


FORMS: dict[str, Any] = {
    "s": ("s", 1, str),
    "ms": ("ms", 1_000, str),
    "us": ("us", 1_000_000, str),
    "iso": ("iso8601", 1_000_000, lambda us: datetime.fromtimestamp(us / 1e6, UTC).isoformat()),
    "iso of a zone": ("iso8601", 1_000_000, lambda us: datetime.fromtimestamp(us / 1e6, TOKYO).isoformat()),
    "parquet s": ("s", 1, pa.timestamp("ms")),
    "parquet ms": ("ms", 1_000, pa.timestamp("ns")),
    "parquet us": ("us", 1_000_000, pa.timestamp("us", tz="Asia/Tokyo")),
    "parquet iso": ("iso8601", 1_000_000, pa.timestamp("ms")),
    "parquet whole numbers": ("ms", 1_000, pa.int64()),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("one_thread")
def test_forms_of_times(form: str, tmp_path: Path) -> None:
    unit, per_second, written = FORMS[form]
    log = [{**event, "timestamp": event["timestamp"] * per_second} for event in make_log(8, 120)]
    if isinstance(written, pa.DataType):
        columns = {name: [event[name] for event in log] for name in ("user", "item", "behavior")}
        numbers = pa.array([event["timestamp"] for event in log])
        if pa.types.is_timestamp(written):
            own = {1: "s", 1_000: "ms", 1_000_000: "us"}[per_second]
            numbers = numbers.cast(pa.timestamp(own, tz=written.tz)).cast(written)
        pq.write_table(
            pa.table({**columns, "timestamp": numbers}), tmp_path / "log.parquet", row_group_size=50
        )
    else:
        texts = [{**event, "timestamp": written(event["timestamp"])} for event in log]
        write_log(tmp_path / "log.csv", texts)
    source = {"files": "log.*", "columns": COLUMNS, "behavior": {"column": "behavior"}}
    if isinstance(written, pa.DataType):
        source["format"] = "parquet"
    spec = spec_of(events=source, timestamp_unit=unit, sessions={"gap": 5})
    prepare(spec, str(tmp_path), tmp_path / "out")
    check(tmp_path / "out", by_hand(spec, log))
