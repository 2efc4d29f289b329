"""`--append --frozen`: what was fitted for the first version stays, against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.flow.previous import flag_for_adding
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import Manifest
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.append import append
from pipelines.prepare import prepare
from tests.cli.conftest import Lrm, lrm
from tests.pipelines.content import content

__all__ = ["lrm"]
pytestmark = pytest.mark.usefixtures("one_thread")

FITTED = [
    {"name": "price", "kind": "numeric"},
    {"name": "band", "column": "price", "kind": "numeric", "transform": "buckets", "quantiles": 4},
]
SPEC: dict[str, Any] = {
    "name": "frozen",
    "events": {
        "files": "old.csv",
        "columns": {"user": "user", "item": "item", "timestamp": "time"},
        "features": [*FITTED, {"name": "device"}],
    },
    "items": {"files": "items.csv", "id": "item", "features": [{**each, "name": f"{each['name']}_of_item",
                                                                "column": "price"} for each in FITTED]},
    "timestamp_unit": "s",
    "shards": 2,
}  # fmt: skip


def write_events(path: Path, seed: int, events: int, center: float) -> list[tuple[str, str, int, float]]:
    """Events at times of their own, each with a price of its own; a tenth is missing."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{rng.integers(9)}", f"i{rng.integers(20)}", 1000 * seed + n, round(rng.normal(center, 9), 3))
        for n in range(events)
    ]
    rows = [(*row[:3], float("nan") if n % 10 == 9 else row[3]) for n, row in enumerate(rows)]
    lines = [f"{u},{i},{t},{'' if np.isnan(p) else p},{'ab'[t % 2]}" for u, i, t, p in rows]
    path.write_text("\n".join(["user,item,time,price,device", *lines]) + "\n")
    return rows


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "items.csv").write_text("item,price\n" + "".join(f"i{n},{n * 1.5 + 100}\n" for n in range(25)))
    return folder


def spec_of(**changes: Any) -> DatasetSpec:
    return parse_config(DatasetSpec, SPEC | changes, where="test")


def stored_events(shards: ShardFolder) -> dict[int, tuple[float, int]]:
    """Time of each event -> its price and band as they are stored."""
    found = {}
    for table in shards.iter_sequences():
        columns = [table.column(name).to_pylist() for name in ("timestamp", "price", "band")]
        for times, prices, bands in zip(*columns, strict=True):
            found |= {time: (price, band) for time, price, band in zip(times, prices, bands, strict=True)}
    return found


def entries(manifest: Manifest) -> dict[str, Any]:
    return {entry.name: entry for entry in (*manifest.event_features, *manifest.item_features)}


def test_what_was_fitted_stays_and_new_values_are_encoded_by_it(logs: Path, tmp_path: Path) -> None:
    out, spec = tmp_path / "out", spec_of()
    write_events(logs / "old.csv", seed=1, events=300, center=50)
    rows = write_events(logs / "new.csv", seed=2, events=200, center=80)
    prepare(spec, str(logs), out)
    first = open_shards(out)
    before, fitted = stored_events(first), entries(first.manifest)
    items = {row["id"]: row for row in first.items().to_pylist()}
    append(spec, str(logs), out, [str(logs / "new.csv")], frozen=True)
    second = open_shards(out)
    second.verify()
    after, now = stored_events(second), entries(second.manifest)
    for name in ("price", "band", "price_of_item", "band_of_item"):
        assert now[name] == fitted[name]
    assert second.manifest.spec_digest == spec.digest()
    assert second.manifest.spec == first.manifest.spec
    assert len(after) == 500
    np.testing.assert_array_equal([after[time] for time in before], list(before.values()))
    mean, deviation = fitted["price"].mean, fitted["price"].deviation
    edges = np.array(fitted["band"].boundaries, np.float32)
    for _, _, time, price in rows:
        expected = np.float32((price - mean) / deviation)
        band = 1 if np.isnan(price) else 2 + int((edges <= np.float32(price)).sum())
        np.testing.assert_array_equal(np.float32(after[time][0]), expected)
        assert after[time][1] == band
    for row in second.items().to_pylist():
        if row["id"] in items:
            for name in ("price_of_item", "band_of_item"):
                assert row[name] == items[row["id"]][name]


def test_adding_day_by_day_equals_adding_at_once(logs: Path, tmp_path: Path) -> None:
    spec = spec_of()
    write_events(logs / "old.csv", seed=1, events=100, center=50)
    for seed, name in ((2, "new-1.csv"), (3, "new-2.csv")):
        write_events(logs / name, seed=seed, events=60, center=20 * seed)
    for out, calls in (("daily", (["new-1.csv"], ["new-2.csv"])), ("once", (["new-1.csv", "new-2.csv"],))):
        prepare(spec, str(logs), tmp_path / out)
        for names in calls:
            append(spec, str(logs), tmp_path / out, [str(logs / name) for name in names], frozen=True)
    assert content(tmp_path / "daily") == content(tmp_path / "once")


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({}, "--frozen"),
        ({"items": []}, "--frozen"),
        ({"items": [], "events": {**SPEC["events"], "features": []}}, None),
        ({"filters": {"k_core": 2}}, "--full"),
        ({"items": [], "events": {**SPEC["events"], "features": []}, "max_events": 5}, "--full"),
    ],
)
def test_the_flag_that_a_spec_takes(changes: dict, flag: str | None) -> None:
    assert flag_for_adding(spec_of(**changes)) == flag


def test_what_adding_takes_is_said_when_a_data_set_is_prepared(logs: Path, tmp_path: Path, lrm: Lrm) -> None:
    write_events(logs / "old.csv", seed=1, events=50, center=50)
    write_events(logs / "new.csv", seed=2, events=50, center=50)
    spec = logs / "spec.yaml"
    spec.write_text(spec_of().model_dump_json())  # JSON is YAML
    command = ("prepare", spec, "--out", tmp_path / "out")
    said = " ".join(lrm(*command).out.split())
    assert "--append takes --frozen: feature 'price_of_item' of items: transform: standardize" in said
    with pytest.raises(UserError, match="feature 'band' of events: quantiles depend on all") as error:
        append(spec_of(), str(logs), tmp_path / "out", [str(logs / "new.csv")])
    assert "add --frozen" in str(error.value.fix)
    assert lrm(*command, "--append", logs / "new.csv", "--frozen").code == 0
    assert lrm(*command, "--frozen").code == 2
    assert lrm(*command, "--append", logs / "new.csv", "--frozen", "--full").code == 2
