"""Steps from input of fixed sizes: what would be captured, taken on the CPU without a capture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch.utils._python_dispatch import TorchDispatchMode

from behavior.errors import UserError
from models.attention import dispatch
from models.attention.dispatch import Kernel, NoKernelError
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.distributed.processes import SINGLE
from models.optim import build_optimizer
from models.tasks.retrieval import RetrievalObjective
from models.tasks.task import Task
from models.training import static_input
from models.training.captured_step import CapturedStepper, captures_steps
from models.training.step import Stepper
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.losses.loss_oracle import ORACLES
from tests.models.training.test_training_steps import batches, blank_targets, task_of
from tests.models.training.training_runs import circle, settings

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LONGEST = 8
DROPS_NOTHING = "model.dropout=0"
EXACT = (DROPS_NOTHING, "loss.kind=full_softmax")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many sizes for small batches."""
    monkeypatch.setattr(static_input, "_SMALLEST", 4)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)


def draw_the_same(objective: RetrievalObjective, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every position gets the same negatives, however many positions there are."""
    sampler = objective.loss.sampler

    def draw(*shape: int) -> torch.Tensor:
        return (torch.arange(shape[-1]) * 5 % sampler.num_items).expand(shape).contiguous()

    monkeypatch.setattr(sampler, "draw", draw)


def steppers(config: RunConfig, task: Callable[[], Task]) -> tuple[Stepper, CapturedStepper]:
    """A plain one, and one with input of fixed sizes; each with a model of its own, of equal weights."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=config.train.precision)
    made = [task() for _ in range(2)]
    plain, other = (build_optimizer(config.optimizer, one.objective) for one in made)
    clip_norm = config.optimizer.clip_norm
    return (
        Stepper(fabric, SINGLE, made[0], plain, clip_norm),
        CapturedStepper(fabric, made[1], other, clip_norm, LONGEST, lambda work: work),
    )


def some_batches(config: RunConfig, shards: Path) -> list[PackedBatch]:
    """Of several sizes; some tokens of one of them have no target."""
    made = batches(config, shards)
    made[1].target[::3] = 0
    return [*made, PackedBatch.from_lists([[2, 3]], timestamps=[[0, 60]]), made[0]]


def check_alike(
    config: RunConfig, shards: Path, monkeypatch: pytest.MonkeyPatch, tolerance: float = 1e-5
) -> int:
    """Both kinds of steps have the same losses, norms and weights; returns the number of sizes."""

    def task() -> Task:
        made = task_of(config, shards)
        assert isinstance(made.objective, RetrievalObjective)
        draw_the_same(made.objective, monkeypatch)
        return made

    plain, captured = steppers(config, task)
    for number, batch in enumerate(some_batches(config, shards), 1):
        results = []
        for stepper in (plain, captured):
            stepper.optimizer.scale_learning_rates(1 / number)
            taken = stepper.take([batch], number, 0)
            assert taken is not None
            results.append(taken)
        one, other = results
        assert (one.work, one.learning_rate) == (other.work, other.learning_rate)
        torch.testing.assert_close(one.losses, other.losses, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(one.gradient_norm, other.gradient_norm, rtol=tolerance, atol=tolerance)
    weights = dict(plain.module.named_parameters())
    other_weights = dict(captured.module.named_parameters())
    for name, weight in weights.items():
        torch.testing.assert_close(other_weights[name], weight, rtol=tolerance, atol=tolerance, msg=name)
    return len(captured.steps)


@pytest.mark.usefixtures("reading", "small_sizes")
@pytest.mark.parametrize("kind", ["hstu", "fuxi", "gpt", "llama", "sasrec"])
def test_padding_changes_no_loss_and_no_weight(
    kind: str, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*EXACT, f"model.kind={kind}", "model.blocks=2", "optimizer.clip_norm=0.1")
    assert check_alike(config, shards, monkeypatch) > 2


@pytest.mark.usefixtures("reading", "small_sizes")
@pytest.mark.parametrize(
    "changes",
    [
        ["loss.kind=full_softmax"],
        *([f"loss.kind={kind}", "loss.negatives.count=5"] for kind in ORACLES if kind != "full_softmax"),
        ["loss.negatives.count=5", "loss.negatives.sharing=batch", "loss.label_smoothing=0.1"],
        ["loss.negatives.source=in_batch", "loss.negatives.logq=true"],
        ["loss.negatives.source=in_batch", "optimizer.item_table=sparse_adam", "optimizer.clip_norm=0.1"],
        ["loss.negatives.source=mixed", "loss.negatives.logq=true", "loss.negatives.count=5"],
        ["loss.kind=bce", "loss.negatives.count=1", "loss.normalize=false", "loss.temperature=1"],
        ["embedding.behaviors=add", "embedding.query_behavior=add"],
        ["loss.history=learned", "loss.negatives.count=5"],
        ["loss.history=learned", "loss.kind=full_softmax", "loss.label_smoothing=0.1"],
        ["optimizer.weight_decay=0.1", "optimizer.decay_on=linear", "optimizer.clip_norm=1"],
        ["model.attention_window=3", "model.attention_global=1", "loss.kind=full_softmax"],
        ["optimizer.item_table=rowwise_adagrad", "optimizer.item_learning_rate=0.1"],
    ],
    ids=" ".join,
)
def test_nor_does_it_with_other_losses_and_optimizers(
    changes: list[str], shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_alike(settings(DROPS_NOTHING, *changes), shards, monkeypatch)


@pytest.mark.usefixtures("reading", "small_sizes")
def test_nor_does_it_in_mixed_precision(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_alike(settings(*EXACT, "train.precision=bf16-mixed"), shards, monkeypatch, 0.02)


@pytest.mark.usefixtures("reading")
def test_a_step_without_any_target_changes_nothing(shards: Path) -> None:
    config = settings(*EXACT)
    _, captured = steppers(config, lambda: task_of(config, shards))
    before = {name: weight.clone() for name, weight in captured.module.state_dict().items()}
    assert captured.take([blank_targets(batches(config, shards)[0])], 1, 0) is None
    assert all(torch.equal(weight, before[name]) for name, weight in captured.module.state_dict().items())


class NothingRead(TorchDispatchMode):
    """Fails where a value is read back, decides a shape, or is copied from a list: not to be captured."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "is_nonzero")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.name().removeprefix("aten::").split(".")[0]
        assert not name.startswith(self.FORBIDDEN), name
        assert name != "repeat_interleave" or kwargs.get("output_size") is not None
        indices = args[1] if name.startswith(("index", "_index_put")) and isinstance(args[1], list) else []
        assert all(index is None or index.dtype != torch.bool for index in indices), name
        return function(*args, **kwargs)


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["loss.kind=full_softmax", "loss.label_smoothing=0.1"],
        ["loss.negatives.popularity_power=0.5", "loss.negatives.sharing=batch", "loss.negatives.logq=true"],
        ["loss.negatives.source=mixed", "loss.negatives.logq=true"],
        ["loss.kind=gbce", "loss.negatives.count=5", "optimizer.item_table=rowwise_adagrad"],
        ["model.bias=rope", "embedding.behaviors=add", "optimizer.decay_on=linear"],
        ["loss.history=learned", "loss.kind=full_softmax"],
        ["model.attention_window=3", "model.attention_global=1"],
        ["loss.negatives.source=in_batch", "optimizer.item_table=sparse_adam", "optimizer.weight_decay=0.1"],
        ["optimizer.item_table=sparse_rowwise_adagrad"],
    ],
    ids=" ".join,
)
def test_a_step_reads_nothing_back(changes: list[str], shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but attention, which depends on the device."""
    from models.attention.silu.tiles import tile_list

    blind = Kernel("blind", list, lambda _: [], lambda inputs: inputs.v * inputs.q.sum() * inputs.k.sum())
    monkeypatch.setattr(dispatch, "KERNELS", (blind,))
    config = settings("optimizer.clip_norm=1", "model.dropout=0.1", *changes)

    def watched(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with NothingRead():
                ((fixed, _),) = captured.steps.values()
                tile_list(fixed.step().batch.sequences, 64)
                return work()

        return run

    task = task_of(config, shards)
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = build_optimizer(config.optimizer, task.objective)
    captured = CapturedStepper(fabric, task, optimizer, config.optimizer.clip_norm, LONGEST, watched)
    assert captured.take(batches(config, shards)[:1], 1, 0) is not None


def test_reading_back_is_noticed() -> None:
    for reads in (
        lambda x: x.sum().item(),
        lambda x: x[x > 1],
        lambda x: x.nonzero(),
        lambda x: torch.tensor([1.0]) + x,
        lambda x: x.repeat_interleave(x.long()),
    ):
        with pytest.raises(AssertionError), NothingRead():
            reads(torch.ones(3))


def test_learning_rates_stay_where_a_graph_reads_them(shards: Path) -> None:
    """Also when the state of a run is loaded that kept them as numbers; what is saved are numbers."""
    config = settings("optimizer.item_table=rowwise_adagrad", "optimizer.item_learning_rate=0.5")
    objective = task_of(config, shards).objective
    plain, ours = (build_optimizer(config.optimizer, objective) for _ in range(2))
    ours.keep_rates_on(CPU)
    held = [group["lr"] for group in ours.param_groups]
    ours.scale_learning_rates(0.5)
    assert [rate.item() for rate in held] == pytest.approx([0.0005, 0.25])
    plain.scale_learning_rates(0.1)
    ours.load_state_dict(plain.state_dict())
    assert all(group["lr"] is rate for group, rate in zip(ours.param_groups, held, strict=True))
    assert [rate.item() for rate in held] == pytest.approx([0.0001, 0.05])
    assert ours.learning_rate == plain.learning_rate
    assert ours.state_dict()["param_groups"] == plain.state_dict()["param_groups"]
    with ours.capturable():
        assert ours.param_groups[0]["capturable"]
    assert ours.state_dict()["param_groups"] == plain.state_dict()["param_groups"]


@pytest.mark.parametrize(
    ("changes", "device", "where", "message"),
    [
        ([], CPU, "train.device", "needs a CUDA device, and this is cpu"),
        (["train.accumulate=2"], GPU, "train.accumulate", "needs steps of one micro-batch"),
        (
            ["model.recompute=block"],
            GPU,
            "model.recompute",
            "needs blocks without activation checkpointing",
        ),
    ],
)
def test_what_cannot_be_captured_is_refused(
    changes: list[str], device: torch.device, where: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        captures_steps(settings("train.cuda_graphs=true", *changes), device)
    assert caught.value.where == where
    assert "train.cuda_graphs=false" in (caught.value.fix or "")
    for setting in ("auto", "false"):
        config = settings(f"train.cuda_graphs={setting}", *changes)
        assert not captures_steps(config, device)


@pytest.mark.parametrize("kind", ["hstu", "fuxi", "llama"])
def test_what_can_be_captured_is_if_that_is_wanted(kind: str) -> None:
    for setting, captured in (("true", True), ("auto", True), ("false", False)):
        config = settings(f"model.kind={kind}", f"train.cuda_graphs={setting}")
        assert captures_steps(config, GPU) is captured


@pytest.mark.usefixtures("small_sizes")
def test_where_no_kernel_can_do_without_lengths_auto_takes_plain_steps(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU none can; nothing has changed by then."""
    config = settings(*EXACT)

    def task() -> Task:
        made = task_of(config, shards)
        assert isinstance(made.objective, RetrievalObjective)
        draw_the_same(made.objective, monkeypatch)
        return made

    plain, captured = steppers(config, task)
    batch = batches(config, shards)[0]
    with pytest.raises(NoKernelError):
        captured.take([batch], 1, 0)
    captured.gives_up = True
    found, expected = (stepper.take([batch], 1, 0) for stepper in (captured, plain))
    assert found is not None
    assert expected is not None
    assert (captured.captures, captured.steps) == (False, {})
    assert torch.equal(found.losses[0], expected.losses[0])
    weights = dict(plain.module.named_parameters())
    for name, weight in captured.module.named_parameters():  # rates are float32 here
        torch.testing.assert_close(weight, weights[name], rtol=1e-5, atol=1e-7, msg=name)
