"""A run serves histories when its data set is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from behavior.errors import UserError
from models import load_model
from models.evaluate_run import evaluate
from tests.models.serving.recommend_world import events, prepare, run_on

ROWS = [dict(zip(("user", "item", "behavior", "timestamp"), event, strict=True)) for event in events()]
WANTED = {"k": 5, "at": 1_000_400_000, "columns": ["genres", "main", "price"], "where": ["main=Drama"]}


@pytest.mark.parametrize(
    "settings",
    [
        ("embedding.features=mean", "loss.history=learned", "loss.jumps=learned"),
        ("loader.part=all", "model.input_behaviors=target", "train.stop_after_epochs=1"),
    ],
)
def test_the_same_without_the_data_set(tmp_path: Path, settings: tuple[str, ...]) -> None:
    data = prepare(tmp_path)
    run = run_on(data, tmp_path / "run", settings)
    with_data = load_model(run, device="cpu").recommend(histories=ROWS, **WANTED).table()
    shutil.rmtree(data)
    alone = load_model(run, device="cpu")
    found = alone.recommend(histories=ROWS, **WANTED)
    assert found.table() == with_data
    assert len(with_data) > 100
    assert any("at training" in note for note in found.notes)
    with pytest.raises(UserError, match="the run was trained on the data set that was there") as caught:
        alone.recommend()
    assert "--data DIR" in str(caught.value)
    if "loader.part=all" not in settings:
        with pytest.raises(UserError, match="the run was trained on the data set that was there"):
            evaluate(run, device="cpu")


def test_runs_of_before_kept_nothing(tmp_path: Path) -> None:
    data = prepare(tmp_path)
    run = run_on(data, tmp_path / "run")
    shutil.rmtree(run / "dataset")
    assert load_model(run, device="cpu").recommend(k=1, at=0).table().num_rows == 40
    shutil.rmtree(data)
    with pytest.raises(UserError, match="the run was trained on the data set that was there"):
        load_model(run, device="cpu")


def test_what_is_kept_follows_the_data_set(tmp_path: Path) -> None:
    """A run that goes on keeps what it goes on with; damage is found."""
    data = prepare(tmp_path)
    run = run_on(data, tmp_path / "run")
    names = sorted(str(path.relative_to(run / "dataset")) for path in (run / "dataset").rglob("*.*"))
    assert names == [
        "items.parquet",
        "manifest.json",
        "serving.json",
        "stats.json",
        "vocabulary/genres.parquet",
        "vocabulary/main.parquet",
    ]
    about, items = run / "dataset" / "serving.json", run / "dataset" / "items.parquet"
    data.rename(tmp_path / "moved")
    history = [{"user": "a", "item": "i1", "behavior": "buy", "timestamp": 1_000_000_000}]
    whole = about.read_text()
    for damaged in ("", "{}", '{"protocol": 3}', whole[:-9]):
        about.write_text(damaged)
        with pytest.raises(UserError, match="what the run keeps of its data set is damaged"):
            load_model(run, device="cpu").recommend(histories=history, at=0)
    about.write_text(whole)
    assert load_model(run, device="cpu").recommend(histories=history, at=0, k=2).table().num_rows == 2
    (tmp_path / "moved").rename(data)
    items.write_bytes(items.read_bytes()[:-8])
    shutil.rmtree(data)
    with pytest.raises(UserError, match=r"items\.parquet"):
        load_model(run, device="cpu")
