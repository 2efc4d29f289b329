"""`lrm scale` and `lrm report`."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.cli.conftest import Lrm

GRID = {
    "title": "two sizes",
    "set": {"train.epochs": 1, "train.batch_sequences": 16, "train.device": "cpu", "model.max_length": 20},
    "backbones": {"HSTU": None, "Llama": {"model.kind": "llama", "blocks": [1]}},
    "blocks": [1, 2],
    "widths": [8],
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**GRID, **changes}))
    return path


def test_a_grid_from_its_plan_to_its_report(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "scale"
    command = ("scale", write(tmp_path), "--data", shards, "--out", out)
    planned = lrm(*command, "--plan", "--json")
    assert planned.code == 0, planned.err
    rows = json.loads(planned.out)
    assert [row["label"] for row in rows] == ["HSTU, blocks 2, width 8", "HSTU, blocks 1, width 8",
                                              "Llama, blocks 1, width 8"]  # fmt: skip
    assert not (out / "runs").exists()
    done = lrm(*command, "--keep", "none")
    assert done.code == 0, done.err
    assert "3 runs done, 0 left" in done.out
    assert "3 runs, 3 left" in done.out
    assert not list(out.rglob("*.safetensors"))
    again = json.loads(lrm(*command, "--json").out)
    assert len(again["points"]) == 3
    report = lrm("report", out, "--html", tmp_path / "page.html")
    assert report.code == 0, report.err
    assert "two sizes" in (tmp_path / "page.html").read_text()


def test_grids_are_listed_and_errors_say_what_to_do(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    assert "ml-1m/depth-width" in lrm("scale").out
    assert "--data" in lrm("scale", write(tmp_path)).err
    wrong = lrm("scale", write(tmp_path, set={"train.epoch": 1}), "--data", shards)
    assert wrong.code == 2
    assert "train.epoch" in wrong.err
    wrong = lrm("scale", write(tmp_path, blocks=[0]), "--data", shards)
    assert wrong.code == 1
    assert "blocks" in wrong.err
    (tmp_path / "empty").mkdir()
    nothing = lrm("report", tmp_path / "empty")
    assert nothing.code == 1
    assert "no finished run" in nothing.err
