"""History logits in training: what they learn, what they start with, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task
from models.config import RunConfig, load_config
from models.data.about import about_sequences
from models.data.batch import PackedBatch
from models.data.versions import RowMaps
from models.evaluate_run import evaluate
from models.history.available import available_terms
from models.history.kinds import TERMS
from models.runs.checkpoint import Checkpoint
from models.runs.regrow import regrow
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval import RetrievalModel, RetrievalTask
from models.training import train
from tests.models.shards import User, World, write_shards

VIEW, CART, BUY = 1, 2, 3
WORLD = World(num_items=300, behaviors=("view", "cart", "buy"), targets=("buy",))
SETTINGS = [
    "model.dim=16",
    "model.blocks=1",
    "model.max_length=10",
    "embedding.behaviors=add",
    "loss.loss_on=targets",
    "loss.negatives.count=32",
    "loss.history_dim=8",
    "loss.temperature=0.3",
    "optimizer.learning_rate=0.02",
    "train.epochs=4",
    "train.batch_sequences=16",
    "train.device=cpu",
    "evaluation.cutoffs=[1, 10]",
    "evaluation.exclude_seen=false",
    "train.select_by=hr@1",
]


def shoppers(count: int = 150) -> list[User]:
    """Users who view items at random, put one of them in the cart, and then buy it; and so five times."""
    random = np.random.default_rng(0)
    users = []
    for _ in range(count):
        items: list[int] = []
        behaviors: list[int] = []
        for _ in range(5):
            some = random.choice(300, 4, replace=False) + 2
            place = int(random.integers(4))
            items += [*some.tolist(), int(some[place])]
            behaviors += [CART if n == place else VIEW for n in range(4)] + [BUY]
        users.append(User(items, len(items) - 6, len(items) - 1, behaviors, range(0, 60 * len(items), 60)))
    return users


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), shoppers(), WORLD)


def config_of(*changes: str) -> RunConfig:
    return load_config("default", changes, shared=SETTINGS)


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ("sampled_softmax", "behavior, recency, latest, closed"),
        ("full_softmax", "behavior, recency"),
        ("bce", "behavior, time, recency, closed"),
    ],
)
def test_what_was_put_in_the_cart_is_bought(kind: str, terms: str, shards: Path, tmp_path: Path) -> None:
    """Of 300 items that say nothing by themselves; item vectors cannot tell, past events can."""
    found = {}
    for history, fast in (("none", "null"), ("learned", "0.2")):
        changes = [f"loss.kind={kind}", f"loss.history={history}"]
        if history == "learned":
            changes.append(f"loss.history_terms=[{terms}]")
        config = config_of(*changes, f"optimizer.logit_learning_rate={fast}")
        train(config, shards, tmp_path / history)
        found[history] = evaluate(tmp_path / history, "test", device="cpu")["hr@1"]
    assert found["learned"] > 0.95
    assert found["none"] < 0.4


def batch_of(users: list[User]) -> PackedBatch:
    """Of the first ten events of each."""
    return PackedBatch.from_lists(
        [user.item[:10] for user in users],
        behaviors=[user.behavior[:10] for user in users],
        timestamps=[list(user.timestamp[:10]) for user in users],
    )


def model_of(config: RunConfig, shards: Path) -> RetrievalModel:
    torch.manual_seed(0)
    model = build_task(config, open_shards(shards)).model
    assert isinstance(model, RetrievalModel)
    return model.eval()


def test_the_newest_event_starts_with_the_mass_of_all_items(shards: Path) -> None:
    """Other weights are drawn alike, and older events weigh less and less."""
    kinds = [(f"loss.history={one}", "loss.kind=full_softmax") for one in ("none", "learned")]
    plain, ours = (model_of(config_of(*kind), shards) for kind in kinds)
    assert plain.history is None
    others = dict(plain.named_parameters())
    assert others
    assert all(torch.equal(dict(ours.named_parameters())[name], weight) for name, weight in others.items())
    batch = batch_of(shoppers(20))
    last = batch.with_values(target=torch.ones_like(batch.target) + 1)
    with torch.no_grad():
        extra = ours.extra_mass(ours.outputs(last), last)
    assert extra is not None
    whole = torch.logaddexp(*extra)[9::10].exp()
    assert len(whole) == 20
    expected = sum(math.exp(-0.1 * since) for since in range(10)) * ours.num_items
    assert whole.tolist() == pytest.approx([expected] * 20, rel=1e-5)


def test_every_parameter_learns(shards: Path) -> None:
    """Of all terms; none has a gradient of rounding errors alone."""
    config = config_of("loss.history=learned", "loss.kind=full_softmax", "loss.loss_on=all")
    task = build_task(config, open_shards(shards))
    assert isinstance(task, RetrievalTask)
    assert task.model.history is not None
    with torch.no_grad():
        for parameter in task.model.history.parameters():
            parameter.normal_()
    task.objective(LossBatch(batch_of(shoppers(20)))).backward()
    found = {name: parameter.grad for name, parameter in task.model.history.named_parameters()}
    assert set(found) == {
        *("query.weight", "query.bias", "key.weight", "key.bias", "constant"),
        *("behavior", "time", "recency", "latest", "closed"),
    }
    assert all(grad is not None and grad.abs().max() > 1e-4 for grad in found.values())


@pytest.mark.parametrize(
    ("terms", "behaviors", "targets", "unit", "message"),
    [
        ("product, time", ("view", "buy"), ("buy",), "none", "'time' of history logits needs timestamps"),
        (
            "closed, product",
            ("view",),
            ("view",),
            "s",
            "'closed' of history logits needs a behavior that is no",
        ),
    ],
)
def test_terms_without_data_are_refused(
    terms: str, behaviors: Any, targets: Any, unit: str, message: str, tmp_path: Path
) -> None:
    """All others are there where none is named."""
    world = World(num_items=3, behaviors=behaviors, targets=targets, timestamp_unit=unit)
    shards = open_shards(write_shards(tmp_path, [User([2, 3, 4, 2], 2, 3)], world))
    config = config_of("loss.history=learned", f"loss.history_terms=[{terms}]", "model.bias=position")
    with pytest.raises(UserError, match=message) as caught:
        build_task(config, shards)
    assert caught.value.where == f"loss.history_terms = [{terms}]"
    assert caught.value.fix == "--set 'loss.history_terms=[product]'"
    assert set(TERMS) - {"item"} - set(available_terms(None, about_sequences(shards))) == {
        term for term in terms.split(", ") if term != "product"
    }


def test_tables_of_behaviors_go_over_to_others(shards: Path, tmp_path: Path) -> None:
    """By the names of both behaviors of a pair."""
    world = replace(WORLD, behaviors=("buy", "gift", "view"), targets=("buy",))
    others = open_shards(write_shards(tmp_path / "others", [User([2, 3, 4], 1, 2)], world))
    config = config_of("loss.history=learned")
    before, task = build_task(config, open_shards(shards)), build_task(config, others)
    assert isinstance(before, RetrievalTask)
    history = before.model.history
    assert history is not None
    with torch.no_grad():
        history.behavior.copy_(torch.arange(16.0))
    rows = task.table_rows(RowMaps.between(open_shards(shards), others))
    saved = Checkpoint({}, {}, {}, before.model.state_dict())
    table = regrow(saved, rows, {}, 0).model["history.behavior"].view(4, 4)
    former = {0: 0, 1: BUY, 3: VIEW}
    for b, one in former.items():
        for w, other in former.items():
            assert table[b, w] == 4 * one + other
    assert table[2].abs().max() < 0.1
    assert table[:, 2].abs().max() < 0.1
