"""The job on many files, a hot user and everything at once, in one process and in several."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from behavior.flow.memory import prepare_tables
from behavior.shards.folder import open_shards
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from pipelines.shuffle import FileShuffle
from tests.pipelines.by_hand import by_hand, rounded
from tests.pipelines.shapes import ONE, START, check, everything, make_log, spec_of, write_log
from tests.pipelines.test_prepare import contents


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
