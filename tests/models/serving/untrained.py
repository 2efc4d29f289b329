"""Models of random weights on hand-made shards, as `load_model` would give them, without a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from behavior.shards.folder import open_shards
from models.build import build_task
from models.config import load_config
from models.serving.load import TrainedModel
from models.serving.score import History
from tests.models.shards import User, World, write_shards

SMALL = ["model.dim=8", "model.blocks=2", "model.heads=2", "model.max_length=5"]
WORLD = World(num_items=9, oov=2, behaviors=("view", "buy"), targets=("buy",), files=2)


def users() -> list[User]:
    """One with a single event, others with up to nine, unknown items and items that come again."""
    made = [User([4], 1, 1, behavior=[2], timestamp=[5])]
    for start in range(7):
        count = 3 + start
        items = [1 + (start + step * (1 + start % 3)) % 11 for step in range(count)]
        times = [100 * start + 7 * step * step for step in range(count)]
        behaviors = [1 + (step + start) % 2 for step in range(count - 1)]
        made.append(User(items, count - 2, count - 1, behavior=[*behaviors, 2], timestamp=times))
    return made


def untrained(
    folder: Path, settings: Sequence[str] = (), world: World = WORLD, people: Sequence[User] | None = None
) -> TrainedModel:
    """A model of random weights, in which nothing is zero that could be.

    Args:
        folder: for its shards, which are written where there are none.
        settings: beside `SMALL`.
        world: of the shards.
        people: of the shards; by default `users`.
    """
    if not (folder / "manifest.json").exists():
        write_shards(folder, users() if people is None else people, world)
    shards = open_shards(folder)
    config = load_config("default", [*SMALL, *settings])
    torch.manual_seed(3)
    task = build_task(config, shards)
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            if not name.startswith("embedding.item."):  # whose padding stays zero
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    task.objective.eval()
    return TrainedModel(folder / "run", config, task, shards, "best", {})


def histories(people: Sequence[User], **question: int) -> list[History]:
    """Everything that people did."""
    return [History(p.item, p.behavior, p.timestamp, **question) for p in people]  # type: ignore[arg-type]
