"""Runs that are damaged: what is wrong is said, and nothing in the folder is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from behavior.errors import UserError
from models.evaluate_run import evaluate
from models.training import train
from tests.models.training.training_runs import circle, records, same_weights, settings, weights

Tensors = dict[str, torch.Tensor]
Head = dict[str, Any]

MORE = settings("train.epochs=2")
TABLE = "model.embedding.item.weight"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    train(settings("train.epochs=1"), shards, run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def edit(run: Path, change: Callable[[Tensors, Head], Any], name: str = "last") -> None:
    """Write a checkpoint anew with other tensors or another head, as any program could."""
    path = run / "checkpoints" / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        head = json.loads(file.metadata()["lrm-kit"])
    changed = change(tensors, head)
    head = head if changed is None else changed[0]
    save_file(
        {key: value.contiguous() for key, value in tensors.items()}, path, {"lrm-kit": json.dumps(head)}
    )


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def check(run: Path, shards: Path, message: str) -> UserError:
    """It is not resumed, for that reason, and stays as it is."""
    before = contents(run)
    with pytest.raises(UserError, match=message) as caught:
        train(MORE, shards, run, resume=True)
    assert contents(run) == before
    assert str(run) in str(caught.value.where)
    assert caught.value.fix
    return caught.value


def test_the_table_is_where_these_tests_look_for_it(trained: Path) -> None:
    names = set(weights(trained))
    assert TABLE.removeprefix("model.") in names, sorted(names)


def of(head: Head, key: str, value: Any) -> None:
    head[key] = value


HEADS: dict[str, tuple[Callable[[Tensors, Head], Any], str]] = {
    "config": (lambda _, head: head.pop("config") and None, "damaged: config"),
    "dataset": (lambda _, head: head.pop("dataset") and None, "damaged: dataset"),
    "progress": (lambda _, head: head.pop("progress") and None, "damaged: progress"),
    "a list": (lambda _, head: ([],), "damaged: Input should be"),
    "null": (lambda _, head: (None,), "damaged: Input should be"),
    "format": (lambda _, head: of(head, "format", "other"), "not a checkpoint of lrm-kit"),
    "version": (lambda _, head: of(head, "format_version", "2"), "damaged: format_version"),
    "newer": (lambda _, head: of(head, "format_version", 3), "newer format: 3"),
    "older": (lambda _, head: of(head, "format_version", 1), "older format: 1"),
    "a list of progress": (lambda _, head: of(head, "progress", []), "damaged: progress"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_json_of_another_kind(run: Path, shards: Path, kind: str) -> None:
    change, message = HEADS[kind]
    for name in ("last", "best"):
        edit(run, change, name)
    check(run, shards, message)
    with pytest.raises(UserError, match=message):
        evaluate(run, "valid")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000])
def test_no_json_at_all(run: Path, shards: Path, text: str) -> None:
    save_file({"weight": torch.zeros(1)}, run / "checkpoints" / "last.safetensors", {"lrm-kit": text})
    check(run, shards, "the checkpoint is damaged: it is no JSON")


PROGRESS: dict[str, tuple[str, Any, str]] = {
    "another key": ("zzz", 1, "progress.zzz"),
    "a negative step": ("step", -1, "progress.step"),
    "a step of text": ("step", "4", "progress.step"),
    "half a step": ("step", 0.5, "progress.step"),
    "a step beyond numbers": ("step", 10**400, "progress.step"),
    "no time": ("minutes", "soon", "progress.minutes"),
    "endless time": ("minutes", float("inf"), "progress.minutes"),
    "metrics in a list": ("best_metrics", [], "progress.best_metrics"),
    "no loader": ("loader", {}, "state of the loader is damaged: epoch"),
    "a loader of text": ("loader", "x", "progress.loader"),
}


@pytest.mark.parametrize("kind", PROGRESS)
def test_progress_that_is_none(run: Path, shards: Path, kind: str) -> None:
    key, value, message = PROGRESS[kind]
    edit(run, lambda _, head: of(head["progress"], key, value))
    check(run, shards, message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epoch", "1", "damaged: epoch"),
        ("taken", 10**6, "samples that were not taken"),
        ("waiting", [0], "samples that were not taken"),
        ("waiting", ["a"], "damaged: waiting"),
        ("order", 5, "damaged: order"),
        ("order", "another", "in another order"),
        ("more", 1, "damaged: more"),
    ],
)
def test_a_loader_that_stood_nowhere(run: Path, shards: Path, key: str, value: Any, message: str) -> None:
    edit(run, lambda _, head: of(head["progress"]["loader"], key, value))
    check(run, shards, message)


def shaped(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1)


def longer(like: torch.Tensor) -> torch.Tensor:
    return torch.cat([like, like[:1]])


def not_finite(number: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(like: torch.Tensor) -> torch.Tensor:
        like = like.clone()
        like.view(-1)[-1] = number
        return like

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (not_finite(float("nan")), "damaged: embedding.item.weight has values that are no finite numbers"),
        (not_finite(float("-inf")), "damaged: embedding.item.weight has values that are no finite numbers"),
        (torch.Tensor.long, "damaged: embedding.item.weight is int64, this model has float32"),
        (torch.Tensor.double, "damaged: embedding.item.weight is float64, this model has float32"),
        (longer, r"another architecture: embedding.item.weight is \[12, 8\], this model has \[11, 8\]"),
        (shaped, r"another architecture: embedding.item.weight is \[1\]"),
    ],
)
def test_weights_that_are_none(
    run: Path, shards: Path, change: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    for name in ("last", "best"):
        edit(run, lambda tensors, _: tensors.update({TABLE: change(tensors[TABLE])}), name)
    check(run, shards, message)
    with pytest.raises(UserError, match=message):
        evaluate(run, "valid")


@pytest.mark.parametrize("value", ["exp_avg", "exp_avg_sq", "step"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda like: torch.zeros(3, 1, 2), r"another architecture: optimizer\.0\.{} is \[3, 1, 2\], the"),
        (not_finite(float("nan")), r"damaged: optimizer\.0\.{} has values that are no finite numbers"),
        (torch.Tensor.double, r"damaged: optimizer\.0\.{} is float64, the parameter has float32"),
    ],
)
def test_an_optimizer_s_state_of_another_kind(
    run: Path, shards: Path, value: str, change: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    key = f"optimizer.0.{value}"
    edit(run, lambda tensors, _: tensors.update({key: change(tensors[key])}))
    check(run, shards, message.format(value))


def test_the_state_of_row_wise_adagrad_is_checked_too(shards: Path, tmp_path: Path) -> None:
    rowwise = ("optimizer.item_table=rowwise_adagrad", "optimizer.item_learning_rate=0.05")
    run = tmp_path / "run"
    train(settings("train.epochs=1", *rowwise), shards, run)
    edit(run, lambda tensors, _: tensors.update({key: torch.zeros(1) for key in tensors if "sum" in key}))
    with pytest.raises(UserError, match=r"\.sum is \[1\], the parameter has \[11\]"):
        train(settings("train.epochs=2", *rowwise), shards, run, resume=True)


OPTIMIZER: dict[str, tuple[Callable[[Tensors, Head], Any], str]] = {
    "no groups": (lambda _, head: of(head, "param_groups", None), "optimizer's state is missing"),
    "empty groups": (
        lambda _, head: of(head, "param_groups", []),
        "it has 0 groups of parameters, and not 1",
    ),
    "groups of text": (lambda _, head: of(head, "param_groups", ["x"]), "damaged: param_groups"),
    "groups of nothing": (lambda _, head: of(head, "param_groups", [{}]), "damaged: param_groups"),
    "an endless rate": (
        lambda _, head: of(head["param_groups"][0], "lr", float("inf")),
        "damaged: param_groups",
    ),
    "a parameter less": (
        lambda _, head: head["param_groups"][0]["params"].pop() and None,
        "parameters, and not",
    ),
    "numbers twice": (
        lambda _, head: of(head["param_groups"][0]["params"], 1, 0),
        "not numbered through",
    ),
    "a strange key": (
        lambda tensors, _: tensors.update({"optimizer.x.y": torch.zeros(1)}),
        "optimizer.x.y is of no parameter",
    ),
    "a parameter more": (
        lambda tensors, _: tensors.update({"optimizer.99.step": torch.zeros(())}),
        "optimizer.99.step is not part of",
    ),
    "a value more": (
        lambda tensors, _: tensors.update({"optimizer.0.zzz": torch.zeros(())}),
        "optimizer.0.zzz is not part of",
    ),
}


@pytest.mark.parametrize("kind", OPTIMIZER)
def test_an_optimizer_that_is_another(run: Path, shards: Path, kind: str) -> None:
    change, message = OPTIMIZER[kind]
    edit(run, change)
    check(run, shards, message)


def without(prefix: str, *, says: bool) -> Callable[[Tensors, Head], None]:
    """Take tensors out; with `says` the head does not name them either, as those of before do not."""

    def change(tensors: Tensors, head: Head) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]
        if says:
            del head["tensors"]

    return change


@pytest.mark.parametrize(
    ("prefix", "says", "message"),
    [
        ("optimizer.", False, r"damaged: optimizer\.0\.exp_avg is missing"),
        ("optimizer.", True, "damaged: the optimizer's state is missing"),
        ("optimizer.3.", False, r"damaged: optimizer\.3\.exp_avg is missing"),
        ("optimizer.3.exp_avg_sq", True, r"optimizer\.3\.exp_avg_sq is missing"),
        ("random.", False, r"damaged: random\.cpu is missing"),
        ("random.", True, r"damaged: random\.cpu is missing"),
        (TABLE, False, f"{TABLE} is missing"),
        (TABLE, True, "embedding.item.weight is missing"),
    ],
)
def test_what_is_missing_is_named(run: Path, shards: Path, prefix: str, says: bool, message: str) -> None:
    edit(run, without(prefix, says=says))
    check(run, shards, message)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (torch.zeros(3, dtype=torch.uint8), r"random\.cpu is \[3\], the generator has"),
        (torch.get_rng_state().float(), r"random\.cpu is float32, the generator has uint8"),
        (torch.full_like(torch.get_rng_state(), 255), "damaged: random: "),
    ],
)
def test_a_random_state_that_is_none(run: Path, shards: Path, state: torch.Tensor, message: str) -> None:
    edit(run, lambda tensors, _: tensors.update({"random.cpu": state}))
    check(run, shards, message)


def test_a_checkpoint_of_before_does_not_list_its_tensors_and_goes_on(
    run: Path, trained: Path, shards: Path, tmp_path: Path
) -> None:
    edit(run, lambda _, head: head.pop("tensors") and None)
    train(MORE, shards, run, resume=True)
    train(MORE, shards, tmp_path / "whole")
    assert records(run) == records(tmp_path / "whole")
    assert same_weights(weights(run), weights(tmp_path / "whole"))


@pytest.mark.parametrize(
    "line", ["x", "[]", "{}", '{"kind": "other", "step": 1}', '{"kind": "train", "step": "1"}', "[" * 10**5,
             '{"kind": "train", "step": 1, "loss": 1' + "0" * 1000 + "}"]
)  # fmt: skip
def test_a_line_of_the_log_that_is_no_record(run: Path, shards: Path, line: str) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    error = check(run, shards, "record of the run is damaged")
    assert error.where == f"{path}, line 2"


def test_without_its_best_checkpoint_a_run_does_not_go_on_in_silence(run: Path, shards: Path) -> None:
    best, last = (run / "checkpoints" / f"{name}.safetensors" for name in ("best", "last"))
    best.unlink()
    check(run, shards, "best.safetensors is missing, and the best validation was that of epoch 1")
    shutil.copy(last, best)  # as the error advises
    train(MORE, shards, run, resume=True)
    evaluate(run, "valid")
