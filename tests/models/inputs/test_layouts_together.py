"""Layouts of behaviors together with everything else that a run can have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavior.shards.folder import open_shards
from models.attention import dispatch
from models.build import build_task
from models.data.loading import ShardSource
from models.data.sequences import concat_sequences
from models.evaluation.targets import find_targets
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval import RetrievalTask, model_scorer
from models.training import static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.training import test_captured_step
from tests.models.training.test_training_steps import batches
from tests.models.training.training_runs import circle, settings, weights

TWO = ("view", "buy")
LAYOUTS = ("event", "interleaved", "behavior_first", "channels")
EVERYTHING = (
    "loss.history=learned",
    "loss.next_behavior_weight=0.3",
    "loss.behavior_weights={view: 0.5}",
    "model.attention_window=3",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"), TWO)


def of(layout: str, *overrides: str) -> tuple[str, ...]:
    return (f"embedding.layout={layout}", *overrides)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["hstu", "llama"])
def test_steps_of_fixed_size_have_all_losses(
    layout: str, kind: str, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """History logits, the next behavior, weights and a window, as a CUDA graph would replay them."""
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    config = settings(*test_captured_step.EXACT, *EVERYTHING, *of(layout, f"model.kind={kind}"))
    assert test_captured_step.check_alike(config, shards, monkeypatch) > 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_activation_checkpointing_changes_nothing(layout: str, shards: Path, tmp_path: Path) -> None:
    for how in ("none", "block"):
        config = settings(*EVERYTHING, *of(layout, "train.epochs=1", f"model.recompute={how}"))
        train(config, shards, tmp_path / how)
    kept, made_anew = weights(tmp_path / "none"), weights(tmp_path / "block")
    for name, weight in kept.items():
        torch.testing.assert_close(made_anew[name], weight, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_short_histories_may_be_repeated(layout: str, shards: Path, tmp_path: Path) -> None:
    repeat = "loader.sampling.repeat={copies: most, separation: delimiter}"
    config = settings(*of(layout, "train.epochs=1", "model.max_length=20", repeat))
    made = batches(config, shards)
    assert max(batch.max_length for batch in made) > 10  # two copies of eight events, or so
    objective = build_task(config, open_shards(shards)).objective
    for batch in made:
        assert bool(objective(LossBatch(batch)).isfinite())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("told", [False, True])
def test_scores_know_the_behavior_of_the_target_only_where_it_is_a_condition(
    layout: str, told: bool, shards: Path
) -> None:
    """The same log, in which the events to predict are of the other behavior."""
    if layout == "behavior_first" and not told:
        pytest.skip("is always told")
    asks = "add" if told and layout != "behavior_first" else "none"
    task = build_task(settings(*of(layout, f"embedding.query_behavior={asks}")), open_shards(shards))
    assert isinstance(task, RetrievalTask)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.normal_(0.0, 0.4)
    data = concat_sequences(list(ShardSource(open_shards(shards), columns=task.columns)))
    targets = find_targets(data, "test")
    behavior = data.behavior.copy()
    behavior[targets.event] = 3 - behavior[targets.event]
    other = replace(data, events={**data.events, "behavior": behavior})
    score = model_scorer(task.model, task.config)
    one, two = (score(log, targets).columns(0, 9) for log in (data, other))
    assert torch.equal(one, two) is not told
    assert task.model.is_told_behavior is told
