"""What surrounds a capture, without a GPU: its stream, and what Python does meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from models.gpu.cuda_graph import CudaGraphs


class Stream:
    """Of nothing."""

    def wait_stream(self, other: object) -> None:
        """Nobody waits."""


class Graph:
    """That replays nothing."""

    def replay(self) -> None:
        """Nothing."""


class Device:
    """In place of `torch.cuda`: remembers which stream is current."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.main = self.current = Stream()
        self.fails = False
        for name, value in {
            "Stream": lambda device: Stream(),
            "graph_pool_handle": lambda: (0, 0),
            "current_stream": lambda device: self.current,
            "set_stream": lambda stream: setattr(self, "current", stream),
            "stream": lambda stream: nullcontext(),
            "CUDAGraph": Graph,
            "graph": self.capture,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)

    @contextmanager
    def capture(self, graph: Graph, *, stream: Stream, **_: Any) -> Iterator[None]:
        """As torch's: where the end of a capture fails, the thread stays on its stream."""
        before, self.current = self.current, stream
        yield
        if self.fails:
            raise RuntimeError("operation not permitted while a stream is captured")
        self.current = before


def test_nothing_is_collected_in_a_capture_and_its_stream_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    device, collecting = Device(monkeypatch), []

    def work() -> list[Tensor]:
        collecting.append(gc.isenabled())
        return [torch.ones(1)]

    replayed = CudaGraphs(torch.device("cpu"))(work)
    for _ in range(3):  # warm-up, capture, replay
        assert replayed()[0].item() == 1.0
    assert collecting == [True, False]
    assert gc.isenabled()
    device.fails = True
    other = CudaGraphs(torch.device("cpu"))(work)
    other()
    with pytest.raises(RuntimeError, match="not permitted"):
        other()
    assert gc.isenabled()
    assert device.current is device.main


def test_what_fails_in_warm_up_is_warmed_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Device(monkeypatch)
    captured, calls = [], []

    def work() -> list[Tensor]:
        calls.append(len(calls))
        captured.append(not gc.isenabled())
        if len(calls) == 1:
            raise MemoryError
        return [torch.ones(1)]

    replayed = CudaGraphs(torch.device("cpu"))(work)
    with pytest.raises(MemoryError):
        replayed()
    replayed()
    assert captured == [False, False]
