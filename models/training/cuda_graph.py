"""CUDA graphs: work on a GPU that is recorded once and started again without Python and single launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.optim import OptimizerSet

Work = Callable[[], Sequence[Tensor]]
"""Something to do on a device, with tensors that stay in their places; returns results."""


class CudaGraphs:
    """Makes recordings that share their memory: of any two, one is replayed after the other.

    Args:
        device: a GPU.
        optimizer: takes steps in what is recorded.
    """

    def __init__(self, device: torch.device, optimizer: OptimizerSet) -> None:
        self.device, self.optimizer = device, optimizer
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """The same work: done as ever at the first call, recorded at the second, replayed from then on.

        Kernels are loaded and compiled at the first call, and optimizers make their state, none of which can
        be recorded. Recording does nothing by itself, so every call does the work once.
        """
        return _Recorded(self, work)


class _Recorded:
    def __init__(self, graphs: CudaGraphs, work: Work) -> None:
        self.graphs, self.work = graphs, work
        self.is_warm = False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.results: Sequence[Tensor] = ()

    def __call__(self) -> Sequence[Tensor]:
        if not self.is_warm:
            self.is_warm = True
            return self._work_aside()
        if self.graph is None:
            self.graph = self._record()
        self.graph.replay()
        # The next replay writes over the results.
        return [result.clone() for result in self.results]

    def _work_aside(self) -> Sequence[Tensor]:
        """On the stream that is recorded later, so that what libraries keep for each stream is there."""
        main, stream = torch.cuda.current_stream(self.graphs.device), self.graphs.stream
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            results = self.work()
        main.wait_stream(stream)
        for result in results:
            result.record_stream(main)
        return results

    def _record(self) -> torch.cuda.CUDAGraph:
        graph, graphs = torch.cuda.CUDAGraph(), self.graphs
        # Only this thread's calls are restricted: meanwhile the loader allocates page-locked memory.
        recording = torch.cuda.graph(
            graph, pool=graphs.pool, stream=graphs.stream, capture_error_mode="thread_local"
        )
        with graphs.optimizer.capturable(), recording:
            self.results = self.work()
        return graph
