"""The retrieval task: vectors and scores, and what is minimised on one process or several."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.backbones import build_backbone
from models.backbones.config import BackboneConfig
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval import RetrievalModel, RetrievalObjective
from tests.models.warm import start

FIRST, ITEMS, DIM, LENGTH = 2, 6, 4, 5


def make_model(normalize: bool = True) -> RetrievalModel:
    torch.manual_seed(0)
    catalog = ItemCatalog(FIRST + ITEMS, FIRST, torch.arange(FIRST + ITEMS))
    embedding = InputEmbedding(EmbeddingConfig(), catalog, 1, DIM, LENGTH, dropout=0.0)
    backbone = build_backbone(BackboneConfig(dim=DIM, dropout=0.0), max_length=LENGTH)
    model = RetrievalModel(embedding, backbone, first_item=FIRST, num_items=ITEMS, normalize=normalize)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model


def make_objective(**config: Any) -> RetrievalObjective:
    sampler = NegativeSampler(torch.arange(FIRST + ITEMS), FIRST)
    loss = RetrievalLoss(LossConfig(**config), sampler)
    return RetrievalObjective(make_model(loss.config.normalize), loss)


def make_batch(*sequences: list[int], targets: bool = True) -> PackedBatch:
    """Each event predicts the one after it, unless told otherwise."""
    batch = PackedBatch.from_lists([items[:-1] for items in sequences])
    target = torch.tensor([item for items in sequences for item in items[1:]], dtype=torch.int64)
    batch.target.copy_(target if targets else torch.zeros_like(target))
    return batch


BATCH = [[2, 3, 4, 5], [7, 6, 2], [5, 5]]


@pytest.mark.parametrize("normalize", [True, False])
def test_scores_are_cosines_or_dot_products(normalize: bool) -> None:
    """The same vectors score in training and in evaluation."""
    model = make_model(normalize)
    batch = make_batch(*BATCH)
    hidden = model.backbone(*model.embedding(batch))
    table = model.embedding.item.weight
    queries, vectors = model(batch), model.item_vectors()
    for last in (2, 4, 5):
        for rank in range(ITEMS):
            q, item = hidden[last], table[FIRST + rank]
            expected = q @ item / (q.norm() * item.norm()) if normalize else q @ item
            torch.testing.assert_close(queries[last] @ vectors[rank], expected)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", [(2,), (2, 2), (3, 4)])
def test_vectors_of_some_items_are_those_among_all(normalize: bool, shape: tuple[int, ...]) -> None:
    """Looked up one by one, or among all where that is fewer."""
    model = make_model(normalize)
    ranks = torch.randint(ITEMS, shape)
    torch.testing.assert_close(model.item_vectors(ranks), model.item_vectors()[ranks])


def test_only_positions_with_a_target_count() -> None:
    objective = make_objective(kind="full_softmax", temperature=0.5)
    batch = make_batch(*BATCH)
    batch.target[1] = batch.target[4] = 0
    queries, items = objective.model(batch), objective.model.item_vectors()
    terms = [
        torch.nn.functional.cross_entropy(queries[token] @ items.T / 0.5, batch.target[token] - FIRST)
        for token in (0, 2, 3, 5)
    ]
    torch.testing.assert_close(objective(LossBatch(batch)), sum(terms) / 4)


def gradients(module: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in module.parameters()]
    assert all(gradient is not None for gradient in found)
    return [gradient for gradient in found if gradient is not None]


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax", "bce"])
@pytest.mark.parametrize("sequences", [BATCH, []])
def test_without_positions_every_parameter_has_a_zero_gradient(kind: str, sequences: list[list[int]]) -> None:
    """Even where a weight is no number already."""
    objective = make_objective(kind=kind)
    with torch.no_grad():
        objective.model.embedding.position[0, 0] = float("nan")
    loss = objective(LossBatch(make_batch(*sequences, targets=False)), denominator=3.0)
    assert loss.item() == 0.0
    loss.backward()
    assert not any(gradient.any() for gradient in gradients(objective))


def test_a_common_denominator_makes_parts_add_up_to_the_whole() -> None:
    objective = make_objective(kind="full_softmax")
    whole = objective(LossBatch(make_batch(*BATCH)))
    steps = [LossBatch(make_batch(*BATCH[:2])), LossBatch(make_batch(*BATCH[2:])), LossBatch(make_batch())]
    total = sum(len(step.positions) for step in steps)
    torch.testing.assert_close(sum(objective(step, denominator=total) for step in steps), whole)
    plain = sum(objective(step) for step in steps[:2]) / 2
    assert plain.item() != pytest.approx(whole.item(), rel=1e-3)


def train_one_step(rank: int, folder: str) -> None:
    """The gradients of one of two processes, of which the second has nothing to predict in its first step."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    objective = make_objective(kind="full_softmax", temperature=1.0)
    replica = DistributedDataParallel(objective)
    for number, shares in enumerate(([BATCH, []], [BATCH[:2], BATCH[2:]])):
        step = LossBatch(make_batch(*shares[rank]))
        replica.zero_grad()
        replica(step, denominator=6 / 2).backward()
        if rank == 1:
            torch.save(gradients(objective), f"{folder}/{number}.pt")
    del replica  # gloo may wait for ever where its last user goes after it
    torch.distributed.destroy_process_group()


def test_processes_with_unequal_shares_get_the_gradient_of_one() -> None:
    objective = make_objective(kind="full_softmax", temperature=1.0)
    objective(LossBatch(make_batch(*BATCH))).backward()
    with tempfile.TemporaryDirectory() as folder:
        processes = [start(train_one_step, number, folder) for number in range(2)]
        for process in processes:
            process.join(100)
            assert process.exitcode == 0
        for number in range(2):
            found = torch.load(Path(folder) / f"{number}.pt")
            for a, b in zip(found, gradients(objective), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
