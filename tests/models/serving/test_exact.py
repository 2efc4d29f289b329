"""Top items on real logs are those of a plain loop over all items in float64, with all that competes."""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

import behavior
from models import load_config, load_model, train
from models.build import sequences_of
from models.data.sequences import SequenceData, concat_sequences
from models.data.windows import gather, history_windows
from models.history.jumps import ExactJumpLogits, JumpLogits
from models.serving.load import TrainedModel
from models.serving.recommend.asked import Question, ask, take_sequences
from models.tasks.retrieval.scoring import scoring

RAW = Path(os.environ.get("LRM_DATA", "nowhere"))
USERS, K, HOUR = 12, 10, 3600
SETTINGS = ("model.dim=8", "model.blocks=1", "model.max_length=40", "train.epochs=1", "train.device=cpu")
ALL_MASSES = ("loss.history=learned", "loss.jumps=learned", "loss.trends=learned")


def some_of_movielens(folder: Path) -> None:
    with (RAW / "ml-1m" / "ratings.dat").open(encoding="latin-1") as file:
        lines = [line for line in file if int(line.split("::")[0]) <= 60]
    (folder / "ratings.dat").write_text("".join(lines))
    for name in ("movies.dat", "users.dat"):
        (folder / name).write_bytes((RAW / "ml-1m" / name).read_bytes())


def some_of_taobao(folder: Path) -> None:
    with gzip.open(RAW / "taobao" / "events.csv.gz", "rt") as file:
        lines = [next(file), *(line for line in file if int(line.split(",")[0]) < 250)]
    (folder / "events.csv.gz").write_bytes(gzip.compress("".join(lines).encode()))


def some_of_a_grocer(folder: Path) -> None:
    raw = RAW / "completejourney"
    table = pq.read_table(raw / "transactions.parquet")
    few = pc.less_equal(table["household_id"].cast("int64"), 12)
    pq.write_table(table.filter(few), folder / "transactions.parquet")
    for name in ("products.parquet", "demographics.parquet"):
        (folder / name).write_bytes((raw / name).read_bytes())


LOGS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "ml-1m": (some_of_movielens, ALL_MASSES),
    "taobao": (some_of_taobao, (*ALL_MASSES, "embedding.behaviors=add", "embedding.query_behavior=add")),
    "completejourney": (some_of_a_grocer, (*ALL_MASSES[:2], "loss.jump_own=subtract")),
}


def trained(name: str, folder: Path) -> TrainedModel:
    """A short training, after which all parameters of logits get a value of their own."""
    write, settings = LOGS[name]
    (folder / "raw").mkdir()
    write(folder / "raw")
    behavior.prepare(name, folder / "data", folder / "raw")
    train(load_config("default", [*SETTINGS, *settings]), folder / "data", folder / "run")
    model = load_model(folder / "run", device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for part in (model.served.module.history, model.served.module.jumps, model.served.module.trends):
            for parameter in () if part is None else part.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def popular_of_late(model: TrainedModel, data: SequenceData, at: int) -> np.ndarray:
    """[scales, items] shares of items in the target events of the training part before a time, by their
    definition."""
    loss, about = model.config.loss, model.about
    place = np.arange(len(data.item)) - np.repeat(data.offsets[:-1], data.lengths)
    counts = (place < np.repeat(data.train_end, data.lengths)) & (data.timestamp < at)
    counts &= np.isin(data.behavior, about.target_behaviors) & (data.item >= about.first_item)
    item, age = data.item[counts] - about.first_item, at - data.timestamp[counts].astype(np.float64)
    shares = []
    for hours in loss.trend_hours:
        decayed = np.bincount(item, np.exp(-age / (HOUR * hours)), minlength=len(model.item_ids))
        shares.append(decayed / decayed.sum())
    return np.array(shares)


def logits_by_hand(model: TrainedModel, data: SequenceData, row: int, at: int, wanted: int) -> list[float]:
    """Of all items, for one user alone: products and sums of exponentials item by item in float64."""
    module, first = model.served.module, model.about.first_item
    whole, targets, _ = ask(take_sequences(data, np.array([row])), Question(wanted, at=at))
    longest = model.config.model.max_length
    windows = history_windows(whole, targets.sequence, targets.stop, targets.event, longest)
    batch = gather(whole, windows, time=model.config.model.time)
    with scoring(module):
        outputs = module.outputs(batch)
        query = module.queries(outputs)[-1].double().tolist()
        vectors = module.item_vectors().double().tolist()
        past = None if module.history is None else module.history.last_logits(outputs, batch).tolist()
        weights = None if module.trends is None else module.trends.weights(outputs, batch)[-1].tolist()
        votes = _votes(module.jumps, outputs, batch, len(vectors))
    scores = [sum(a * b for a, b in zip(query, vector, strict=True)) for vector in vectors]
    odds = [math.exp(score / module.temperature) for score in scores]
    for event, logit in enumerate(past or ()):
        if batch.item[event] >= first:
            odds[int(batch.item[event]) - first] += math.exp(logit)
    for item, vote in votes:
        odds[item] += math.exp(vote)
    if weights is not None:
        for weight, shares in zip(weights, popular_of_late(model, data, at), strict=True):
            for item, share in enumerate(shares.tolist()):
                odds[item] += math.exp(weight) * share
    return [math.log(odd) for odd in odds]


def _votes(jumps: Any, outputs: torch.Tensor, batch: Any, items: int) -> list[tuple[int, float]]:
    """Items and logarithms of votes for them."""
    if isinstance(jumps, JumpLogits):
        found = jumps.votes(outputs, batch, batch.item.numpy(), batch.sequences.lengths)
        return list(zip(found.item.tolist(), found.mass[torch.from_numpy(found.place)].tolist(), strict=True))
    if isinstance(jumps, ExactJumpLogits):
        mass = jumps.mass(outputs, batch).add_to(torch.full((1, items), float("-inf")), 0, items)[0]
        return [(item, value) for item, value in enumerate(mass.tolist()) if value > float("-inf")]
    return []


@pytest.mark.skipif(not RAW.is_dir(), reason="LRM_DATA is not set: it names the folder of the public logs")
@pytest.mark.parametrize("name", LOGS)
def test_top_items_of_real_logs(name: str, tmp_path: Path) -> None:
    model = trained(name, tmp_path)
    data = concat_sequences(list(sequences_of(model.shards, model.config, model.task.columns)))
    users = _users(model)
    at, ids = int(data.timestamp.max()) + HOUR, model.item_ids.to_pylist()
    wanted = model.about.target_behaviors[-1]
    asked: dict[str, Any] = {"k": K, "at": at, "exclude_seen": False}
    if model.served.module.is_told_behavior:
        asked["behavior"] = model.about.behaviors[wanted - 1]
    rows = model.recommend(users[:USERS], **asked).table().to_pylist()
    assert len(rows) == USERS * K
    same = 0
    for row in range(USERS):
        logits = logits_by_hand(model, data, row, at, wanted)
        best = sorted(range(len(ids)), key=lambda item: (-logits[item], item))[:K]
        own = [one for one in rows if one["user"] == users[row]]
        given = [ids.index(one["item"]) for one in own]
        # Float32 may exchange what scores alike; by no more than its rounding.
        np.testing.assert_allclose(
            [logits[item] for item in given], [logits[item] for item in best], atol=2e-5
        )
        np.testing.assert_allclose([one["score"] for one in own], [logits[item] for item in given], atol=2e-5)
        same += given == best
    assert same >= USERS - 1


def _users(model: TrainedModel) -> list[Any]:
    """In the order of the data set."""
    tables = model.shards.iter_sequences()
    return [user for table in tables for user in table["user"].to_pylist()]
