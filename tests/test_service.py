"""The example of an HTTP service, under load: every answer is that of `recommend` called directly."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

from behavior.errors import UserError
from models import load_model
from models.serving.export.similar import similar
from models.serving.load import TrainedModel
from tests.models.serving.recommend_world import BEHAVIORS, ITEMS, prepare, run_on

ROOT = Path(__file__).parents[1]
AT = 1_000_900_000
REQUESTS = 240
Visit = Callable[[httpx.AsyncClient], Awaitable[Any]]


@pytest.fixture(scope="module")
def service() -> ModuleType:
    spec = importlib.util.spec_from_file_location("service", ROOT / "examples" / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["service"] = module  # pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    settings = ("loss.history=learned", "embedding.behaviors=add", "embedding.query_behavior=add")
    return run_on(prepare(folder), folder / "run", settings)


@pytest.fixture(scope="module")
def model(run: Path) -> TrainedModel:
    return load_model(run, device="cpu")


def visited(app: Any, visit: Visit) -> Any:
    """What comes of a visit to the running service, in this process."""

    async def whole() -> Any:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await visit(client)

    return asyncio.run(asyncio.wait_for(whole(), 120))


def questions(draw: random.Random) -> list[dict[str, Any]]:
    """Users, growing histories of people who come again, strangers; several kinds of wishes."""
    own: dict[str, list[dict[str, Any]]] = {}
    found = []
    for number in range(REQUESTS):
        question: dict[str, Any] = {"at": AT, "k": draw.choice((3, 5)), "exclude_seen": draw.random() < 0.5}
        if draw.random() < 0.3:
            question |= {"where": ["genres=Western"], "columns": ["genres"]}
        if draw.random() < 0.3:
            question["behavior"] = "view"
        if draw.random() < 0.4:
            question["user"] = f"u{draw.randrange(40)}"
        else:
            name = f"p{draw.randrange(12)}"
            events = own.setdefault(name, [])
            for _ in range(draw.randrange(3)):
                item = f"i{draw.randrange(ITEMS + 2)}"
                behavior, time = draw.choice(BEHAVIORS), 1_000_000_000 + 10 * number
                events.append({"item": item, "behavior": behavior, "timestamp": time})
            question |= {"user": name, "history": list(events)}
        found.append(question)
    return found


def directly(model: TrainedModel, question: dict[str, Any]) -> list[dict[str, Any]]:
    asked = {name: value for name, value in question.items() if name not in ("user", "history")}
    if "history" not in question:
        return model.recommend([question["user"]], **asked).table().to_pylist()
    nothing = {"item": None, "behavior": None, "timestamp": None}
    rows = [{**event, "user": question["user"]} for event in question["history"] or [nothing]]
    return model.recommend(histories=rows, **asked).table().to_pylist()


def test_every_answer_under_load_is_that_of_recommend(
    service: ModuleType, run: Path, model: TrainedModel
) -> None:
    """In waves, so that histories grow; within a wave all ask at once."""
    asked = questions(random.Random(0))
    app = service.create_app(run, device="cpu", cache_bytes=1 << 17, most=16)
    assert app.state.live.cache is not None

    async def visit(client: httpx.AsyncClient) -> tuple[list[Any], Any]:
        answers = []
        for first in range(0, REQUESTS, 40):
            wave = [client.post("/recommend", json=one) for one in asked[first : first + 40]]
            answers += await asyncio.gather(*wave)
        return answers, (await client.get("/health")).json()

    answers, health = visited(app, visit)
    assert len(answers) == REQUESTS
    for question, answer in zip(asked, answers, strict=True):
        assert answer.status_code == 200, answer.text
        given, rows = answer.json(), directly(model, question)
        assert given["user"] == question["user"]
        assert {given["answer"]} == {row["answer"] for row in rows}
        for name in ("rank", "item", *question.get("columns", ())):
            assert [row[name] for row in given["items"]] == [row[name] for row in rows]
        np.testing.assert_allclose(
            [row["score"] for row in given["items"]], [row["score"] for row in rows], rtol=1e-4, atol=1e-6
        )
    assert health["status"] == "ok"
    assert health["questions"] == REQUESTS
    assert REQUESTS / 16 <= health["batches"] < REQUESTS / 4
    assert health["histories"]["hits"] > 40


GOOD = {"item": "i1", "behavior": "buy", "timestamp": 1_000_000_000}
WRONG: list[tuple[dict[str, Any], int]] = [
    ({"user": "u1", "k": 31}, 400),
    ({"user": "u1", "at": "soon"}, 400),
    ({"user": "u1", "where": ["genre=Drama"]}, 400),
    ({"user": "u1", "behavior": "byu"}, 400),
    ({"user": "u1", "columns": ["title"]}, 400),
    ({"user": "a", "history": [GOOD | {"behavior": "byu"}]}, 400),
    ({"user": "a", "history": [GOOD | {"timestamp": 12}]}, 400),
    ({"user": "a", "history": [{"item": "i1", "behavior": "buy"}]}, 400),
    ({"user": "a", "history": [GOOD | {"timestamp": 2**70}]}, 400),
    ({"user": "u1", "candidates": [7, "nobody", 2**70]}, 400),
]


def test_what_is_wrong_is_told_as_recommend_tells_it(
    service: ModuleType, run: Path, model: TrainedModel
) -> None:
    app = service.create_app(run, device="cpu", cache_bytes=0)

    async def visit(client: httpx.AsyncClient) -> list[httpx.Response]:
        good = {"user": "u1", "at": AT}
        wrong = [client.post("/recommend", json=question) for question, _ in WRONG]
        return list(await asyncio.gather(*wrong, client.post("/recommend", json=good)))

    *answers, good = visited(app, visit)
    assert good.status_code == 200
    for (question, code), answer in zip(WRONG, answers, strict=True):
        assert answer.status_code == code, answer.text
        with pytest.raises(UserError) as caught:
            directly(model, question)
        assert answer.json()["error"]["what"] == caught.value.what
        said = " ".join(str(part) for part in answer.json()["error"].values()).replace("train with --set", "")
        assert "--" not in said, said
    where = [answer.json()["error"]["where"] for answer in answers]
    assert where[:5] == ["k", "at", "where genre=Drama", "behavior = byu", "columns title"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nosuch"], "error: 'nosuch' is not a training run"),
        (
            ["RUN", "--items", "nosuch.csv"],
            "error: 'nosuch.csv' cannot be read|error: there is no file 'nosuch.csv'",
        ),
        (["RUN", "--device", "cpu", "--data", "nosuch"], "error: .*nosuch"),
        (["RUN", "--device", "cpu", "--cache-mib", "0", "--items", "FOLDER"], "error: .*FOLDER"),
    ],
)
def test_what_cannot_be_served_is_said(
    given: list[str],
    said: str,
    service: ModuleType,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anybody asks."""
    named = {"RUN": str(run), "FOLDER": str(tmp_path)}
    monkeypatch.setattr(sys, "argv", ["service.py", *[named.get(word, word) for word in given]])
    with pytest.raises(SystemExit) as caught:
        service.main()
    assert re.match(said.replace("FOLDER", re.escape(str(tmp_path))), str(caught.value), re.DOTALL), (
        caught.value
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("--where feature=value", "where feature=value"),
        ("or list the items: --candidates FILE", "or list the items: candidates"),
        ("--seen-by byu", "exclude_seen byu"),
        (
            "give a table of items that has it: --items FILE",
            "give a table of items that has it: --items FILE",
        ),
        ("--exclude-seen and --exclude", "exclude_seen and exclude"),
        (None, None),
    ],
)
def test_flags_become_fields_of_the_request(service: ModuleType, said: str | None, told: str | None) -> None:
    """`--items` is a flag of the service itself."""
    assert service.of_request(said) == told


def test_users_and_items_that_are_not_there_and_similar_ones(
    service: ModuleType, run: Path, model: TrainedModel
) -> None:
    app = service.create_app(run, device="cpu", cache_bytes=0)

    async def visit(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.post("/recommend", json={"user": "nobody"}),
            await client.get("/similar/i3000"),
            await client.get("/similar/i1?k=1000"),
            await client.post("/recommend", json={"user": "u1", "colums": ["genres"]}),
            await client.post("/recommend", json={}),
            await client.get("/similar/i1?k=4"),
            await client.get("/health"),
        ]

    nobody, no_item, too_many, misspelt, empty, near, health = visited(app, visit)
    codes = [one.status_code for one in (nobody, no_item, too_many, misspelt, empty)]
    assert codes == [404, 404, 400, 422, 400]
    assert empty.json()["error"]["what"] == "neither a user nor a history is given"
    assert nobody.json()["error"]["what"] == "user 'nobody' is not in the data set"
    assert "no item 'i3000'" in no_item.json()["error"]["what"]
    assert [one.json()["error"]["where"] for one in (no_item, too_many)] == ["item", "k"]
    assert near.json() == {"item": "i1", "similar": similar(model, "i1", 4)}
    assert health.json()["histories"] == "no memory for histories"


@pytest.mark.parametrize(
    "body",
    [
        b'{"user": NaN}',
        b'{"user": "u1", "at": Infinity}',
        b'{"user": "x\\ud83d"}',
        b'{"user": "a", "history": [{"item": "\\udfff", "behavior": "buy", "timestamp": 1000000000}]}',
        b'{"\\ud83d": 1}',
        b'{"user": true}',
        b'{"user": 1.5}',
        b'{"user": "' + b"x" * 2_000 + b'"}',
        b"[]",
        b"{",
        b"",
    ],
)
def test_what_is_no_question_is_told(service: ModuleType, run: Path, body: bytes) -> None:
    app = service.create_app(run, device="cpu", cache_bytes=0)

    async def visit(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/recommend", content=body, headers={"content-type": "application/json"})

    answer = visited(app, visit)
    assert (answer.status_code, len(answer.content) < 1_000) == (422, True)
    assert answer.json()["detail"][0]["msg"]


def test_a_fault_is_told_to_those_who_meet_it_alone(service: ModuleType, run: Path) -> None:
    app = service.create_app(run, device="cpu", cache_bytes=0, wait=0.05)
    answer = app.state.together.answer

    def fails(asks: list[Any]) -> Any:
        if any(ask.user == "u2" for ask in asks):
            raise RuntimeError("a fault")
        return answer(asks)

    app.state.together.answer = fails

    async def visit(client: httpx.AsyncClient) -> list[Any]:
        asks = [{"user": f"u{number}", "at": AT, "k": 2} for number in range(5)]
        posts = [client.post("/recommend", json=ask) for ask in asks]
        return list(await asyncio.gather(*posts, return_exceptions=True))

    found = visited(app, visit)
    assert isinstance(found.pop(2), RuntimeError)
    assert [one.status_code for one in found] == [200] * 4
    assert app.state.together.batches < 5


def test_a_full_queue_and_a_fault(service: ModuleType, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes when too many wait is told to come again; after a fault the service goes on."""
    app = service.create_app(run, device="cpu", queue=3, most=2)

    async def visit(client: httpx.AsyncClient) -> tuple[list[int], list[int]]:
        ask = {"user": "u1", "at": AT, "k": 2}
        crowd = await asyncio.gather(*(client.post("/recommend", json=ask) for _ in range(12)))

        def fails(asks: Any) -> Any:
            raise RuntimeError("a fault")

        answer = app.state.together.answer
        app.state.together.answer = fails
        with pytest.raises(RuntimeError, match="a fault"):
            await client.post("/recommend", json=ask)
        app.state.together.answer = answer
        after = await client.post("/recommend", json=ask)
        return [one.status_code for one in crowd], [after.status_code]

    crowd, after = visited(app, visit)
    assert set(crowd) == {200, 503}
    assert crowd.count(200) >= 3
    assert after == [200]
