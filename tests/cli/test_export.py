"""`lrm similar`, `lrm embed` and `lrm export`, of a run that `lrm train` made."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from tests.cli.conftest import Lrm


def test_similar_items(lrm: Lrm, run: Path, shards: Path) -> None:
    item = pq.read_table(shards / "items.parquet")["id"][0].as_py()
    found = lrm("similar", run, "--item", item, "--k", 3, "--columns", "count", "--json")
    assert found.code == 0, found.err
    rows = json.loads(found.out)["similar"]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    text = lrm("similar", run, "--item", item, "--k", 3).out
    assert all(str(row["item"]) in text for row in rows)
    wrong = lrm("similar", run, "--item", f"{item}00")
    assert (wrong.code, "--item" in wrong.err, "did you mean" in wrong.err) == (1, True, True)


def test_vectors(lrm: Lrm, run: Path, shards: Path, tmp_path: Path) -> None:
    found = lrm("embed", run, "--out", tmp_path / "vectors", "--json")
    assert found.code == 0, found.err
    files = json.loads(found.out)["files"]
    for name, file in files.items():
        assert pq.read_table(tmp_path / "vectors" / name).num_rows == file["rows"] > 0
    again = lrm("embed", run, "--out", tmp_path / "vectors")
    assert (again.code, "not empty" in again.err) == (1, True)
    wrong = lrm("embed", run, "--out", tmp_path / "more", "--at", "tomorrow")
    assert (wrong.code, "--at" in wrong.err) == (2, True)
    assert "width 8" in lrm("embed", run, "--out", tmp_path / "more", "--at", "2026-01-31").out


def test_weights(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    found = lrm("export", run, "--out", tmp_path / "weights", "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["format"] == "safetensors"
    text = lrm("export", run, "--out", tmp_path / "more").out
    assert all(name in text for name in ("weights.safetensors", "export.json", "items.parquet", "score: "))
    assert lrm("export", run, "--out", tmp_path / "other", "--format", "gguf").code == 2
