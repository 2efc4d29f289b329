"""docs/serving.md: NDCG computed from the log and a file of recommendations is what evaluation reports."""

from __future__ import annotations

import os
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import behavior
import models
from tests.pages import DOCS

USERS = 200


def of_real_data(folder: Path) -> None:
    """The ratings of some users of MovieLens-1M, as published."""
    raw = Path(os.environ["LRM_DATA"]) / "ml-1m"
    with (raw / "ratings.dat").open(encoding="latin-1") as file:
        lines = [line for line in file if int(line.split("::")[0]) <= USERS]
    (folder / "ratings.dat").write_text("".join(lines))
    for name in ("movies.dat", "users.dat"):
        (folder / name).write_bytes((raw / name).read_bytes())


@pytest.mark.skipif("LRM_DATA" not in os.environ, reason="LRM_DATA is not set: no ml-1m/")
def test_ndcg_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ml-1m").mkdir()
    of_real_data(Path("ml-1m"))
    behavior.prepare("ml-1m", "data", "ml-1m")
    settings = ["model.max_length=50", "model.dim=16", "loss.kind=full_softmax", "train.epochs=8"]
    settings += ["train.batch_sequences=16", "optimizer.learning_rate=0.01"]
    models.train(models.load_config("default", [*settings, "train.device=cpu"]), "data", "runs/hstu")
    page = (DOCS / "serving.md").read_text(encoding="utf-8")
    section = re.findall(r"## Checked from outside\n(.*?)\n## ", page, re.DOTALL)[0]
    split, judge = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len([line for line in judge.splitlines() if line]) <= 10
    names: dict[str, object] = {}
    exec(split, names)
    models.load_model("runs/hstu", device="cpu").recommend(histories="histories.jsonl", k=10).write(
        "top.parquet"
    )
    printed = StringIO()
    with redirect_stdout(printed):
        exec(judge, names)
    report = models.evaluate("runs/hstu", split="test", device="cpu")
    assert report["users"] == USERS
    assert float(printed.getvalue().split()[1]) == pytest.approx(report["ndcg@10"], abs=1e-12)
    assert report["ndcg@10"] > 0
