"""Runs of before go on: their softmax models had a bias on keys, which did nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.evaluate_run import judge_run
from models.layers import projections
from models.training.run import train
from tests.models.training.training_runs import circle, records, settings, weights

DROPS_NOTHING = ("model.dropout=0", "model.heads=2", "model.blocks=2")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


def with_key_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "key_bias_matters", lambda _: True)


@pytest.mark.parametrize(
    "changes",
    [
        ["model.kind=sasrec"],
        ["model.kind=gpt", "model.gate=true"],
        ["model.kind=ligr", "optimizer.weight_decay=0.01", "optimizer.decay_on=linear"],
        ["model.kind=sasrec", "model.gate=true", "optimizer.item_table=rowwise_adagrad"],
    ],
    ids=" ".join,
)
def test_a_run_of_before_goes_on_and_is_judged(
    changes: list[str], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had never had the bias: Adam's moments stay with their parameters."""
    config = settings(*DROPS_NOTHING, *changes)
    train(config, shards, tmp_path / "new")
    with monkeypatch.context() as before:
        with_key_bias(before)
        train(settings(*DROPS_NOTHING, *changes, "train.epochs=2"), shards, tmp_path / "old")
        found = judge_run(tmp_path / "old", "test").report()
    had = weights(tmp_path / "old")
    assert judge_run(tmp_path / "old", "test").report() == found
    train(config, shards, tmp_path / "old", resume=True)
    has, expected = weights(tmp_path / "old"), weights(tmp_path / "new")
    assert sum(map(torch.numel, had.values())) - sum(map(torch.numel, has.values())) == 2 * 8
    assert has.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(has[name], weight, rtol=0, atol=1e-4, msg=name)
    losses = [
        [line["loss"] for line in records(tmp_path / run) if line["kind"] == "train"]
        for run in ("old", "new")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("kind", ["sasrec", "gpt", "ligr"])
def test_fresh_weights_are_those_of_before(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.backbones import BackboneConfig, build_backbone

    def fresh() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        torch.manual_seed(1)
        state = build_backbone(BackboneConfig(kind=kind, dim=8), max_length=5).state_dict()  # type: ignore[arg-type]
        return state, torch.rand(1)

    now, drawn = fresh()
    with_key_bias(monkeypatch)
    before, drawn_before = fresh()
    assert torch.equal(drawn, drawn_before)
    assert all(torch.equal(weight, before[name][: len(weight)]) for name, weight in now.items())
