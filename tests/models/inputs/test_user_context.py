"""Features of users as context before any layout, against sequences as lists of tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.flow.memory import prepare
from behavior.shards.folder import open_shards
from behavior.shards.manifest import FeatureEntry
from behavior.spec.dataset_spec import DatasetSpec
from models.backbones import BackboneConfig
from models.build import build_task
from models.config import load_config
from models.data.catalog import CategoricalFeature, NumericFeature
from models.data.side import SideInformation
from models.data.versions import RowMaps
from models.evaluate_run import evaluate
from models.inputs.layouts import LAYOUTS
from models.inputs.layouts.user_context import WithUserContext
from models.serving.load import load_model
from models.serving.score import History
from models.tasks.retrieval import RetrievalModel
from models.training import static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.backbones.backbone_oracle import N, Story, of_one_sequence
from tests.models.inputs.layout_models import (
    DIM,
    ITEMS,
    LENGTHS,
    batch_of,
    exact,
    make_events,
    make_model,
)
from tests.models.inputs.layout_oracle import SENTENCES, Event, Token
from tests.models.inputs.layouts import OTHERS
from tests.models.shards import USERS, WORLD, User, World, write_shards
from tests.models.training import test_captured_step
from tests.models.training.training_runs import ITEMS as CIRCLE
from tests.models.training.training_runs import settings

# Row 0 is padding, 1 an unknown user, then those of sequences 0 to 4.
GENDER = [0, 1, 3, 1, 2, 3, 2]
AGE = [[0.0, 0.0], [0.0, 1.0], [0.5, 0.0], [-1.5, 0.0], [0.0, 1.0], [2.0, 0.0], [0.25, 0.0]]
SIDE = SideInformation(
    (CategoricalFeature("gender", 4, torch.tensor(GENDER)), NumericFeature("age", torch.tensor(AGE)))
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in OTHERS.items():
        monkeypatch.setitem(LAYOUTS, name, make)


def with_users(layout: str, config: BackboneConfig, **more: Any) -> RetrievalModel:
    """A model that knows `SIDE`."""
    return make_model(layout, config, side=SIDE, **more)


def queries(
    layout: str, parameters: dict[str, Tensor], config: BackboneConfig, events: list[Event], user: int
) -> Tensor:
    """[events, dim] of a sequence; the user's tokens happen, and ask, when the first token after does."""
    weights = {name.removeprefix("embedding."): value for name, value in parameters.items()}
    weights |= {name.replace("layout.inner.", "layout."): value for name, value in weights.items()}
    backbone = {name.removeprefix("backbone."): value for name, value in parameters.items()}
    sentence = SENTENCES[layout](events, weights)
    when = sentence.tokens[0].time
    gender = weights["layout.users.0.table.weight"][GENDER[user + 2]]
    number, missing = AGE[user + 2]
    age = weights["layout.users.1.linear.weight"]
    front = [gender, number * age[:, 0] + missing * age[:, 1]]
    tokens = [Token(vector, place, when, when) for place, vector in enumerate(front)]
    tokens += [replace(token, position=token.position + 2) for token in sentence.tokens]
    rows = []
    for token in tokens:
        row = token.vector * (math.sqrt(config.dim) if config.scales_input else 1.0)
        rows.append(row + weights["position"][token.position] if "position" in weights else row)
    story = Story(
        [token.asks_at for token in tokens],
        [token.time for token in tokens],
        [token.position for token in tokens],
        sentence.context + 2,
        sentence.candidates,
    )
    out = of_one_sequence(rows, backbone, config, story)
    return sentence.asked(out, 2)


def check(layout: str, kind: str) -> None:
    config = BackboneConfig(kind=kind, blocks=2, dim=DIM, heads=2, dropout=0.0, attention="reference")
    model, sequences = with_users(layout, config), make_events(LENGTHS)
    users = [3, 0, 1, -1]  # the last one is not in the data set
    batch = replace(batch_of(sequences), sequence=torch.tensor(users))
    parameters = exact(model)
    expected = torch.cat(
        [
            queries(layout, parameters, config, events, user)
            for events, user in zip(sequences, users, strict=True)
            if events
        ]
    )
    for parameter in model.parameters():
        parameter.data = parameter.data.double()
    numbers = model.embedding.layout.users[1]
    numbers.values = numbers.values.double()
    x, tokens = model.embedding(batch)
    found = tokens.queries(model.backbone(x, tokens))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    gradient = torch.randn(expected.shape, dtype=torch.float64)
    mine = torch.autograd.grad(found, list(model.parameters()), gradient, materialize_grads=True)
    theirs = torch.autograd.grad(expected, list(parameters.values()), gradient, materialize_grads=True)
    for name, one, other in zip(parameters, mine, theirs, strict=True):
        other[0] = 0.0 if name.endswith(("item.weight", "behavior.weight", "table.weight")) else other[0]
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", ["hstu", "sasrec", "llama", "fuxi"])
def test_every_event_sees_the_tokens_of_its_user(kind: str) -> None:
    """Queries of all events and gradients of all parameters, in float64."""
    check("event", kind)


@pytest.mark.parametrize("layout", ["interleaved", "behavior_first", *OTHERS])
def test_context_stands_before_any_layout(layout: str) -> None:
    check(layout, "hstu")


def test_every_channel_sees_the_tokens_of_its_user() -> None:
    """Of one behavior there is one channel with events: what the layout of one token an event says of it."""
    config = BackboneConfig(kind="hstu", blocks=2, dim=DIM, dropout=0.0)
    channels, plain = with_users("channels", config), with_users("event", config, behaviors="add")
    merge = channels.embedding.layout.inner.merge.weight
    ours = dict(channels.named_parameters())
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(ours[name])
    assert set(ours) - set(dict(plain.named_parameters())) == {"embedding.layout.inner.merge.weight"}
    sequences = make_events(LENGTHS)
    for event in (event for events in sequences for event in events):
        event.behavior = 2
    batch = batch_of(sequences)
    said = plain(batch)
    torch.testing.assert_close(channels(batch), said + said @ merge[:, DIM:].T, rtol=1e-4, atol=1e-4)


def test_context_knows_nothing_of_events_and_events_nothing_of_later_ones() -> None:
    config = BackboneConfig(kind="hstu", blocks=2, dim=DIM, dropout=0.0)
    model, sequences = with_users("event", config), make_events([4, 3])
    x, tokens = model.embedding(batch_of(sequences))
    before = model.backbone(x, tokens)
    assert tokens.sequences.lengths == (6, 5)
    sequences[0][2].item = 2 + (sequences[0][2].item - 1) % ITEMS
    x, tokens = model.embedding(batch_of(sequences))
    after = model.backbone(x, tokens)
    changed = (before != after).any(1).tolist()
    assert changed == [False] * 4 + [True] * 2 + [False] * 5
    other = replace(batch_of(sequences), sequence=torch.tensor([2, 1]))
    x, tokens = model.embedding(other)
    assert ((model.backbone(x, tokens) != after).any(1).tolist()) == [True] * 6 + [False] * 5


def test_tokens_of_context_do_not_count_as_events() -> None:
    """N of HSTU's 1 / N is that of events; position tables have room for both."""
    model = with_users("event", BackboneConfig(dim=DIM))
    assert model.embedding.layout.max_tokens(N) == N + 2
    assert model.embedding.position is not None
    assert len(model.embedding.position) == N + 2
    assert model.backbone.blocks[0].settings.scales == (1.0, 1.0 / N)


FEATURES = [
    FeatureEntry(name="gender", kind="categorical", encoding="hash", vocabulary_size=4, hash_size=2),
    FeatureEntry(name="age", kind="numeric", encoding="standardize"),
]


def circle(folder: Path) -> Path:
    """Users go round one way or the other: only their feature tells it before they have gone a step."""
    users, gender = [], []
    for start in range(40):
        way = 1 if start % 2 else -1
        items = [2 + (start // 2 + way * step) % CIRCLE for step in range(6)]
        users.append(User(items, 4, 5))
        gender.append(2 + start % 2)
    world = World(
        num_items=CIRCLE,
        user_features=FEATURES,
        user_columns={"gender": pa.array(gender, pa.int32()), "age": pa.array([0.5] * 40, pa.float32())},
    )
    return write_shards(folder, users, world)


def test_users_are_found_by_their_ids(tmp_path: Path) -> None:
    """Whatever the order of the table of users; one that it lacks has missing values."""
    world = replace(
        WORLD,
        user_features=FEATURES,
        user_columns={
            "gender": pa.array([3, 2, None, 3, 2], pa.int32()),
            "age": pa.array([0.5, float("nan"), -1.0, 2.0, 3.0], pa.float32()),
        },
    )
    shards = open_shards(write_shards(tmp_path, USERS, world))
    gender, age = SideInformation.from_shards(shards, users="all").users
    assert isinstance(gender, CategoricalFeature)
    assert isinstance(age, NumericFeature)
    assert gender.ids.tolist() == [0, 1, 3, 2, 1, 3, 1]
    missing = [0.0, 1.0]
    assert age.values.tolist() == [[0.0, 0.0], missing, [0.5, 0.0], missing, [-1.0, 0.0], [2.0, 0.0], missing]
    with pytest.raises(UserError, match="no user feature 'sex'"):
        SideInformation.from_shards(shards, users=["sex"])
    with pytest.raises(UserError, match="no event features to embed"):
        SideInformation.from_shards(shards, events=["price"])


def test_users_of_two_domains_with_one_id_are_two(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("u,i,t\n1,a,10\n1,b,20\n2,a,30\n2,b,31\n")
    (tmp_path / "b.csv").write_text("u,i,t\n1,x,10\n1,y,20\n3,x,30\n")
    (tmp_path / "ua.csv").write_text("id,sex\n1,f\n2,m\n")
    (tmp_path / "ub.csv").write_text("id,sex\n1,m\n")
    columns = {"user": "u", "item": "i", "timestamp": "t"}
    spec = {
        "name": "two",
        "events": [{"files": f"{one}.csv", "domain": one, "columns": columns} for one in "ab"],
        "timestamp_unit": "s",
        "domain_ids": {"users": "separate", "items": "separate"},
        "users": [
            {"files": f"u{one}.csv", "id": "id", "domain": one, "features": [{"name": "sex"}]} for one in "ab"
        ],
    }
    shards = prepare(parse_config(DatasetSpec, spec, where="spec"), tmp_path / "out", tmp_path)
    (sex,) = SideInformation.from_shards(shards, users=["sex"]).users
    assert isinstance(sex, CategoricalFeature)
    words = {row["index"]: row["value"] for row in shards.vocabulary("user.sex").to_pylist()}
    found = {}
    for table in shards.iter_sequences(["user", "user_domain"]):
        for row in table.to_pylist():
            found[row["user_domain"], row["user"]] = words.get(int(sex.ids[2 + len(found)]))
    assert found == {(1, "1"): "f", (1, "2"): "m", (2, "1"): "m", (2, "3"): None}


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_steps_of_fixed_size_are_those_of_lengths_known(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr("models.attention.dispatch.KERNELS", KERNELS_AND_READING)
    config = settings(*test_captured_step.EXACT, f"model.kind={kind}", "embedding.user_features=all")
    assert test_captured_step.check_alike(config, circle(tmp_path), monkeypatch) > 1


def test_what_only_the_user_tells(tmp_path: Path) -> None:
    """After one event, the way round follows from the user's feature alone; a run is evaluated and served."""
    shards = circle(tmp_path / "data")
    quick = (
        "model.blocks=2",
        "train.epochs=30",
        "train.validate_every_epochs=30",
        "optimizer.learning_rate=0.01",
        "loss.kind=full_softmax",
        "model.dropout=0.0",
        "evaluation.exclude_seen=false",
    )
    config = load_config("default", [*_SMALL, *quick, "embedding.user_features=[gender]"])
    train(config, shards, tmp_path / "run")
    model = load_model(tmp_path / "run", device="cpu")
    assert isinstance(model.task.model.embedding.layout, WithUserContext)
    assert evaluate(model)["users"] == 40
    histories = [
        History([2 + place], timestamps=[0], next_timestamp=60, user=user)
        for place in range(CIRCLE)
        for user in (10, 11)  # backwards, and forwards
    ]
    expected = [(place + step) % CIRCLE for place in range(CIRCLE) for step in (-1, 1)]
    assert model.score(histories).argmax(1).tolist() == expected
    nobody = [History([5], timestamps=[0], next_timestamp=60)]
    assert not torch.equal(model.score(nobody), model.score(histories[:1]))
    with pytest.raises(UserError, match="is of user 40, and there are 40"):
        model.score([History([5], timestamps=[0], user=40)])


_SMALL = [
    "model.dim=16",
    "model.blocks=1",
    "model.max_length=8",
    "train.device=cpu",
    "train.batch_sequences=8",
    "evaluation.cutoffs=[1, 10]",
    "train.select_by=hr@1",
]


def test_rows_of_users_features_grow(tmp_path: Path) -> None:
    task = build_task(settings("embedding.user_features=all"), open_shards(circle(tmp_path)))
    maps = RowMaps(torch.arange(CIRCLE + 2), torch.arange(2), {"user.gender": torch.tensor([0, 1, 2, 3])})
    assert set(task.table_rows(maps)) == {"embedding.item.weight", "embedding.layout.users.0.table.weight"}
