"""Layouts in training and evaluation: the columns they ask for, captured steps, their work in tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavior.shards.folder import open_shards
from models.attention import dispatch
from models.build import build_task
from models.config import load_config
from models.data.batch import PackedBatch
from models.data.columns import Column, Columns
from models.data.origins import Own
from models.evaluate_run import evaluate
from models.inputs.layouts import LAYOUTS
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.tokens import Tokens
from models.training import static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.evaluation import evaluation_oracle, run_oracle
from tests.models.inputs.layout_models import (
    LENGTHS,
    batch_of,
    make_events,
)
from tests.models.inputs.layout_oracle import SENTENCES
from tests.models.inputs.layouts import OTHERS
from tests.models.shards import write_shards
from tests.models.training import test_captured_step, test_captured_training
from tests.models.training.training_runs import circle, settings

TWO = ("view", "buy")
OURS = list(LAYOUTS)
"""Those of the package."""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each is all that a layout needs to be chosen by `embedding.layout`."""
    for name, make in OTHERS.items():
        monkeypatch.setitem(LAYOUTS, name, make)


@pytest.mark.parametrize("layout", [*OURS, *OTHERS])
def test_a_run_is_evaluated_by_the_event_that_asks(layout: str, tmp_path: Path) -> None:
    """Trained and evaluated in batches, against the model asked for one user after the other."""
    users = evaluation_oracle.history_users()
    shards = write_shards(tmp_path / "data", users, evaluation_oracle.WORLD)
    told = [f"embedding.behaviors={'add' if layout in ('event', 'candidates') else 'none'}"]
    told.append(f"embedding.query_behavior={'none' if layout == 'behavior_first' else 'add'}")
    config = load_config("default", [*run_oracle.SETTINGS, *told, f"embedding.layout={layout}"])
    run_oracle.check_run(config, shards, tmp_path / "run", users, "first", evaluation_oracle.BUYS)


@pytest.mark.parametrize("layout", SENTENCES)
@pytest.mark.parametrize("kind", ["hstu", "llama"])
def test_steps_of_fixed_size_are_those_of_lengths_known(
    layout: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a captured CUDA graph is made of: padding changes no loss and no weight."""
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    config = settings(*test_captured_step.EXACT, f"model.kind={kind}", f"embedding.layout={layout}")
    assert test_captured_step.check_alike(config, circle(tmp_path, TWO), monkeypatch) > 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("layout", SENTENCES)
@pytest.mark.parametrize("kind", ["hstu", "fuxi", "llama"])
def test_replayed_cuda_graphs_take_every_layout(layout: str, kind: str, tmp_path: Path) -> None:
    """Over four epochs of several sizes each, with the kernels of the GPU."""
    shards = circle(tmp_path / "data", TWO)
    config = (
        *test_captured_training.EXACT,
        "train.device=cuda",
        "train.epochs=4",
        f"model.kind={kind}",
        f"embedding.layout={layout}",
    )
    train(settings(*config), shards, tmp_path / "plain")
    train(settings(*config, test_captured_training.CAPTURED), shards, tmp_path / "captured")
    test_captured_training.assert_alike(tmp_path / "captured", tmp_path / "plain", 1e-3)


class TwiceTheTime(OneTokenPerEvent):
    """Keys are told their time by a column of the layout's own."""

    when = Column("when", origin=Own("timestamp"))
    columns = Columns.merged(OneTokenPerEvent.columns, [when])

    def tokens(self, batch: PackedBatch) -> Tokens:
        return replace(super().tokens(batch), timestamp=batch["when"])


def test_a_column_that_a_layout_asks_for_arrives_in_training_and_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAYOUTS, "twice", lambda sizes: TwiceTheTime())
    shards = circle(tmp_path / "data")
    reports = []
    for layout in ("event", "twice"):
        train(settings(f"embedding.layout={layout}"), shards, tmp_path / layout)
        reports.append(evaluate(tmp_path / layout, device="cpu") | {"run": ""})
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("event", (4, 1, 0, 7)),
        ("interleaved", (8, 2, 0, 14)),
        ("behavior_first", (9, 3, 1, 15)),
        ("items_and_behaviors", (10, 4, 2, 16)),
    ],
)
def test_work_is_counted_in_tokens(layout: str, expected: tuple[int, ...], tmp_path: Path) -> None:
    task = build_task(settings(f"embedding.layout={layout}"), open_shards(circle(tmp_path, TWO)))
    assert task.token_lengths(batch_of(make_events(LENGTHS))) == expected


def test_work_in_channels_is_that_of_each(tmp_path: Path) -> None:
    task = build_task(settings("embedding.layout=channels"), open_shards(circle(tmp_path, TWO)))
    batch = PackedBatch.from_lists([[2, 3, 4], [5]], behaviors=[[1, 2, 2], [2]])
    assert task.token_lengths(batch) == (1, 2, 0, 1)


@pytest.mark.parametrize(
    ("layout", "length", "local"),
    [
        ("event", 8, (3, 1)),
        ("items_and_behaviors", 8, (6, 2)),  # two tokens an event, besides context
        ("event", 4, None),  # no history is longer than window and front together
    ],
)
def test_windows_of_attention_count_events(
    tmp_path: Path, layout: str, length: int, local: tuple[int, int] | None
) -> None:
    changes = [f"embedding.layout={layout}", f"model.max_length={length}"]
    config = settings(*changes, "model.attention_window=3", "model.attention_global=1")
    assert build_task(config, open_shards(circle(tmp_path))).model.backbone.local == local
