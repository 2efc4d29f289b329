"""Steps that could be captured, of models with side information."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lightning.fabric import Fabric

from behavior.shards.manifest import FeatureEntry
from models.attention import dispatch
from models.attention.dispatch import Kernel
from models.optim import build_optimizer
from models.training import static_input
from models.training.captured_step import CapturedStepper
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.shards import World, leave_one_out, write_shards
from tests.models.training.test_captured_step import EXACT, LONGEST, NothingRead, check_alike
from tests.models.training.test_training_steps import batches, task_of
from tests.models.training.training_runs import ITEMS, settings

KINDS = [
    FeatureEntry(name="brand", kind="categorical", vocabulary_size=5),
    FeatureEntry(name="words", kind="multi_categorical", vocabulary_size=6),
]
AGE = FeatureEntry(name="age", kind="categorical", encoding="hash", vocabulary_size=5, hash_size=3)


def shards(folder: Path) -> Path:
    rows = [[2 + (start + step) % ITEMS for step in range(8 + start % 3)] for start in range(13)]
    world = World(
        num_items=ITEMS,
        item_features=KINDS,
        item_columns={
            "brand": pa.array([2 + item % 3 for item in range(ITEMS)], pa.int32()),
            "words": pa.array([[2 + item % 4, 5][: item % 3] for item in range(ITEMS)], pa.list_(pa.int32())),
        },
        user_features=[AGE],
        user_columns={"age": pa.array([2 + user % 3 for user in range(len(rows))], pa.int32())},
    )
    return write_shards(folder, leave_one_out(*rows), world)


@pytest.mark.parametrize(
    ("kind", "features"), [("hstu", "attention_only"), ("llama", "attention_only"), ("hstu", "tower")]
)
def test_padding_changes_no_loss_and_no_weight(
    kind: str, features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    more = ("embedding.id_dropout=0",) if features == "tower" else ()
    config = settings(*EXACT, f"model.kind={kind}", f"embedding.features={features}", *more)
    assert check_alike(config, shards(tmp_path), monkeypatch) > 1


@pytest.mark.parametrize(
    "changes",
    [
        ["embedding.features=attention_only", "embedding.user_features=all"],
        ["embedding.features=tower", "loss.views.weight=1", "loss.attributes_weight=1"],
        ["embedding.features=gated", "loss.views.weight=1", "loss.views.masking=random"],
        ["embedding.features=concat", "embedding.max_feature_values=1", "loss.views.weight=1"],
    ],
)
def test_nothing_is_read_back_in_a_step(
    changes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward, backward and update, all but attention: what a CUDA graph would hold."""
    blind = Kernel("blind", list, lambda _: [], lambda inputs: inputs.v * inputs.q.sum() * inputs.k.sum())
    monkeypatch.setattr(dispatch, "KERNELS", (blind,))
    config, folder = settings(*changes), shards(tmp_path)
    task = task_of(config, folder)

    def watched(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with NothingRead():
                return work()

        return run

    optimizer = build_optimizer(config.optimizer, task.objective)
    captured = CapturedStepper(
        Fabric(accelerator="cpu", devices=1), task, optimizer, config.optimizer.clip_norm, LONGEST, watched
    )
    assert captured.take(batches(config, folder)[:1], 1, 0) is not None
