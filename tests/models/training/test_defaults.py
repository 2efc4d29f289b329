"""What is left to the machine: on the CPU nothing changes, on a GPU the fast way is taken and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from behavior.errors import UserError
from cli.progress import _computes
from models.config import load_config
from models.experiments.identity import earlier_digest, run_digest
from models.gpu.precision import pick_precision
from models.runs.checkpoint import load_checkpoint
from models.runs.run_folder import RunFolder
from models.tasks.registry import _KINDS, TaskKind, register_task, task_kind
from models.training import train
from models.training.captured_step import _told, captures_steps, why_not_captured
from models.training.defaults import decided
from models.training.observer import TrainStart
from tests.models.training.training_runs import Watcher, circle, settings

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LEFT_OPEN = ("train.precision=auto", "train.cuda_graphs=auto")


def test_a_run_on_the_cpu_is_what_it_was_and_says_so(tmp_path: Path) -> None:
    shards, watcher = circle(tmp_path / "data"), Watcher()
    train(settings("train.epochs=1"), shards, tmp_path / "float32")
    train(settings("train.epochs=1", *LEFT_OPEN), shards, tmp_path / "auto", observer=watcher)
    expected, found = (
        load_checkpoint(tmp_path / name / "checkpoints/last.safetensors") for name in ("float32", "auto")
    )
    assert all(torch.equal(found.model[name], weight) for name, weight in expected.model.items())
    assert RunFolder(tmp_path / "auto").settings()["train"]["precision"] == "32-true"
    summary = json.loads((tmp_path / "auto" / "summary.json").read_text())
    assert (summary["precision"], summary["cuda_graphs"]) == ("32-true", False)
    assert watcher.start is not None
    assert (watcher.start.precision, watcher.start.captured) == ("32-true", False)
    # Whoever runs it again goes on, whatever is said of what was left open.
    train(settings("train.epochs=2"), shards, tmp_path / "auto", resume=True)


@pytest.mark.parametrize(("has_it", "picked"), [(True, "bf16-mixed"), (False, "32-true")])
def test_bfloat16_where_the_card_has_it(has_it: bool, picked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_it)
    assert pick_precision("auto", GPU) == picked
    assert pick_precision("auto", CPU) == pick_precision("32-true", GPU) == "32-true"
    assert pick_precision("bf16-mixed", CPU) == "bf16-mixed"


def test_a_run_that_goes_on_keeps_its_precision(tmp_path: Path) -> None:
    mixed = load_config(overrides=["train.precision=bf16-mixed"])
    RunFolder(tmp_path).write(mixed.model_dump(mode="json"), _Data(), {})  # type: ignore[arg-type]
    auto = load_config(overrides=["train.device=cpu"])
    assert auto.train.precision == "auto"
    for resume, precision in ((True, "bf16-mixed"), ("auto", "bf16-mixed"), (False, "32-true")):
        assert decided(auto, tmp_path, resume).train.precision == precision  # type: ignore[arg-type]


class _Data:
    url = "data"


def test_precisions_are_different_runs() -> None:
    configs = [
        load_config(overrides=[f"train.precision={name}"]) for name in ("auto", "32-true", "bf16-mixed")
    ]
    auto, single, mixed = (run_digest(config, "data") for config in configs)
    assert len({auto, single, mixed}) == 3
    assert [earlier_digest(config, "data") for config in configs] == [single, None, None]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([], None),
        (["model.kind=sasrec", "model.max_length=512"], None),
        (["model.kind=sasrec", "model.max_length=513"], "padded to model.max_length, 513 events"),
        (["model.kind=hstu", "model.activation=softmax", "model.max_length=1024"], "padded"),
        (["model.max_length=4096"], None),
        (["train.accumulate=2"], "train.accumulate: CUDA graphs need steps of one micro-batch"),
    ],
)
def test_graphs_are_captured_where_that_pays(changes: list[str], why: str | None) -> None:
    config = load_config(overrides=changes)
    assert captures_steps(config, GPU) is (why is None)
    told = why_not_captured(config, GPU)
    assert told is None if why is None else told is not None and why in told


def test_a_task_from_elsewhere_says_whether_its_steps_can_be_captured() -> None:
    retrieval = task_kind("retrieval")
    try:
        for captured in (False, True):
            register_task(TaskKind("elsewhere", retrieval.metrics, retrieval.build, captured=captured))
            config = load_config(overrides=["task.kind=elsewhere"])
            assert captures_steps(config, GPU) is captured
            asked = load_config(overrides=["task.kind=elsewhere", "train.cuda_graphs=true"])
            assert captures_steps(asked, GPU)
    finally:
        del _KINDS["elsewhere"]


def test_a_step_that_cannot_be_captured_is_told_with_what_to_do() -> None:
    def waits() -> list[torch.Tensor]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    with pytest.raises(UserError, match="cannot be captured as a CUDA graph: CUDA error") as caught:
        _told(waits)
    assert "train.cuda_graphs=false" in (caught.value.fix or "")

    def fails() -> list[torch.Tensor]:
        raise RuntimeError("shapes do not go together")

    with pytest.raises(RuntimeError, match="do not go together"):
        _told(fails)


def test_the_first_lines_say_what_a_gpu_computes() -> None:
    start = TrainStart(
        run=Path(), device="cuda:0", parameters=1, sequences=1, skipped_sequences=0, tokens_per_epoch=1,
        epochs=1, steps_per_epoch=1, step=0, protocol={}, precision="bf16-mixed", not_captured="too long",
    )  # fmt: skip
    assert _computes(start).startswith("bfloat16 mixed precision, steps without CUDA graphs (too long);")
