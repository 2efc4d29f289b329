"""Networks over fields against their formulas in plain Python; what they learn of a planted log."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from behavior.shards.folder import ShardFolder
from models.evaluation.actions.auc import auc_of
from models.evaluation.actions.labels import parse_labels
from models.rankers.config import RankersConfig
from models.rankers.data import Fitting, RankerData
from models.rankers.fields import Batch, Batches, Field, FieldVectors, fields_of
from models.rankers.fit import fit_network
from models.rankers.networks import DCN, DIN, FFM, FM, NETWORKS, Logistic
from tests.models.rankers.world import EVENTS, USERS, rated
from tests.models.shards import User, World, write_shards

CONFIG = RankersConfig(dim=3, hidden=[5, 4], cross_layers=2, dropout=0.0)
USER = Field("user", "user", torch.tensor([[0], [1], [2]]), 3)
ITEM = Field("item", "item", torch.tensor([[0], [0], [1], [2]]), 3)
GENRES = Field("genres", "item", torch.tensor([[0, 0], [1, 0], [2, 3], [3, 0]]), 4)
FIELDS = (USER, ITEM, GENRES)
BATCH = Batch(
    user=torch.tensor([1, 2]),
    item=torch.tensor([2, 3]),
    history=torch.tensor([[0, 3], [3, 2]]),
    acts=torch.tensor([[0, 3], [2, 1]]),
    label=torch.tensor([1.0, 0.0]),
)


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = kind(FIELDS, CONFIG).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def vectors_by_hand(vectors: FieldVectors, row: int) -> list[np.ndarray]:
    """Of the user, of the item, and the mean over the genres."""
    tables = [table.weight.detach().numpy() for table in vectors.tables]
    user, item = BATCH.user[row], BATCH.item[row]
    genres = [int(value) for value in GENRES.ids[item] if value > 0]
    one = [tables[0][int(USER.ids[user])], tables[1][int(ITEM.ids[item])]]
    return [*one, np.mean([tables[2][value] for value in genres], axis=0)]


def linear_by_hand(model: Logistic, row: int) -> float:
    return float(sum(v[0] for v in vectors_by_hand(model.weights, row)) + model.bias.detach().numpy())


def test_logistic_regression() -> None:
    model = made(Logistic)
    expected = [linear_by_hand(model, row) for row in range(2)]
    np.testing.assert_allclose(model(BATCH).detach(), expected)


def test_factorization_machine() -> None:
    model = made(FM)
    for row, found in enumerate(model(BATCH).tolist()):
        v = vectors_by_hand(model.vectors, row)
        pairs = sum(float(v[i] @ v[j]) for i, j in combinations(range(3), 2))
        assert found == pytest.approx(linear_by_hand(model.linear, row) + pairs)


def test_field_aware_factorization_machine() -> None:
    model = made(FFM)
    for row, found in enumerate(model(BATCH).tolist()):
        v = [vector.reshape(3, CONFIG.dim) for vector in vectors_by_hand(model.vectors, row)]
        pairs = sum(float(v[i][j] @ v[j][i]) for i, j in combinations(range(3), 2))
        assert found == pytest.approx(linear_by_hand(model.linear, row) + pairs)


def layer(linear: nn.Module, x: np.ndarray) -> np.ndarray:
    return linear.weight.detach().numpy() @ x + linear.bias.detach().numpy()


def deep_by_hand(deep: nn.Sequential, x: np.ndarray) -> np.ndarray:
    for linear in (deep[0], deep[3]):
        x = np.maximum(layer(linear, x), 0)
    return x


def test_dcn() -> None:
    model = made(DCN)
    for row, found in enumerate(model(BATCH).tolist()):
        x0 = x = np.concatenate(vectors_by_hand(model.vectors, row))
        for cross in model.crosses:
            x = x0 * layer(cross, x) + x
        expected = layer(model.out, np.concatenate([x, deep_by_hand(model.deep, x0)]))
        assert found == pytest.approx(float(expected[0]))


def test_din() -> None:
    model = made(DIN)
    items = model.vectors.tables[1].weight.detach().numpy()
    acts = model.acts.weight.detach().numpy()
    first, prelu, last = model.attention
    slope = float(prelu.weight.detach())
    for row, found in enumerate(model(BATCH).tolist()):
        candidate = items[int(ITEM.ids[BATCH.item[row]])]
        interest, events = np.zeros(3), 0
        for item, act in zip(BATCH.history[row].tolist(), BATCH.acts[row].tolist(), strict=True):
            if act == 0:
                continue
            past = items[int(ITEM.ids[item])] + acts[act]
            hidden = layer(first, np.concatenate([past, candidate, past - candidate, past * candidate]))
            hidden = np.where(hidden > 0, hidden, slope * hidden)
            interest += float(layer(last, hidden)[0]) * past
            events += 1
        interest /= np.sqrt(events)
        x = np.concatenate([*vectors_by_hand(model.vectors, row), interest, interest * candidate])
        assert found == pytest.approx(float(layer(model.out, deep_by_hand(model.deep, x))[0]))


@pytest.fixture(scope="module")
def fitting(tmp_path_factory: pytest.TempPathFactory) -> Fitting:
    shards = rated(tmp_path_factory.mktemp("rated"))
    return Fitting.first(RankerData.of(shards, parse_labels("value>=4", ["rate"])[0]))


def test_batches_have_the_newest_events_before_each_row(fitting: Fitting) -> None:
    data = fitting.data
    rows = data.rows("test")
    batch = Batches(data, rows, 22).take(np.array([0, 5, len(rows) - 1]))
    item, value = (data.sequences.events[name].reshape(USERS, EVENTS) for name in ("item", "value"))
    for row, number in enumerate((0, 5, len(rows) - 1)):
        user, position = int(rows.sequence[number]), int(rows.position[number])
        before = [0] * (22 - min(22, position))
        assert batch.history[row].tolist() == before + item[user, max(0, position - 22) : position].tolist()
        likes = [2 + int(stars >= 4) for stars in value[user, max(0, position - 22) : position]]
        assert batch.acts[row].tolist() == before + likes
        assert batch.label[row] == float(value[user, position] >= 4)


@pytest.mark.parametrize("name", ["fm", "ffm", "dcn", "din"])
def test_networks_find_the_tastes(name: str, fitting: Fitting) -> None:
    config = RankersConfig(
        dim=8, hidden=[16], batch_rows=256, learning_rate=0.03, epochs=8, history=16, dropout=0.0
    )
    fitted = fit_network(name, fitting, config)
    rows = fitting.data.rows("test")
    assert auc_of(fitted.score(rows), rows.label[:, 0]) > 0.8
    again = fit_network(name, fitting, config)
    np.testing.assert_array_equal(fitted.score(rows), again.score(rows))
    assert again.chosen == fitted.chosen
    assert 1 <= fitted.chosen["epochs"] <= 8


def test_logistic_regression_does_not(fitting: Fitting) -> None:
    rows = fitting.data.rows("test")
    fitted = fit_network("logistic", fitting, RankersConfig(learning_rate=0.03, batch_rows=512, epochs=6))
    assert auc_of(fitted.score(rows), rows.label[:, 0]) < 0.7


def test_on_more_rows_a_network_takes_as_many_epochs_as_were_chosen(fitting: Fitting) -> None:
    config = RankersConfig(dim=4, batch_rows=512)
    more = fit_network("fm", fitting.again({"epochs": 2}), config)
    assert more.chosen == {"epochs": 2}
    assert len(fitting.again({}).train) == 20 * USERS


def test_numbers_start_from_their_mean(fitting: Fitting) -> None:
    data = RankerData(fitting.data.shards, fitting.data.sequences, parse_labels("value", ["rate"])[0])
    numbers = Fitting.first(data)
    fitted = fit_network("fm", numbers, RankersConfig(dim=8, learning_rate=0.03, batch_rows=256, epochs=8))
    rows = data.rows("test")
    error = np.sqrt(((fitted.score(rows) - rows.label[:, 0]) ** 2).mean())
    assert error < 0.8 * rows.label[:, 0].std()


def test_what_nobody_learned_from_is_unknown(tmp_path: Path) -> None:
    users = [User([2, 3, 4], 1, 2), User([3, 4, 5], 0, 1)]
    world = World(num_items=6, behaviors=("view", "buy"), targets=("view",))
    data = RankerData.of(open_(tmp_path, users, world), parse_labels("view", ["view", "buy"])[0])
    user, item = fields_of(data, data.rows("train"))
    assert (user.ids[:, 0].tolist(), user.size) == ([1, 0], 2)
    assert (item.ids[:, 0].tolist(), item.size) == ([0, 0, 1, 0, 0, 0, 0, 0], 2)
    assert set(NETWORKS) == {"logistic", "fm", "ffm", "dcn", "din"}


def open_(folder: Path, users: list[User], world: World) -> ShardFolder:
    from behavior.shards.folder import open_shards

    return open_shards(write_shards(folder, users, world))
