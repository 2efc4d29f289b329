"""Single steps: parts that add up to a whole, and the guard over losses and weights."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.fabric import Fabric

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task, make_loader
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.data.loading import MemorySource
from models.distributed.processes import SINGLE
from models.optim import build_optimizer
from models.runs.checkpoint import load_checkpoint
from models.tasks.flops import StepWork
from models.tasks.loss_batch import LossBatch
from models.tasks.task import Task
from models.training import loop, train
from models.training import losses as losses_module
from models.training.clock import Clock
from models.training.failed_step import load_failed_step
from models.training.losses import StepLosses
from models.training.observer import Silent, StepProgress
from models.training.report import Reporter
from models.training.state import TrainState
from models.training.step import Stepper, TakenStep, steps_of
from tests.models.shards import load
from tests.models.training.training_runs import circle, records, settings

EXACT = ("loss.kind=full_softmax", "model.dropout=0")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


def batches(config: RunConfig, shards: Path) -> list[PackedBatch]:
    """Those of the first epoch."""
    loader = make_loader(config, MemorySource([load(shards)]), ("view",))
    made = list(loader)
    loader.close()
    return made


def task_of(config: RunConfig, shards: Path) -> Task:
    torch.manual_seed(0)
    return build_task(config, open_shards(shards))


def stepper(config: RunConfig, task: Task) -> Stepper:
    optimizer = build_optimizer(config.optimizer, task.objective)
    fabric = Fabric(accelerator="cpu", devices=1)
    return Stepper(fabric, SINGLE, task, optimizer, config.optimizer.clip_norm)


def blank_targets(batch: PackedBatch) -> PackedBatch:
    """The same batch, of which nothing is to be predicted."""
    blank = batch.to("cpu", non_blocking=False)
    blank.target.zero_()
    return blank


def test_a_step_in_parts_has_the_gradient_of_all_positions_taken_one_by_one(shards: Path) -> None:
    """Parts of different sizes, one of them without targets; the norm is that before clipping."""
    config = settings(*EXACT, "train.batch_sequences=5", "optimizer.clip_norm=1e9")
    parts = batches(config, shards)[:3]
    parts.append(blank_targets(batches(config, shards)[3]))
    oracle = task_of(config, shards).objective
    single = [(part, position) for part in parts for position in LossBatch(part).positions.tolist()]
    total = torch.stack([oracle(LossBatch(part, torch.tensor([place]))) for part, place in single]).mean()
    total.backward()
    task = task_of(config, shards)
    taken = stepper(config, task).take(parts, 1, 0)
    assert taken is not None
    assert sum(loss.item() for loss in taken.losses) == pytest.approx(total.item(), rel=1e-5)
    assert taken.work.positions == len(single)
    assert taken.work.tokens == sum(part.num_events for part in parts)
    assert taken.work.squared_lengths == sum(n * n for part in parts for n in part.lengths.tolist())
    expected = dict(oracle.named_parameters())
    for name, parameter in task.objective.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-6, msg=name)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in expected.values() if p.grad is not None))
    assert taken.gradient_norm is not None
    assert taken.gradient_norm.item() == pytest.approx(norm, rel=1e-4)


def test_a_step_without_any_target_changes_nothing(shards: Path) -> None:
    config = settings(*EXACT, "optimizer.weight_decay=0.5")
    task = task_of(config, shards)
    before = {name: weight.clone() for name, weight in task.objective.state_dict().items()}
    parts = [blank_targets(batch) for batch in batches(config, shards)[:2]]
    assert stepper(config, task).take(parts, 1, 0) is None
    assert all(torch.equal(weight, before[name]) for name, weight in task.objective.state_dict().items())


def test_no_step_reaches_into_the_next_epoch(shards: Path) -> None:
    """31 sequences in batches of 4 are 8 batches."""
    config = settings("train.batch_sequences=4")
    loader = make_loader(config, MemorySource([load(shards)]), ("view",))
    assert [len(parts) for parts in steps_of(loader, 3)] == [3, 3, 2]
    assert (loader.epoch, loader.seen) == (1, 0)
    loader.close()


def test_the_number_of_parts_changes_nothing_but_rounding(shards: Path, tmp_path: Path) -> None:
    for parts in (1, 2, 4):
        train(settings(*EXACT, f"train.accumulate={parts}"), shards, tmp_path / str(parts))
    whole = records(tmp_path / "1")
    for parts in ("2", "4"):
        for mine, theirs in zip(records(tmp_path / parts), whole, strict=True):
            assert mine["step"] == theirs["step"]
            assert mine.get("loss", 0.0) == pytest.approx(theirs.get("loss", 0.0), rel=1e-4)


def test_a_batch_that_does_not_divide_into_parts_is_refused() -> None:
    with pytest.raises(UserError, match=r"batch_sequences \(8\) is no multiple of accumulate \(3\)"):
        settings("train.accumulate=3")


def test_a_loss_that_is_no_number_stops_with_its_step_and_saves_its_batches(
    shards: Path, tmp_path: Path
) -> None:
    """Weights of 1e38 give finite scores no more; the checkpoint after step 1 holds them, still finite."""
    config = settings("optimizer.learning_rate=1e38", "train.accumulate=2", "train.log_every_steps=100")
    run = tmp_path / "run"
    with pytest.raises(UserError, match="the loss became nan at step 2; its batches are saved") as caught:
        train(config, shards, run)
    path = run / "failed" / "step-2.safetensors"
    assert caught.value.where == str(path)
    assert load_checkpoint(run / "checkpoints" / "last.safetensors").progress["step"] == 0
    saved, note = load_failed_step(path)
    assert (note["step"], note["epoch"], note["learning_rate"]) == (2, 1, 1e38)
    assert note["losses"] == ["nan", "nan"]
    for mine, theirs in zip(saved, batches(config, shards)[2:4], strict=True):
        assert torch.equal(mine.item, theirs.item)
        assert torch.equal(mine.target, theirs.target)
        assert torch.equal(mine.offsets, theirs.offsets)
        assert mine.has_time == theirs.has_time


def test_weights_that_are_no_numbers_do_not_replace_a_checkpoint(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of a step is of the weights before it: only they show what the step has done."""
    run = tmp_path / "run"
    train(settings("train.epochs=1"), shards, run)
    checkpoint = run / "checkpoints" / "last.safetensors"
    before = checkpoint.read_bytes()
    monkeypatch.setattr(loop, "learning_rate_factor", lambda *_: math.inf)
    with pytest.raises(UserError, match="the weights are no longer finite numbers after step 5"):
        train(settings("train.checkpoint_every_steps=5"), shards, run, resume=True)
    assert checkpoint.read_bytes() == before
    assert load_failed_step(run / "failed" / "step-5.safetensors")[1]["step"] == 5


def step(number: int, loss: float, norm: float | None = None, tokens: float = 10.0) -> TakenStep:
    return TakenStep(
        number=number,
        epoch=0,
        parts=[PackedBatch.from_lists([[2, 3, 4]]), PackedBatch.from_lists([[5, 6], [7]])],
        losses=[torch.tensor(loss / 2), torch.tensor(loss / 2)],
        gradient_norm=None if norm is None else torch.tensor(norm),
        learning_rate=0.1,
        work=StepWork(tokens, 0.0, 1.0),
    )


def test_a_stretch_tells_the_means_of_its_steps(tmp_path: Path) -> None:
    losses = StepLosses(SINGLE, tmp_path)
    losses.add(step(1, 3.0, norm=1.0), flops=100.0)
    losses.check()
    losses.add(step(2, 5.0, norm=2.0), flops=200.0)
    assert len(losses) == 2
    stretch = losses.take()
    assert (stretch.loss, stretch.gradient_norm) == (4.0, 1.5)
    assert stretch.tokens_per_second == pytest.approx(20.0 / stretch.seconds)
    assert stretch.flops_per_second == pytest.approx(300.0 / stretch.seconds)
    assert len(losses) == 0


def test_steps_after_the_end_of_a_stretch_belong_to_the_next(tmp_path: Path) -> None:
    losses = StepLosses(SINGLE, tmp_path)
    losses.add(step(1, 3.0, norm=1.0), flops=100.0)
    losses.check()
    losses.add(step(2, 5.0, norm=2.0), flops=200.0)
    losses.end()
    losses.add(step(3, 7.0, norm=4.0), flops=400.0)
    first = losses.take()
    assert (first.loss, first.gradient_norm, len(losses)) == (4.0, 1.5, 1)
    assert first.flops_per_second == pytest.approx(300.0 / first.seconds)
    second = losses.take()
    assert (second.loss, second.gradient_norm) == (7.0, 4.0)
    assert second.flops_per_second == pytest.approx(400.0 / second.seconds)


def test_a_report_that_is_begun_is_of_the_steps_until_then(tmp_path: Path) -> None:
    told: list[StepProgress] = []
    observer, written = Silent(), []
    observer.stepped = told.append  # type: ignore[method-assign]
    log = SimpleNamespace(write=lambda kind, number, record: written.append((kind, number, record)))
    loader = SimpleNamespace(epoch=0, waited=0.0, batches_left=7, __len__=lambda: 10)
    pace = SimpleNamespace(loader=loader, clock=Clock(0.0, 0), steps_left=lambda epoch: loader.batches_left)
    losses, state = StepLosses(SINGLE, tmp_path / "failed"), TrainState()
    optimizer = SimpleNamespace(learning_rate=0.1)
    reporter = Reporter(pace, losses, log, observer, None)  # type: ignore[arg-type]
    reporter.report_later(state, optimizer)  # type: ignore[arg-type]
    assert reporter.due is None  # nothing to report
    losses.add(step(1, 3.0), 1.0)
    state.step = 1
    reporter.report_later(state, optimizer)  # type: ignore[arg-type]
    losses.add(step(2, math.nan), 1.0)
    state.step, loader.batches_left, optimizer.learning_rate = 2, 6, 0.2
    assert not told
    reporter.settle(state)
    reporter.settle(state)
    (progress,) = told
    assert (progress.step, progress.total_steps, progress.loss, progress.learning_rate) == (1, 8, 3.0, 0.1)
    assert [(kind, number) for kind, number, _ in written] == [("train", 1)]
    with pytest.raises(UserError, match="at step 2"):
        reporter.report(state, optimizer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "norm", "what"),
    [(math.inf, None, "the loss became inf"), (1.0, math.nan, "the gradient became nan")],
)
def test_the_first_bad_step_is_named(tmp_path: Path, loss: float, norm: float | None, what: str) -> None:
    losses = StepLosses(SINGLE, tmp_path)
    good = None if norm is None else 1.0
    losses.add(step(6, 1.0, good), 0.0)
    losses.add(step(7, loss, norm), 0.0)
    losses.add(step(8, math.nan, norm), 0.0)
    with pytest.raises(UserError, match=f"{what} at step 7"):
        losses.take()
    assert [path.name for path in tmp_path.iterdir()] == ["step-7.safetensors"]


def test_few_batches_are_held_until_their_losses_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses_module, "_MOST_TOKENS", 25)
    losses = StepLosses(SINGLE, tmp_path)
    held = []
    for number in range(1, 7):
        losses.add(step(number, 1.0), 0.0)
        held.append(len(losses.unread))
    assert held == [1, 2, 0, 1, 2, 0]
    assert losses.take().loss == 1.0
    losses.add(step(8, math.nan), 0.0)
    losses.add(step(9, 1.0), 0.0)
    with pytest.raises(UserError, match="step 8"):
        losses.add(step(10, 1.0), 0.0)


def test_weights_are_looked_at_however_few_are_wrong(tmp_path: Path) -> None:
    losses = StepLosses(SINGLE, tmp_path)
    good, bad = torch.ones(3, 2), torch.ones(3, 2)
    bad[2, 1] = math.nan
    losses.check_weights([good, bad])  # no step was taken: whatever they are, this run did not make them
    losses.add(step(4, 1.0), 0.0)
    losses.check_weights([good])
    with pytest.raises(UserError, match="after step 4"):
        losses.check_weights([good, bad])
