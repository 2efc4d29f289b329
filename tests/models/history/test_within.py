"""Mass of past events, votes and trends where only items of the target's domain compete."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from behavior.shards.folder import open_shards
from models.build import build_task, make_loader, sequences_of
from models.data.batch import PackedBatch
from models.data.item_domains import TARGET_DOMAIN
from models.history.jumps import JumpLogits
from models.history.jumps.tables import FoldTables
from models.history.within import rest_of
from models.tasks.retrieval import RetrievalModel, RetrievalTask
from models.tasks.retrieval.evaluator import newest_scores
from models.tasks.retrieval.scoring import scoring
from tests.models.evaluation.domain_world import make_log
from tests.models.training.training_runs import settings

FOLDS = ("loss.jumps=learned", "loss.jump_folds=2", "loss.jump_neighbors=4", "loss.jump_dim=4")
EXACT = (
    *("loss.jumps=learned", "loss.jump_dim=4", "loss.jump_own=subtract", "loss.jump_tables=[both, forward]"),
    "loss.jump_neighbors=null",
)
PARTS = {
    "history": ("loss.history=learned", "loss.history_dim=4"),
    "jumps of folds": FOLDS,
    "exact jumps": EXACT,
    "trends": ("loss.trends=learned", "loss.trend_hours=[0.02, 1]"),
    "all": ("loss.history=learned", *EXACT, "loss.trends=learned"),
}


def make(tmp_path: Path, *parts: str) -> tuple[RetrievalTask, PackedBatch]:
    """A task with parameters at random, and a batch of all its training samples."""
    shards = open_shards(make_log(users=12).write(tmp_path))
    config = settings(
        *("loss.kind=full_softmax", "loss.temperature=0.5", "loss.negatives.domain=within", *parts),
        *("train.batch_sequences=64", "model.dropout=0"),
    )
    torch.manual_seed(0)
    task = build_task(config, shards)
    assert isinstance(task, RetrievalTask)
    for part in (task.model.history, task.model.jumps, task.model.trends):
        for parameter in () if part is None else part.parameters():
            torch.nn.init.normal_(parameter, 1.0)
    loader = make_loader(config, sequences_of(shards, config, task.columns), shards.manifest.behaviors)
    task.look_at(loader)
    batch = next(iter(loader))
    loader.close()
    task.objective.eval()
    return task, batch


def until(batch: PackedBatch, sequence: int, event: int) -> PackedBatch:
    """One sequence up to an event."""
    begin = int(batch.offsets[sequence])
    values = {name: values[begin : event + 1] for name, values in batch.values.items()}
    offsets = torch.tensor([0, event + 1 - begin])
    return PackedBatch(
        batch.columns, values, offsets, batch.sequence[sequence : sequence + 1], batch.has_time
    )


def scores_after(model: RetrievalModel, batch: PackedBatch) -> Tensor:
    """[items] float64 logits of all items in ranking."""
    with scoring(model):
        items = model.held_items.filled(model.item_vectors())
        found = newest_scores(model, model.outputs(batch), batch, batch.item, items)
        return found.columns(0, model.num_items)[0].double()


@pytest.mark.parametrize("part", PARTS)
def test_the_loss_is_that_of_a_softmax_over_the_domain(part: str, tmp_path: Path) -> None:
    """Over what ranking gives each item of the domain, whatever others have."""
    task, batch = make(tmp_path, *PARTS[part])
    member, losses, elsewhere = task.objective.loss.sampler.member, [], []
    for sequence in range(batch.num_sequences):
        for event in range(int(batch.offsets[sequence]), int(batch.offsets[sequence + 1])):
            target = int(batch.target[event]) - task.model.first_item
            if target < 0:
                continue
            logits = scores_after(task.model, until(batch, sequence, event))
            own = member[batch[TARGET_DOMAIN][event].long()]
            losses.append(logits[own].logsumexp(0) - logits[target])
            elsewhere.append(logits.logsumexp(0) - logits[target])
    expected = torch.stack(losses).mean()
    found = task.objective(task.prepare(batch))
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-4)
    assert abs(float(torch.stack(elsewhere).mean() - expected)) > 0.1
    found.backward()
    _check_gradients(task, batch)


def _check_gradients(task: RetrievalTask, batch: PackedBatch) -> None:
    """Against differences along the gradient."""
    parts = (task.model.history, task.model.jumps, task.model.trends)
    parameters = [each for part in parts if part is not None for each in part.parameters()]
    gradients = [each.grad for each in parameters]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    length = torch.stack([(gradient**2).sum() for gradient in gradients if gradient is not None]).sum().sqrt()
    assert length > 1e-3
    around = []
    for step in (0.02, -0.04):
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                assert gradient is not None
                parameter += step * gradient / length
            around.append(float(task.objective(task.prepare(batch))))
    assert (around[0] - around[1]) / 0.04 == pytest.approx(float(length), rel=0.02)


def test_what_a_domain_has_of_the_rows_of_folds(tmp_path: Path) -> None:
    task, _ = make(tmp_path, *FOLDS)
    jumps, member = task.model.jumps, task.objective.loss.sampler.member
    assert isinstance(jumps, JumpLogits)
    tables = jumps.counted
    assert isinstance(tables, FoldTables)
    by_hand = torch.zeros(len(member), len(tables.has_followers), dtype=torch.float64)
    for key, share in zip(tables.keys.tolist()[:-1], tables.log_share.exp().tolist(), strict=False):
        for domain, own in enumerate(member.tolist()):
            by_hand[domain, key // tables.items] += share * own[key % tables.items]
    table, item = torch.meshgrid(torch.arange(2), torch.arange(tables.items), indexing="ij")
    for domain in range(len(member)):
        found = tables.log_within(table, item, torch.full_like(item, domain)).exp().flatten()
        torch.testing.assert_close(found.double(), by_hand[domain], rtol=1e-5, atol=1e-7)
    assert int((by_hand[1] == 0).sum() - (by_hand[0] == 0).sum()) > 0


def test_what_is_left_of_logarithms() -> None:
    nothing = float("-inf")
    whole = torch.tensor([0.5, 0.5, 0.5, 0.0]).log()
    share = torch.tensor([0.2, 0.5, 0.0, 0.0]).log()
    assert rest_of(whole, share).exp().tolist() == pytest.approx([0.3, 0.0, 0.5, 0.0])
    assert rest_of(whole, share)[[1, 3]].tolist() == [nothing, nothing]
