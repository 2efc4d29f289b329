"""Items never seen in training: only their features tell them apart, and only a tower ranks by these."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from behavior.shards.manifest import FeatureEntry
from models.config import load_config
from models.data.versions import NEW, RowMaps
from models.evaluate_run import evaluate
from models.runs.checkpoint import load_checkpoint, load_weights
from models.runs.regrow import regrow
from models.serving.load import load_model
from models.tasks.retrieval import RetrievalTask
from models.training import train
from tests.models.shards import User, World, write_shards
from tests.models.training.training_runs import same_weights, settings

GROUPS, WARM = 6, 4
ITEMS = GROUPS * (WARM + 1)
"""The first of a group is never seen in training."""


def item(group: int, number: int) -> int:
    return 2 + group % GROUPS * (WARM + 1) + number


def rounds(folder: Path) -> Path:
    """Users go round the groups, any item of each; the last event is the next group's new item."""
    users = []
    for start in range(90):
        warm = [item(start + step, 1 + (7 * start + step * step) % WARM) for step in range(9)]
        users.append(User([*warm, item(start + 9, 0)], 8, 9))
    world = World(
        num_items=ITEMS,
        item_features=[
            FeatureEntry(
                name="group",
                kind="categorical",
                encoding="hash",
                vocabulary_size=2 + GROUPS,
                hash_size=GROUPS,
            )
        ],
        item_columns={"group": pa.array([2 + i // (WARM + 1) for i in range(ITEMS)], pa.int32())},
    )
    return write_shards(folder, users, world)


def hit_rate(shards: Path, run: Path, *settings: str) -> tuple[float, float]:
    """Of new items among the five best (a group has as many), and in the slice of untrained items."""
    config = load_config(
        "default",
        [
            "model.dim=16",
            "model.blocks=1",
            "model.max_length=8",
            "model.bias=position",
            "model.dropout=0.0",
            "loss.kind=full_softmax",
            "train.device=cpu",
            "train.epochs=12",
            "train.validate_every_epochs=12",
            "train.batch_sequences=15",
            "optimizer.learning_rate=0.01",
            "evaluation.exclude_seen=false",
            "evaluation.cutoffs=[5]",
            "evaluation.bootstrap=0",
            "train.select_by=hr@5",
            *settings,
        ],
    )
    train(config, shards, run)
    report = evaluate(run, device="cpu", by=["popularity"])
    return report["hr@5"], report["breakdown"]["popularity"]["untrained"]["hr@5"]


@pytest.mark.parametrize("dropout", [0.2, 1.0])
@pytest.mark.parametrize("negatives", [[], ["loss.kind=sampled_softmax", "loss.negatives.count=16"]])
def test_a_tower_ranks_items_that_it_has_never_seen(
    dropout: float, negatives: list[str], tmp_path: Path
) -> None:
    settings = ("embedding.features=tower", f"embedding.id_dropout={dropout}", *negatives)
    found, untrained = hit_rate(rounds(tmp_path / "data"), tmp_path / "run", *settings)
    assert found == untrained
    assert found > 0.95


def test_items_of_a_later_version_are_ranked_by_their_features(tmp_path: Path) -> None:
    """Their rows are as fresh as they are: what the tower makes of them is what it makes of unknown ids."""
    shards = rounds(tmp_path / "data")
    _, _ = hit_rate(shards, tmp_path / "run", "embedding.features=tower")
    task = load_model(tmp_path / "run", device="cpu").task
    assert isinstance(task, RetrievalTask)
    one_less = RowMaps(torch.cat([torch.arange(ITEMS + 1), torch.tensor([NEW])]), torch.arange(2), {})
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert saved.model["embedding.fusion.trained"][-1] == 1.0
    moved = regrow(saved, task.table_rows(one_less), {}, seed=1)
    assert (moved.model["embedding.item.weight"][-1] != saved.model["embedding.item.weight"][-1]).all()
    first = task.model.item_vectors(torch.tensor([0, ITEMS - 1]))  # the group's untrained item, and its last
    load_weights(task.model, moved.model, tmp_path)
    other = task.model.eval().item_vectors(torch.tensor([0, ITEMS - (WARM + 1), ITEMS - 1]))
    torch.testing.assert_close(other[0], first[0])
    torch.testing.assert_close(other[2], other[1])  # of one group, and neither known
    assert (first[1] - other[2]).abs().max() > 1e-3


def test_a_tower_without_ids_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    shards, weights = rounds(tmp_path / "data"), []
    for run, epochs in (("whole", [2]), ("parts", [1, 2])):
        for number, last in enumerate(epochs):
            config = settings("embedding.features=tower", "embedding.id_dropout=1", f"train.epochs={last}")
            train(config, shards, tmp_path / run, resume=number > 0)
        weights.append(load_checkpoint(tmp_path / run / "checkpoints" / "last.safetensors").model)
    assert same_weights(*weights)


def test_ids_alone_cannot(tmp_path: Path) -> None:
    found, _ = hit_rate(rounds(tmp_path / "data"), tmp_path / "run")
    assert found < 0.3
