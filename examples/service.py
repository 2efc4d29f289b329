"""An HTTP service in front of a trained run: recommendations, similar items, health.

pip install "lrm-kit[service]"
python examples/service.py runs/served --items ml-1m --port 8000

curl localhost:8000/recommend -H 'content-type: application/json' -d '{"user": 1, "columns": ["title"]}'
curl localhost:8000/similar/2571?k=3
curl localhost:8000/health

Requests that come at the same time are answered together (micro-batching), by one thread, which owns the
model. Histories of people who come again are not computed anew. docs/serving.md says more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt

import models
from behavior.errors import UserError
from models.serving.export.similar import similar
from models.serving.live import Answer, Ask, LiveRecommender
from models.serving.recommend.request import Wanted
from models.serving.recommend.told import item_table


def whole_text(text: str) -> str:
    """JSON may hold halves of surrogate pairs (`"\\ud83d"`), which are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(whole_text), Field(max_length=1_000)]
Id = Text | StrictInt
Names = Annotated[tuple[Text, ...], Field(max_length=100)]
Ids = Annotated[tuple[Id, ...], Field(max_length=10_000)]


class Event(BaseModel):
    """One thing that somebody did; ids, names and times as in the log."""

    model_config = ConfigDict(extra="forbid")
    item: Id
    behavior: Text | None = None
    timestamp: Id | None = None
    domain: Text | None = None


class Question(BaseModel):
    """What is asked: for a user of the data set, or after a history; see docs/serving.md."""

    model_config = ConfigDict(extra="forbid")
    user: Id | None = None
    history: Annotated[list[Event], Field(max_length=10_000)] | None = None
    at: Id | None = None
    k: Annotated[int, Field(ge=1, le=1_000)] = 10
    behavior: Text | None = None
    domain: Text | None = None
    candidates: Ids | None = None
    exclude: Ids | None = None
    where: Names = ()
    exclude_seen: bool | Names | None = None
    columns: Names = ()

    def ask(self) -> Ask:
        """The same for the library."""
        named = self.model_dump(exclude={"user", "history", "at"})
        history = None
        if self.history is not None:
            history = [event.model_dump(exclude_none=True) for event in self.history]
        return Ask(self.user, history, self.at, Wanted(**named))


FIELDS = (
    "at",
    "k",
    "item",
    "behavior",
    "domain",
    "candidates",
    "exclude",
    "where",
    "columns",
    "exclude-seen",
)
FLAG = re.compile(rf"--(seen-by|{'|'.join(sorted(FIELDS, key=len, reverse=True))})\b(?: FILE)?")


def of_request(said: str | None) -> str | None:
    """What messages say to the command line, with fields of the request in place of its flags."""
    if said is None:
        return None
    return FLAG.sub(lambda flag: flag[1].replace("seen-by", "exclude-seen").replace("-", "_"), said)


class Plain(JSONResponse):
    """JSON in ASCII: there is nothing that it cannot hold, whatever was asked."""

    def render(self, content: Any) -> bytes:
        """See `starlette.responses.Response.render`."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class Together:
    """Answers what comes within a moment together, in one thread.

    Args:
        answer: of several questions.
        most: questions at once.
        wait: seconds for which the first waits for others.
        queue: questions that wait, at most; more are told to come again.
    """

    def __init__(
        self, answer: Callable[[list[Ask]], list[Answer | UserError]], most: int, wait: float, queue: int
    ) -> None:
        self.answer, self.most, self.wait = answer, most, wait
        self.waiting: asyncio.Queue[tuple[Ask, asyncio.Future[Answer | UserError]]] = asyncio.Queue(queue)
        self.thread = ThreadPoolExecutor(1)
        self.batches = self.questions = 0

    async def ask(self, ask: Ask) -> Answer | UserError:
        """The answer to one question."""
        future: asyncio.Future[Answer | UserError] = asyncio.get_running_loop().create_future()
        try:
            self.waiting.put_nowait((ask, future))
        except asyncio.QueueFull:
            raise HTTPException(503, "too many questions wait", {"retry-after": "1"}) from None
        return await future

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            some = [await self.waiting.get()]
            until = loop.time() + self.wait
            while len(some) < self.most:
                try:
                    async with asyncio.timeout_at(until):
                        some.append(await self.waiting.get())
                except TimeoutError:
                    break
            self.batches, self.questions = self.batches + 1, self.questions + len(some)
            asks = [ask for ask, _ in some]
            answers = await loop.run_in_executor(self.thread, self._answers, asks)
            for (_, future), answer in zip(some, answers, strict=True):
                if future.done():  # who asked may have gone
                    continue
                if isinstance(answer, UserError) or not isinstance(answer, Exception):
                    future.set_result(answer)
                else:
                    future.set_exception(answer)

    def _answers(self, asks: list[Ask]) -> Sequence[Answer | Exception]:
        """After a fault of ours each is asked alone: those who meet it again are told, others answered."""
        try:
            return self.answer(asks)
        except Exception as error:
            if len(asks) == 1:
                return [error]
        return [answer for ask in asks for answer in self._answers([ask])]

    async def call(self, work: Callable[[], Any]) -> Any:
        """Other work of the thread that owns the model."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)


def create_app(
    run: str | Path,
    *,
    items: str | Path | None = None,
    data: str | Path | None = None,
    cache_bytes: int = 256 << 20,
    device: str = "auto",
    most: int = 64,
    wait: float = 0.005,
    queue: int = 1_000,
) -> FastAPI:
    """The service of a run.

    Args:
        run: its folder.
        items: where columns are that the data set does not keep, such as titles.
        data: the shard folder, if it has moved since training.
        cache_bytes: memory for histories of people who come again.
        device: where the model is: auto, cpu or cuda.
        most, wait, queue: see `Together`.

    Raises:
        UserError: the run cannot be served, or there is no table of items.
    """
    model = models.load_model(run, device=device, data=data)  # type: ignore[arg-type]
    if items is not None:
        item_table(items, (), model.shards)  # a wrong one is told now, and not to who asks first
    live = LiveRecommender(model, cache_bytes=cache_bytes, items=items)
    together = Together(live.recommend, most, wait, queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(together.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        together.thread.shutdown()

    app = FastAPI(title="lrm-kit", lifespan=lifespan, default_response_class=Plain)
    app.state.live, app.state.together = live, together

    @app.exception_handler(UserError)
    async def told(request: Request, error: UserError) -> JSONResponse:
        """What the command line would say with --json, of the fields of the request."""
        where = of_request(error.where)
        said = {"what": of_request(error.what), "where": where, "fix": of_request(error.fix)}
        unknown = where in ("user", "item")
        return Plain({"error": said}, 404 if unknown else 400)

    @app.exception_handler(RequestValidationError)
    async def no_question(request: Request, error: RequestValidationError) -> JSONResponse:
        """What is wrong, without what was sent: it may be long, or nothing that JSON can say, as NaN is."""
        return Plain(
            {"detail": [{name: one[name] for name in ("type", "loc", "msg")} for one in error.errors()]}, 422
        )

    @app.post("/recommend")
    async def recommend(question: Question) -> dict[str, Any]:
        answer = await together.ask(question.ask())
        if isinstance(answer, UserError):
            raise answer
        return {"user": question.user, "answer": answer.by, "items": answer.rows}

    @app.get("/similar/{item}")
    async def similar_items(item: str, k: int = 10) -> dict[str, Any]:
        found: Awaitable[Any] = together.call(lambda: similar(model, item, k))
        return {"item": item, "similar": await found}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        kept = live.uncached if live.cache is None else asdict(live.cache.counts)
        counts = {"batches": together.batches, "questions": together.questions}
        return {"status": "ok", "run": str(run), "items": len(model.item_ids), **counts, "histories": kept}

    return app


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--items", help="titles: a table with a column 'item', or the item tables' folder")
    parser.add_argument("--data", help="the shard folder, if it has moved since training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache-mib", type=int, default=256, help="memory for histories; 0: none")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    try:
        app = create_app(
            given.run,
            items=given.items,
            data=given.data,
            cache_bytes=given.cache_mib << 20,
            device=given.device,
        )
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    uvicorn.run(app, host=given.host, port=given.port)


if __name__ == "__main__":
    main()
