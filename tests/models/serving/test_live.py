"""Requests as they come get what `recommend` gives, whatever of their histories is kept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behavior.errors import UserError
from models import load_model
from models.serving.live import Answer, Ask, LiveRecommender
from models.serving.load import TrainedModel
from models.serving.recommend.request import Wanted
from tests.models.serving.recommend_world import BEHAVIORS, ITEMS, run_on

RICH = (
    "loss.history=learned",
    "loss.jumps=learned",
    "loss.trends=learned",
    "embedding.behaviors=add",
    "embedding.query_behavior=add",
)
PLAIN = ("model.kind=sasrec", "model.time=unknown", "model.input_behaviors=target")
AT = 1_000_900_000


@pytest.fixture(scope="module", params=[RICH, PLAIN], ids=["rich", "plain"])
def model(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedModel:
    return load_model(run_on(data, tmp_path_factory.mktemp("live") / "run", request.param), device="cpu")


def least(model: TrainedModel) -> int:
    """Bytes of one history; what a smaller budget is refused with says so."""
    with pytest.raises(UserError, match=r"takes .* bytes") as caught:
        LiveRecommender(model, cache_bytes=1)
    return int(caught.value.what.split(" takes ")[1].split(" bytes")[0].replace(",", ""))


def at_of(model: TrainedModel) -> dict[str, Any]:
    return {"at": AT} if model.config.model.time == "known" else {}


def expected(model: TrainedModel, ask: Ask) -> list[dict[str, Any]]:
    """By a call of its own, which keeps nothing."""
    wanted = {name: value for name, value in vars(ask.wanted).items() if name not in ("at", "items")}
    asked = wanted | at_of(model)
    if ask.history is None:
        return model.recommend([ask.user], **asked).table().to_pylist()
    rows = [{**event, "user": "me"} for event in ask.history]
    rows = rows or [{"user": "me", "item": None, "behavior": None, "timestamp": None}]
    return model.recommend(histories=rows, **asked).table().to_pylist()


def check(answer: Answer | UserError, rows: list[dict[str, Any]]) -> None:
    assert isinstance(answer, Answer), answer
    assert [row["item"] for row in answer.rows] == [row["item"] for row in rows]
    assert [row["rank"] for row in answer.rows] == [row["rank"] for row in rows]
    assert {answer.by} == {row["answer"] for row in rows}
    np.testing.assert_allclose(
        [row["score"] for row in answer.rows], [row["score"] for row in rows], rtol=1e-4, atol=1e-6
    )


def event(draw: random.Random, time: int) -> dict[str, Any]:
    return {"item": f"i{draw.randrange(ITEMS + 3)}", "behavior": draw.choice(BEHAVIORS), "timestamp": time}


@pytest.mark.parametrize("histories", [0, 3, 100])
def test_people_who_come_again(model: TrainedModel, histories: int) -> None:
    """Histories grow, some begin otherwise than before, some people come twice at once; of few places."""
    draw = random.Random(histories)
    live = LiveRecommender(model, cache_bytes=histories * least(model))
    assert (live.cache is None) == (histories == 0)
    known: dict[str, list[dict[str, Any]]] = {f"p{number}": [] for number in range(6)}
    wanted = Wanted(k=5, exclude_seen=False)
    for turn in range(5):
        asks = []
        for name, own in known.items():
            if draw.random() < 0.1:
                own.clear()
            own += [event(draw, 1_000_000_000 + 100 * turn + step) for step in range(draw.randrange(4))]
            if draw.random() < 0.8:
                asks.append(Ask(name, list(own), **at_of(model), wanted=wanted))
        asks.append(Ask("p0", [event(draw, 1_000_000_000)], **at_of(model), wanted=wanted))
        asks += [Ask(user, **at_of(model), wanted=wanted) for user in ("u3", "u9")]
        asks += [Ask(None, list(known["p1"]), **at_of(model), wanted=wanted)] * 2
        for ask, answer in zip(asks, live.recommend(asks), strict=True):
            check(answer, expected(model, ask))
    if live.cache is not None:
        assert live.cache.counts.hits > 0
        assert (live.cache.counts.evictions > 0) == (histories == 3)


def test_each_gets_what_it_asks_for(model: TrainedModel) -> None:
    live = LiveRecommender(model, cache_bytes=20 * least(model))
    kinds = [
        Wanted(k=3),
        Wanted(k=4, where=("genres=Western",)),
        Wanted(k=4, exclude_seen=("view",), columns=("genres", "count")),
        Wanted(k=2, candidates=("i1", "i2", "i3"), exclude=("i2",)),
    ]
    if model.served.module.is_told_behavior:
        kinds.append(Wanted(k=6, behavior="view"))
    asks = [Ask(user, **at_of(model), wanted=wanted) for user in ("u1", "u2") for wanted in kinds]
    for ask, answer in zip(asks, live.recommend(asks), strict=True):
        rows = expected(model, ask)
        check(answer, rows)
        for column in ask.wanted.columns:
            assert [row[column] for row in answer.rows] == [row[column] for row in rows]  # type: ignore[union-attr]


def test_one_that_cannot_be_answered_stops_no_other(model: TrainedModel) -> None:
    live = LiveRecommender(model, cache_bytes=20 * least(model))
    good = {"item": "i1", "behavior": "buy", "timestamp": 1_000_000_000}
    asks = [
        Ask("u1", **at_of(model)),
        Ask("nobody", **at_of(model)),
        Ask("a", [good, good | {"behavior": "byu"}], **at_of(model)),
        Ask("b", [good], **at_of(model)),
        Ask("c", [{"item": "i1"}], **at_of(model)),
        Ask("d", [], **at_of(model)),
        Ask("u2", **at_of(model), wanted=Wanted(k=99)),
        Ask("e", [good | {"timestamp": 7}], **at_of(model)),
        Ask("u2", at="soon"),
    ]
    found = live.recommend(asks)
    for number in (0, 3, 5):
        check(found[number], expected(model, asks[number]))
    said = {number: str(answer) for number, answer in enumerate(found) if isinstance(answer, UserError)}
    when = "is no time" if model.config.model.time == "known" else "not told when it is asked"
    for number, words in {
        1: "user 'nobody' is not in the data set",
        2: "behavior 'byu' is not in the data set",
        4: "behavior",
        6: "99 items a user are asked for",
        7: "1970",
        8: when,
    }.items():
        assert words in said.pop(number)
    assert not said


def test_a_sequence_a_behavior_is_kept_and_nothing_is_reranked(data: Path, tmp_path: Path) -> None:
    model = load_model(run_on(data, tmp_path / "run", ("embedding.layout=channels",)), device="cpu")
    live, ask = LiveRecommender(model, cache_bytes=1 << 20), Ask("u1", at=AT)
    for _ in range(2):
        answer, refused = live.recommend([ask, Ask("u2", at=AT, wanted=Wanted(rerank="runs/ranked"))])
        check(answer, expected(model, ask))
        assert isinstance(refused, UserError)
        assert "in the order of the model's own scores" in refused.what
    assert live.uncached is None
    assert live.cache is not None
    assert live.cache.counts.hits > 0


def test_without_the_data_set_histories_are_enough(data: Path, tmp_path: Path) -> None:
    run = run_on(data, tmp_path / "run", ("model.time=unknown",))
    whole = load_model(run, device="cpu")
    data.rename(data.with_name("moved"))
    try:
        live = LiveRecommender(load_model(run, device="cpu"), cache_bytes=1 << 20)
        ask = Ask("a", [{"item": "i1", "behavior": "buy", "timestamp": 1_000_000_000}])
        gone, answer = live.recommend([Ask("u1"), ask])
        assert isinstance(gone, UserError)
    finally:
        data.with_name("moved").rename(data)
    check(answer, expected(whole, ask))
