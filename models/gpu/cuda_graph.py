"""CUDA graphs: work on a GPU is captured once and replayed without Python and single kernel launches."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

Work = Callable[[], Sequence[Tensor]]
"""Something to do on a device, with static input tensors; returns results."""


@contextmanager
def without_collection() -> Iterator[None]:
    """In here, Python frees no cycles of objects that nobody has any more: they may hold other graphs, events
    and pinned memory, to free which is not allowed while something is captured, and ends the capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class CudaGraphs:
    """Captures CUDA graphs that share a memory pool: no two of them are replayed at the same time.

    Args:
        device: a GPU.
        capturing: what else to enter while something is captured.
    """

    def __init__(
        self, device: torch.device, capturing: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self.device, self.capturing = device, capturing
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """The same work: the first call is warm-up, the second captures, and all calls from then on replay.

        In warm-up kernels are loaded and compiled, and optimizers make their state, none of which can be
        captured. A capture runs nothing, and is replayed at once, so that every call does the work once.
        """
        return Captured(self, work)


class Captured:
    """Work that is captured at its second call, and replayed from then on.

    Args:
        graphs: that share memory with it.
        work: what is done.
    """

    def __init__(self, graphs: CudaGraphs, work: Work) -> None:
        self.graphs, self.work = graphs, work
        self.is_warm = False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.results: Sequence[Tensor] = ()

    def __call__(self) -> Sequence[Tensor]:
        if not self.is_warm:
            results = self._warm_up()
            self.is_warm = True
            return results
        if self.graph is None:
            self.graph = self._capture()
        self.graph.replay()
        # The next replay overwrites the results.
        return [result.clone() for result in self.results]

    def free(self) -> None:
        """Free the graph, which is replayed no more."""
        if self.graph is not None:
            self.graph.reset()

    def _warm_up(self) -> Sequence[Tensor]:
        """On the stream of the capture, so that what libraries keep for each stream is there by then."""
        main, stream = torch.cuda.current_stream(self.graphs.device), self.graphs.stream
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            results = self.work()
        main.wait_stream(stream)
        for result in results:
            result.record_stream(main)
        return results

    def _capture(self) -> torch.cuda.CUDAGraph:
        graph, graphs = torch.cuda.CUDAGraph(), self.graphs
        # Only this thread's calls are restricted: a loader's threads allocate pinned memory meanwhile.
        capture = torch.cuda.graph(
            graph, pool=graphs.pool, stream=graphs.stream, capture_error_mode="thread_local"
        )
        main = torch.cuda.current_stream(graphs.device)
        try:
            with graphs.capturing(), without_collection(), capture:
                self.results = self.work()
        except BaseException:
            # torch leaves the thread on the stream of a capture that failed at its end.
            torch.cuda.set_stream(main)
            raise
        return graph
