"""The share of time in each part of recommending: functions are wrapped, and the device is waited for."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch

from models.data.loading import ShardSource
from models.serving.load import TrainedModel
from models.serving.recommend import output, stream
from models.serving.recommend.users import DataSetUsers
from models.tasks.retrieval import evaluator


class Parts:
    """Seconds in parts, of which one within another counts for the inner alone.

    Args:
        device: waited for at the borders, so that all together is slower than without.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def wrapped(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._wait()
            begin = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*arguments, **named)
            finally:
                self._wait()
                whole = time.perf_counter() - begin
                self.seconds[part] += whole - self._inner.pop()
                self._inner[-1] += whole

        return call

    def shares(self, whole: float) -> dict[str, float]:
        """Of all seconds."""
        found = {part: seconds / whole for part, seconds in self.seconds.items()}
        return {**found, "other": 1.0 - sum(found.values())}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def timed_parts(model: TrainedModel) -> tuple[Parts, ExitStack]:
    """Parts that fill while the stack is open."""
    parts, stack = Parts(model.served.module.device), ExitStack()
    users_of = DataSetUsers.__init__.__globals__["RowGroupReader"]
    for owner, name, part in (
        (ShardSource, "read", "reading histories"),
        (users_of, "read", "reading ids of users"),
        (stream, "take_sequences", "questions behind histories"),
        (stream, "ask", "questions behind histories"),
        (evaluator, "gather", "packing batches"),
        (type(model.served.module), "outputs", "model"),
        (evaluator, "newest_scores", "queries, history, jumps, trends"),
        (stream, "top_items", "scores of all items, and the top ones"),
        (stream, "indexed_top_items", "index, and scores of what it finds"),
        (stream.Stream, "_rows", "rows with ids"),
    ):
        stack.enter_context(patch.object(owner, name, parts.wrapped(part, getattr(owner, name))))
    opened = output._open

    def open_writer(*arguments: Any) -> Any:
        writer = opened(*arguments)
        return _Timed(writer, parts.wrapped("writing", writer.write_batch))

    stack.enter_context(patch.object(output, "_open", open_writer))
    return parts, stack


class _Timed:
    """A writer of which one method is timed."""

    def __init__(self, writer: Any, write_batch: Callable[..., Any]) -> None:
        self.write_batch, self.close = write_batch, writer.close
