"""Pieces come back in the input's order, in memory or mapped from a file, whichever shuffle carried them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from behavior.flow.preparation import Preparation
from behavior.runtime import scratch
from behavior.shards.storage import Folder
from behavior.sources.plan import plan_input
from pipelines import shuffle as shuffles
from pipelines.job import PrepareJob
from pipelines.shuffle import EngineShuffle, FileShuffle, Shuffle, in_order
from tests.pipelines.conftest import make_spec, raw

__all__ = ["raw"]


def events(number: int) -> pa.Table:
    return pa.table({"user": [f"u{row % 7}" for row in range(90)], "place": list(range(number, number + 90))})


@pytest.mark.parametrize("way", [FileShuffle(), EngineShuffle()], ids=["files", "engine"])
@pytest.mark.parametrize("case", ["in memory", "in a file", "no room", "a local run"])
def test_in_order(
    way: Shuffle, case: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffles, "_BATCH_BYTES", 300)
    monkeypatch.setattr(shuffles, "ELEMENT_BYTES", 300)
    if case != "in memory":
        monkeypatch.setattr(shuffles, "KEPT_BYTES", 500)
    if case == "no room":

        def full(batches: object, schema: object) -> None:
            next(iter(batches))  # type: ignore[call-overload]
            raise OSError("no room")

        monkeypatch.setattr(scratch, "kept", full)
    work = Folder(str(tmp_path / "work"))
    plan = plan_input(make_spec(), str(raw))
    preparation = Preparation(make_spec(), str(raw), plan, Folder(str(tmp_path / "out")), partitions=2)
    job = PrepareJob(preparation, work, work, timed=case == "a local run")
    sent = [
        (partition, piece)
        for group in (1, 0)
        for flush in (0, 1)
        for partition, piece in way.write(
            job, (group, flush), {1: events(1000 * group + 100 * flush), 0: events(5)}
        )
    ]
    pieces = [piece for partition, piece in sent if partition == 1]
    found = in_order(job, way, reversed(pieces))
    wanted = pa.concat_tables(events(1000 * group + 100 * flush) for group in (0, 1) for flush in (0, 1))
    assert pa.Table.from_batches(found).equals(wanted)
    assert len(found) > 4
