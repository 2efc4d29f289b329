"""The job on every shape of data, by the spec alone, against the plain Python of `by_hand`."""

from __future__ import annotations

import csv
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.flow.memory import prepare_tables
from behavior.shards.folder import open_shards
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from pipelines.shuffle import FileShuffle
from tests.pipelines.by_hand import Event, Rows, by_hand, rounded
from tests.pipelines.content import content
from tests.pipelines.test_prepare import contents

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp"}
ONE = RunnerOptions(workers=1)
START = 1_700_000_000
TOKYO = timezone(timedelta(hours=9))


def make_log(
    seed: int, events: int, users: int = 12, items: int = 15, domain: str | None = None
) -> list[Event]:
    """Events out of order, many with equal times, some of them twice; some features are missing."""
    rng = random.Random(seed)
    log: list[Event] = []
    for _ in range(events):
        event = {
            "user": f"u{rng.randrange(users)}",
            "item": str(int(rng.expovariate(0.25)) % items),
            "behavior": rng.choice(["view", "view", "buy"]),
            "timestamp": START + rng.randrange(80),
            "device": rng.choice([None, "phone", "phone", "desk", "tv", f"rare{rng.randrange(9)}"]),
            "price": rng.choice([None, round(rng.uniform(-5, 60), 2), float(rng.randrange(4) * 10)]),
            "shop": rng.choice([None, "s1", "s2", "Zürich"]),
            "domain": domain,
        }
        log += [event, event] if rng.random() < 0.1 else [event]
    return log


def write_log(path: Path, log: list[Event], columns: list[str] | None = None) -> None:
    names = columns or ["user", "item", "behavior", "timestamp", "device", "price", "shop"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(log)


def spec_of(**changes: Any) -> DatasetSpec:
    data: dict[str, Any] = {
        "name": "shapes",
        "events": {"files": "log*.csv", "columns": COLUMNS, "behavior": {"column": "behavior"}},
        "timestamp_unit": "s",
        "behaviors": ["view", "buy"],
        "targets": ["buy"],
        "shards": 3,
    }
    return parse_config(DatasetSpec, data | changes, where="test")


def check(folder: Path | Folder, expected: dict) -> None:
    """The data set says what was worked out by hand, items in the same order."""
    found = rounded(content(folder))
    expected = rounded(expected)
    for part, value in expected.items():
        assert found[part] == value, part
    assert list(found["items"]) == list(expected["items"])


FEATURES: list[dict[str, Any]] = [
    {"name": "device"},
    {"name": "often", "column": "device", "min_count": 12},
    {"name": "top", "column": "device", "max_size": 2},
    {"name": "price", "kind": "numeric"},
    {"name": "magnitude", "column": "price", "kind": "numeric", "transform": "log"},
    {"name": "raw", "column": "price", "kind": "numeric", "transform": "none"},
    {
        "name": "band",
        "column": "price",
        "kind": "numeric",
        "transform": "buckets",
        "boundaries": [0, 10.1, 20],
    },
    {"name": "fifth", "column": "price", "kind": "numeric", "transform": "buckets", "quantiles": 5},
    {"name": "shop", "kind": "hashed", "hash_size": 5},
]


def with_features(log: list[Event], lost: tuple[str, ...] = ()) -> list[Event]:
    """Events with the values of all `FEATURES`; columns that are lost are missing everywhere."""
    there = [f for f in FEATURES if f.get("column", f["name"]) not in lost]
    blank = {f["name"]: None for f in FEATURES}
    return [{**e, **blank, **{f["name"]: e[f.get("column", f["name"])] for f in there}} for e in log]


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


def write_domains(folder: Path) -> tuple[list[Event], Rows, dict[str, Any]]:
    """Three domains in two groups of files: one named by the group, two by a column; and tables of items.

    Returns:
        The log, the features of the items, and what a spec needs beside `domain_ids` and item tables.
    """
    books, rng = make_log(5, 150, items=9, domain="books"), random.Random(6)
    mixed = [{**event, "domain": rng.choice(["toys", "games"])} for event in make_log(7, 200, items=9)]
    write_log(folder / "books.csv", books)
    write_log(folder / "mixed.csv", mixed, ["user", "item", "behavior", "timestamp", "device", "domain"])
    source = {"behavior": {"column": "behavior"}, "features": [{"name": "device", "per_domain": True}]}
    columns = {**COLUMNS, "domain": "domain"}
    events = [
        {**source, "files": "mixed.csv", "columns": columns},
        {**source, "files": "books.csv", "columns": COLUMNS, "domain": "books"},
    ]
    table: Rows = {
        (domain, str(item)): {
            "brand": rng.choice([None, "lego", "penguin", "sega"]),
            "tags": rng.sample(["new", "used", "rare"], rng.randrange(4)),
            "size": rng.choice([None, float(rng.randrange(1, 50))]),
        }
        for domain in ("books", "toys", "games")
        for item in range(1, 12)
    }
    for domain in ("books", "toys", "games"):
        lines = [
            f"{item},{own['brand'] or ''},{'|'.join(own['tags'])},{own['size'] or ''}"
            for (name, item), own in table.items()
            if name == domain
        ]
        (folder / f"items-{domain}.csv").write_text("\n".join(["id,brand,tags,size", *lines, ""]))
    return mixed + books, table, {"events": events, "domains": ["books", "toys", "games"]}


ITEM_FEATURES = [
    {"name": "brand", "per_domain": True},
    {"name": "tags", "kind": "multi_categorical", "min_count": 4},
    {"name": "size", "kind": "numeric"},
]


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


def test_thousands_of_files_make_few_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user has events in many of the files."""
    log, files = make_log(9, 6000, users=40), 3000
    (tmp_path / "raw").mkdir()
    for number in range(files):
        own = log[len(log) * number // files : len(log) * (number + 1) // files]
        write_log(tmp_path / "raw" / f"log{number:05d}.csv", own)
    spills = []
    write = FileShuffle.write

    def counting(self: FileShuffle, *arguments: Any) -> Any:
        spills.append(1)
        return write(self, *arguments)

    monkeypatch.setattr(FileShuffle, "write", counting)
    spec = spec_of()
    prepare(spec, str(tmp_path / "raw"), tmp_path / "out", runner=ONE)
    assert 1 <= len(spills) <= 15
    check(tmp_path / "out", by_hand(spec, log))


def test_a_hot_user_beside_many_small_ones(tmp_path: Path) -> None:
    rng = random.Random(10)
    hot = [("hot", rng.randrange(500), 10_000 + rng.randrange(100_000)) for _ in range(200_000)]
    cold = [(f"u{n}", rng.randrange(500), rng.randrange(50)) for n in range(20_000) for _ in range(3)]
    rows = hot + cold
    rng.shuffle(rows)
    lines = [f"{user},{item},view,{START + time}" for user, item, time in rows]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,behavior,timestamp", *lines]))
    prepare(spec_of(targets=None), str(tmp_path), tmp_path / "out")
    expected: dict[str, list] = {}
    for user, item, time in sorted(rows, key=lambda row: row[2]):
        expected.setdefault(user, []).append((str(item), START + time))
    shards = open_shards(tmp_path / "out")
    ids = [None, None, *shards.items().column("id").to_pylist()]
    found = {}
    for part in shards.iter_sequences():
        for row in part.to_pylist():
            assert (row["train_end"], row["valid_end"]) == (len(row["item"]) - 2, len(row["item"]) - 1)
            found[row["user"]] = [(ids[i], t) for i, t in zip(row["item"], row["timestamp"], strict=True)]
    assert found == expected


def everything(folder: Path) -> tuple[DatasetSpec, dict]:
    """A spec with a bit of everything, and what it must come to."""
    log, table, common = write_domains(folder)
    mixed, books = ([e for e in log if (e["domain"] == "books") == own] for own in (False, True))
    device, others = {"name": "device", "per_domain": True, "min_count": 2}, FEATURES[1:]
    common["events"][0]["features"] = [device]
    common["events"][1]["features"] = [device, *others]
    domains = ("toys", "books", "games")
    spec = spec_of(
        **common,
        items=[
            {"files": f"items-{domain}.csv", "id": "id", "domain": domain, "features": ITEM_FEATURES}
            for domain in domains
        ],
        users={"files": "users.csv", "id": "id", "domain": "toys", "features": [{"name": "city"}]},
        domain_ids={"items": "separate", "users": "separate"},
        filters={"duplicates": True, "repeats": True, "start": START + 3, "min_item_events": 2},
        vocabulary={"min_count": 3, "oov": 2},
        sessions={"gap": 4},
        max_events=25,
        split={"kind": "next_basket"},
        shards=4,
    )
    (folder / "users.csv").write_text("id,city\nu1,Rome\nu2,Oslo\nu3,\nu4,Rome\n")
    users: Rows = {("toys", f"u{n}"): {"city": city} for n, city in ((1, "Rome"), (2, "Oslo"), (4, "Rome"))}
    lost = [{**e, **{f["name"]: None for f in others}} for e in mixed]
    full = [{**e, "device": own["device"]} for e, own in zip(with_features(books), books, strict=True)]
    return spec, by_hand(spec, lost + full, items=table, users=users)


def test_everything_at_once(tmp_path: Path) -> None:
    spec, expected = everything(tmp_path)
    manifest = prepare(spec, str(tmp_path), tmp_path / "out").manifest
    check(tmp_path / "out", expected)
    library = prepare_tables(spec, tmp_path)
    shards = open_shards(tmp_path / "out")
    assert library.counts == manifest.counts
    for found, table in ((shards.items(), library.tables.items), (shards.users(), library.tables.users)):
        assert rounded(found.to_pylist()) == rounded(table.to_pylist())
    assert shards.stats() == library.stats
    rows = [row for part in shards.iter_sequences() for row in part.to_pylist()]

    def by_user(rows: list[dict]) -> dict:
        return {(r["user_domain"], r["user"]): {**r, "pack": 0} for r in rows}

    assert rounded(by_user(rows)) == rounded(by_user(library.sequences.to_pylist()))


@pytest.mark.slow
def test_everything_in_several_processes_and_through_the_engine_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", 2048)
    spec, _ = everything(tmp_path)
    portable = ["--job_endpoint=embed", "--environment_type=LOOPBACK"]
    runners = {
        "one": ONE,
        "threads": RunnerOptions(),
        "two": RunnerOptions(workers=2),
        "portable": RunnerOptions("PortableRunner", beam=portable),
        "engine": RunnerOptions("PortableRunner", beam=portable, shuffle="engine"),
    }
    for name, runner in runners.items():
        prepare(spec, str(tmp_path), tmp_path / name, runner=runner)
    one = contents(tmp_path / "one")
    for name in runners:
        assert contents(tmp_path / name) == one, name


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
