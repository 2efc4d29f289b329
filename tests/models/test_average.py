"""The mean of several runs' probabilities, ranked as one model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import models
from behavior.errors import UserError
from cli.main import app
from models.distributed.tables import HeldItems
from models.evaluate_run import judge_run
from models.evaluation.averaged import AveragedScores
from models.evaluation.held_scores import HeldScores
from models.evaluation.report import as_rankings
from models.serving.load import load_model
from models.serving.score import History
from models.training import train
from tests.models.history.jumps.test_exact_runs import EXACT
from tests.models.history.jumps.test_jump_runs import FIRST, shards, users
from tests.models.training.training_runs import settings

KINDS = {
    "plain": ("loss.temperature=0.1",),
    "bias": ("loss.kind=full_softmax", "loss.item_bias=popularity"),
    "jumps": EXACT,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("average")
    data = shards(folder / "data")
    for name, changes in KINDS.items():
        train(settings(*changes, "train.epochs=1", "evaluation.exclude_seen=false"), data, folder / name)
    return {name: folder / name for name in KINDS}


def probabilities(run: Path, histories: list[History]) -> torch.Tensor:
    """[histories, items] by the scores that are served; those of products alone are no logits yet."""
    model = load_model(run, device="cpu")
    scores = model.score(histories).double()
    has_mass = model.module.has_extra_mass  # type: ignore[union-attr]
    return (scores if has_mass else scores / model.module.temperature).softmax(1)  # type: ignore[operator]


def test_ranks_are_those_of_the_mean_of_probabilities(runs: dict[str, Path]) -> None:
    first, *others = runs.values()
    report = models.evaluate(first, device="cpu", average=others)
    assert report["average_of"] == [str(run) for run in runs.values()]
    found = as_rankings(judge_run(first, device="cpu", average=others)).rankings
    histories, targets = [], []
    for row, user in enumerate(users()):
        kinds, times = list(user.behavior or ()), list(range(0, 60 * len(user.item), 60))
        stop = user.valid_end
        histories.append(
            History(user.item[:stop], kinds[:stop], times[:stop], kinds[stop], times[stop], user=row)
        )
        targets.append(user.item[stop] - FIRST)
    mean = torch.stack([probabilities(run, histories) for run in runs.values()]).mean(0)
    own = mean[torch.arange(len(targets)), targets]
    ranks = (mean >= own[:, None]).sum(1)
    assert found.user.tolist() == list(range(len(targets)))
    assert found.rank.tolist() == ranks.tolist()
    single = as_rankings(judge_run(first, device="cpu")).rankings.rank
    assert found.rank.tolist() != single.tolist()


def test_columns_are_logarithms_of_means() -> None:
    torch.manual_seed(0)
    queries, items = torch.randn(2, 3, 4), torch.randn(2, 9, 4)
    parts = [HeldScores(q, v, HeldItems.whole(9)) for q, v in zip(queries, items, strict=True)]
    expected = (queries.double() @ items.double().mT).softmax(2).mean(0)
    scores = AveragedScores(parts)
    torch.testing.assert_close(scores.columns(0, 9).double().exp(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(scores.columns(2, 5).double().exp(), expected[:, 2:5], rtol=1e-5, atol=1e-7)


def test_the_command_line_takes_other_runs(runs: dict[str, Path]) -> None:
    first, second, third = (str(run) for run in runs.values())
    result = CliRunner().invoke(
        app, ["evaluate", first, "--average", second, "--average", third, "--split", "valid", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["average_of"] == [first, second, third]
    shown = CliRunner().invoke(app, ["evaluate", first, "--average", second, "--split", "valid"])
    assert f"the mean of the probabilities of 2 runs: {first}, {second}" in shown.stdout


def test_runs_of_two_protocols_are_not_averaged(runs: dict[str, Path], tmp_path: Path) -> None:
    models.refit(runs["bias"], tmp_path / "refit")
    with pytest.raises(UserError, match="trained on") as raised:
        models.evaluate(runs["plain"], device="cpu", average=[tmp_path / "refit"])
    assert raised.value.where == f"--average {tmp_path / 'refit'}"
    train(settings("train.epochs=1", "model.time=unknown"), shards(tmp_path / "data"), tmp_path / "last")
    with pytest.raises(UserError, match="when the next event happens"):
        models.evaluate(tmp_path / "last", device="cpu", average=[runs["plain"]])
