"""Steps that could be captured, of models with side information."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from behavior.shards.manifest import FeatureEntry
from models.attention import dispatch
from models.training import static_input
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.shards import World, leave_one_out, write_shards
from tests.models.training.test_captured_step import EXACT, check_alike
from tests.models.training.training_runs import ITEMS, settings

KINDS = [
    FeatureEntry(name="brand", kind="categorical", vocabulary_size=5),
    FeatureEntry(name="words", kind="multi_categorical", vocabulary_size=6),
]


def shards(folder: Path) -> Path:
    rows = [[2 + (start + step) % ITEMS for step in range(8 + start % 3)] for start in range(13)]
    world = World(
        num_items=ITEMS,
        item_features=KINDS,
        item_columns={
            "brand": pa.array([2 + item % 3 for item in range(ITEMS)], pa.int32()),
            "words": pa.array([[2 + item % 4, 5][: item % 3] for item in range(ITEMS)], pa.list_(pa.int32())),
        },
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
