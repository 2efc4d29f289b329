"""Jump logits that learn apart from the rest of the model, which learns as it would without them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from behavior.shards.folder import open_shards
from models.build import build_task
from models.data.loading import ShardSource
from models.distributed.processes import Processes
from models.distributed.tables import HeldItems, RowShards
from models.evaluation.held_scores import HeldScores
from models.evaluation.sparse import SparseMass
from models.serving.load import load_model
from models.serving.score import History
from models.tasks.retrieval import RetrievalModel
from models.tasks.task import Task
from models.training import train
from tests.models.distributed.threads import together
from tests.models.history.jumps.test_jump_runs import JUMPS, shards
from tests.models.training.test_training_steps import batches
from tests.models.training.training_runs import settings

FULL = ("loss.kind=full_softmax", "model.dropout=0", "loss.history=learned", "loss.history_dim=4")
APART = (*JUMPS, "loss.jump_training=apart", "loss.jump_share=0.3")


def task_of(data: Path, *changes: str) -> tuple[Task, RetrievalModel]:
    torch.manual_seed(0)
    task = build_task(settings(*FULL, *changes), open_shards(data))
    model = task.model
    assert isinstance(model, RetrievalModel)
    if model.jumps is not None:
        model.jumps.count(ShardSource(open_shards(data)))
    return task, model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards(tmp_path_factory.mktemp("apart"))


def test_the_rest_learns_as_without_and_jumps_by_the_share_of_votes_for_the_target(data: Path) -> None:
    (without, plain), (apart, model) = task_of(data), task_of(data, *APART)
    model.load_state_dict(plain.state_dict() | {n: w for n, w in model.state_dict().items() if "jumps" in n})
    batch = batches(settings(*FULL), data)[0]
    losses = [task.objective(task.prepare(batch)) for task in (without, apart)]
    assert model.jumps is not None
    on_target, on_rest = model.jumps(model.outputs(batch).detach(), batch)
    found = [
        -math.log(math.exp(target) / (math.exp(target) + math.exp(rest)))
        for target, rest in zip(on_target.tolist(), on_rest.tolist(), strict=True)
        if target > -math.inf
    ]
    own = sum(found) / int((batch.target > 0).sum())
    assert (losses[1] - losses[0]).item() == pytest.approx(own, rel=1e-4)
    for loss in losses:
        loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    for name, weight in plain.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(gradients.pop(name), weight.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert all(name.startswith("jumps.") for name in gradients)
    # What all votes have in common changes nothing, and is no parameter.
    assert all(gradient is not None and gradient.abs().max() > 1e-6 for gradient in gradients.values())
    assert model.jumps.constant is None


def test_scores_are_logarithms_of_the_mixture(data: Path, tmp_path: Path) -> None:
    train(settings(*FULL, *APART), data, tmp_path / "run")
    loaded = load_model(tmp_path / "run", device="cpu")
    model = loaded.module
    assert isinstance(model, RetrievalModel)
    histories = [
        History([4, 5, 6, 4], [1, 2, 1, 2], [0, 60, 90, 2000]),
        History([1], [1], [0]),  # unknown: nothing votes
    ]
    mixed = loaded.score(histories)
    model.jump_share = None
    jumps, model.jumps = model.jumps, None
    plain = loaded.score(histories).double().softmax(1)
    assert jumps is not None
    model.jumps, model.jump_share = jumps, 0.999999
    votes = loaded.score(histories[:1]).double().softmax(1)
    expected = 0.7 * plain[0] + 0.3 * votes[0]
    torch.testing.assert_close(mixed[0].double().softmax(0), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[1].double().softmax(0), plain[1], rtol=1e-4, atol=1e-6)


def test_mixing_where_items_are_divided() -> None:
    """Three processes with queries of their own, one without any, against one that has all items."""
    first, items, dim = 2, 7, 3
    torch.manual_seed(1)
    vectors, queries = (
        torch.randn(items, dim),
        [torch.randn(2, dim), torch.randn(0, dim), torch.randn(1, dim)],
    )
    masses = [[(0, 1), (0, 4), (1, 4)], [], [(0, 6)]]

    def sparse(rank: int, weight: float) -> SparseMass:
        pairs = np.array(masses[rank], np.int64).reshape(-1, 2)
        return SparseMass.summed(pairs[:, 0], pairs[:, 1], torch.full((len(pairs),), weight).log())

    def work(processes: Processes) -> list[float]:
        rank = processes.rank
        rows = RowShards(first + items, rank, processes.count)
        held = HeldItems(processes, rows, first)
        own = held.filled(vectors[rows.held(first, torch.device("cpu")) - first])
        scores = HeldScores(queries[rank], own, held, sparse(rank, 2.0)).mixed_with(sparse(rank, 0.5), 0.4)
        target = np.full(len(queries[rank]), 4, np.int64)
        return scores.rank(None, target, items).tolist()

    for rank, ranks in enumerate(together(3, work)):
        scores = queries[rank].double() @ vectors.double().T
        for row, item in masses[rank]:
            scores[row, item] = math.log(math.exp(scores[row, item]) + 2.0)
        probabilities = 0.6 * scores.softmax(1)
        for row, item in masses[rank]:
            probabilities[row, item] += 0.4 * 0.5
        by_hand = [1.0 + float((row >= row[4]).sum() - 1) for row in probabilities]
        assert ranks == by_hand
