"""The example with Beam's RunInference gives what `recommend` gives, and a dead letter for what it cannot."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

import models
from tests.models.serving.recommend_world import events, prepare, run_on

EXAMPLE = Path(__file__).parents[1] / "examples" / "run_inference.py"
# Plain DirectRunner would try to download another runner.
LOCAL = ["--runner=FnApiRunner"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inference")
    return run_on(prepare(folder), folder / "run")


def lines(folder: Path, start: str) -> list[dict[str, Any]]:
    paths = sorted(folder.glob(f"{start}-0*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_recommendations_by_run_inference(run: Path, tmp_path: Path) -> None:
    histories: dict[str, dict[str, Any]] = {}
    for user, item, behavior, time in events(seed=8, users=12):
        own = histories.setdefault(user, {"user": user, "item": [], "behavior": [], "timestamp": []})
        for name, value in (("item", item), ("behavior", behavior), ("timestamp", time)):
            own[name].append(value)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(one) + "\n" for one in histories.values()))
    recommend = runpy.run_path(str(EXAMPLE), run_name="run_inference")["recommend"]
    recommend(
        str(run), str(tmp_path / "in.jsonl"), str(tmp_path / "out"), LOCAL, k=3, at="2001-10-01", batch=4
    )
    found = {one["user"]: one["items"] for one in lines(tmp_path, "out")}
    assert set(found) == set(histories)
    expected = models.load_model(run, device="cpu").recommend(
        histories=list(histories.values()), k=3, at="2001-10-01"
    )
    rows = expected.table().to_pylist()
    assert len(rows) == 36
    for row in rows:
        [like] = [one for one in found[row["user"]] if one["rank"] == row["rank"]]
        assert like["item"] == row["item"]
        assert like["score"] == pytest.approx(row["score"], rel=1e-5, abs=1e-6)
    assert not lines(tmp_path, "out-rejected")


def test_a_batch_that_cannot_be_read_is_a_dead_letter(run: Path, tmp_path: Path) -> None:
    good = {"user": "a", "item": ["i1"], "behavior": ["buy"], "timestamp": [1_000_000_000]}
    bad = {**good, "user": "b", "behavior": ["byu"]}
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (good, bad)))
    recommend = runpy.run_path(str(EXAMPLE), run_name="run_inference")["recommend"]
    recommend(str(run), str(tmp_path / "in.jsonl"), str(tmp_path / "out"), LOCAL, k=3, batch=1)
    assert [one["user"] for one in lines(tmp_path, "out")] == ["a"]
    [letter] = lines(tmp_path, "out-rejected")
    assert "behavior 'byu' is not in the data set" in letter["reason"]
    assert letter["batch"] == [bad]
