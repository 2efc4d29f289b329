"""docs/serving.md: NDCG computed from the log and a file of recommendations is what evaluation reports;
an exported model recommends what the model does."""

from __future__ import annotations

import os
import re
from ast import literal_eval
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import behavior
import models
from models.serving.export.run import export
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


def section(heading: str) -> list[str]:
    """The blocks of Python of one section."""
    page = (DOCS / "serving.md").read_text(encoding="utf-8")
    found = re.findall(rf"\n##+ {heading}\n(.*?)\n##+ ", page, re.DOTALL)
    return re.findall(r"```python\n(.*?)```", found[0], re.DOTALL)


def printed_by(code: str, names: dict[str, object]) -> str:
    printed = StringIO()
    with redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the log, and a run."""
    if "LRM_DATA" not in os.environ:
        pytest.skip("LRM_DATA is not set: no ml-1m/")
    found = tmp_path_factory.mktemp("page")
    (found / "ml-1m").mkdir()
    of_real_data(found / "ml-1m")
    behavior.prepare("ml-1m", str(found / "data"), str(found / "ml-1m"))
    settings = [
        "model.max_length=50",
        "model.dim=16",
        "model.blocks=1",
        "loss.kind=full_softmax",
        "train.epochs=8",
    ]
    settings += ["train.batch_sequences=16", "optimizer.learning_rate=0.01", "train.device=cpu"]
    models.train(models.load_config("default", settings), found / "data", found / "runs" / "hstu")
    return found


def test_ndcg_from_outside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    split, judge = section("Checked from outside")
    assert len([line for line in judge.splitlines() if line]) <= 10
    names: dict[str, object] = {}
    exec(split, names)
    models.load_model("runs/hstu", device="cpu").recommend(histories="histories.jsonl", k=10).write(
        "top.parquet"
    )
    printed = printed_by(judge, names)
    report = models.evaluate("runs/hstu", split="test", device="cpu")
    assert report["users"] == USERS
    assert float(printed.split()[1]) == pytest.approx(report["ndcg@10"], abs=1e-12)
    assert report["ndcg@10"] > 0


def test_an_exported_model_from_outside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    model = models.load_model("runs/hstu", device="cpu")
    export(model, "exported-onnx", "onnx")
    code = next(block for block in section("The model itself") if "onnxruntime" in block)
    names: dict[str, object] = {}
    found = literal_eval(printed_by(code, names))
    assert set(names["numbers"]) >= {2571, 1210}  # type: ignore[call-overload]
    rows = [{"user": 1, "item": item, "timestamp": time} for item, time in names["history"]]  # type: ignore[attr-defined]
    expected = model.recommend(histories=rows, k=5, at=1046476800, exclude_seen=False).table()
    assert [item for item, _ in found] == expected["item"].to_pylist()
    assert [score for _, score in found] == pytest.approx(expected["score"].to_pylist(), abs=2e-6)
