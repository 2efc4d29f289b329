"""A retrieval model whose items are divided among processes, against one that has them all."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.backbones import build_backbone
from models.backbones.config import BackboneConfig
from models.data.batch import PackedBatch
from models.distributed.processes import Processes
from models.distributed.tables import ShardedTable, WholeTable, count_parameters
from models.evaluation.held_scores import HeldScores
from models.evaluation.scores import ProductScores, rank_targets
from models.history.terms import HistoryLogits
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval import RetrievalModel, RetrievalObjective
from tests.models.distributed.threads import together
from tests.models.inputs.test_embedding import make_catalog
from tests.models.losses.loss_oracle import ORACLES

# Items 2 to 4. The second process has events and nothing to predict, the third one not even events.
BATCHES = [([[2, 3, 4, 2], [1, 3, 2]], True), ([[4, 4, 3]], False), ([], False), ([[3, 2], [4, 2, 2]], True)]
COUNT, DIM = len(BATCHES), 4
ONE_BY_ONE = Lock()


def make_batch(sequences: list[list[int]], has_targets: bool) -> PackedBatch:
    """Each event predicts the one after it."""
    batch = PackedBatch.from_lists([items[:-1] for items in sequences])
    if has_targets:
        batch.target.copy_(torch.tensor([item for items in sequences for item in items[1:]]))
    return batch


def make_objective(
    processes: Processes | None, rank: int, features: str = "mean", **loss: Any
) -> RetrievalObjective:
    """With negatives that depend on the process alone."""
    catalog = make_catalog()

    def make_items(num: int, dim: int) -> Any:
        return WholeTable(num, dim) if processes is None else ShardedTable(num, dim, processes)

    with ONE_BY_ONE:
        torch.manual_seed(0)
        embedding = InputEmbedding(
            EmbeddingConfig(features=features, id_dropout=0.0 if features == "tower" else None),  # type: ignore[arg-type]
            catalog,
            num_behaviors=1,
            dim=DIM,
            max_length=6,
            dropout=0.0,
            make_items=make_items,
        )
        backbone = build_backbone(BackboneConfig(dim=DIM, dropout=0.0), max_length=6)
        history = None
        if loss.get("history") == "learned":
            history = HistoryLogits(
                ("product", "behavior", "recency", "latest", "closed"),
                width=DIM,
                dim=2,
                level=0.0,
                num_behaviors=1,
                target_behaviors=(1,),
                first_item=2,
                num_item_ids=5,
                item_keys=loss.get("history_keys") == "items",
            )
    model = RetrievalModel(
        embedding, backbone, first_item=2, num_items=3, normalize=True, temperature=0.5, history=history
    )
    sampler = NegativeSampler(catalog.train_count, 2)
    random = torch.Generator().manual_seed(rank)
    draw: Callable[..., Tensor] = lambda *shape: torch.randint(3, shape, generator=random)  # noqa: E731
    sampler.draw = draw  # type: ignore[method-assign]
    return RetrievalObjective(model, RetrievalLoss(LossConfig(**loss), sampler, model.held_items))


def negatives(source: str, sharing: str, count: int = 2) -> dict[str, Any]:
    return {"source": source, "sharing": sharing, "count": count}


@pytest.mark.parametrize(
    "loss",
    [
        {"kind": "full_softmax", "label_smoothing": 0.1},
        {"kind": "sampled_softmax", "negatives": negatives("catalog", "batch", count=5)},
        *({"kind": kind, "negatives": negatives("catalog", "position")} for kind in ORACLES),
        {"kind": "sampled_softmax", "negatives": negatives("in_batch", "batch") | {"logq": True}},
        {"kind": "sampled_softmax", "negatives": negatives("mixed", "position")},
        {"kind": "bce", "negatives": negatives("mixed", "batch")},
        {"kind": "full_softmax", "label_smoothing": 0.1, "history": "learned"},
        {"kind": "full_softmax", "history": "learned", "history_keys": "items"},
        {"kind": "sampled_softmax", "negatives": negatives("catalog", "position"), "history": "learned"},
    ],
    ids=lambda loss: "-".join(map(str, [*loss.values()])),
)
def test_losses_and_gradients_are_those_of_whole_tables(loss: dict[str, Any]) -> None:
    """Of item features, too. More look-ups than items make no difference, nor does who has nothing to do."""

    def run(objective: RetrievalObjective, rank: int) -> Tensor:
        value: Tensor = objective(LossBatch(make_batch(*BATCHES[rank])), 7.0 / COUNT)
        value.backward()
        return value.detach()

    def work(processes: Processes) -> tuple[Tensor, RetrievalObjective]:
        objective = make_objective(processes, processes.rank, **loss)
        value = run(objective, processes.rank)
        objective.model.embedding.item.finish_gradients()
        return value, objective

    found = together(COUNT, work)
    wholes = [make_objective(None, rank, **loss) for rank in range(COUNT)]
    for rank, (value, _) in enumerate(found):
        torch.testing.assert_close(value, run(wholes[rank], rank))
    wanted = averaged(wholes)
    gradients = averaged([objective for _, objective in found])
    item = "model.embedding.item.weight"
    assert len(wanted) > 5
    for name, gradient in wanted.items():
        if name != item:
            # Sums of large numbers may be small.
            tolerance = max(1e-5, 1e-6 * gradient.abs().max().item())
            torch.testing.assert_close(gradients[name], gradient, rtol=1.3e-6, atol=tolerance, msg=name)
    for _, objective in found:
        table = objective.model.embedding.item
        assert table.weight.grad is not None
        torch.testing.assert_close(table.weight.grad, table.shards.take(wanted[item]))


@pytest.mark.parametrize("features", ["concat", "gated", "tower"])
def test_fusions_with_weights_of_their_own(features: str) -> None:
    test_losses_and_gradients_are_those_of_whole_tables({"kind": "full_softmax", "features": features})


def averaged(objectives: list[RetrievalObjective]) -> dict[str, Tensor]:
    """Gradients, as DDP averages them; of divided tables, which differ in shape, nothing of use."""
    named = [dict(objective.named_parameters()) for objective in objectives]
    means = {}
    for name, first in named[0].items():
        gradients = [parameters[name].grad for parameters in named]
        same = [gradient for gradient in gradients if gradient is not None and gradient.shape == first.shape]
        means[name] = torch.stack(same).mean(0)
        assert len(same) == len(objectives) or name.endswith("item.weight")
    return means


@pytest.mark.parametrize("features", ["none", "add"])
@pytest.mark.parametrize("cells", [1 << 20, 8])
@pytest.mark.parametrize("count", [2, 4])
def test_rankings_are_those_of_whole_tables(features: str, cells: int, count: int) -> None:
    """Each process has targets of its own; the third one has none, and the fourth one no item."""
    batches = [make_batch(sequences, False) for sequences, _ in BATCHES]
    targets = [np.array(items, np.int64) for items in ([0, -1], [0], [], [1, 2])]

    def work(processes: Processes) -> Tensor:
        model, batch = make_objective(processes, processes.rank, features).model, batches[processes.rank]
        held, target = model.held_items, targets[processes.rank]
        with torch.no_grad():
            query = model(batch)[batch.offsets[1:] - 1]
            scores = HeldScores(query, held.filled(model.item_vectors()), held)
            return scores.rank(np.arange(len(target)), target, 3, cells=cells)

    model = make_objective(None, 0, features).model
    seen = set()
    for ranks, batch, target in zip(together(count, work), batches, targets, strict=False):
        with torch.no_grad():
            whole = ProductScores(model(batch)[batch.offsets[1:] - 1], model.item_vectors())
        assert torch.equal(ranks, rank_targets(whole, target, 3))
        seen.update(ranks.tolist())
    assert len(seen) > 2


def test_parameters_are_counted_wherever_they_are() -> None:
    whole = sum(parameter.numel() for parameter in make_objective(None, 0).model.parameters())
    assert count_parameters(make_objective(None, 0).model) == whole
    assert together(3, lambda processes: count_parameters(make_objective(processes, 0).model)) == [whole] * 3
