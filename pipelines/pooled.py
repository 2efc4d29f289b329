"""A transform whose parts workers do, all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from pipelines.job import Job
from pipelines.pool import pool_of

Outputs = Iterator[Any]


class Pooled(beam.DoFn):
    """In a local run `process` notes the part of each element, and the end of a bundle gives all of them out.

    Attributes:
        job: whose transform it is.
    """

    job: Job

    def start_bundle(self) -> None:
        self._parts: list[tuple[int, Any, Callable[..., Any], tuple[Any, ...]]] = []

    def noted(self, size: int, key: Any, function: Callable[..., Any], *arguments: Any) -> bool:
        """Whether workers will do a part: `function(job, *arguments)`.

        Args:
            size: of the part, beside the others: the largest are begun first.
            key: under which it may have been given out ahead; None: it was not.
            function: of `pipelines.work`.
            arguments: what it takes after the job.
        """
        if pool_of(self.job) is None:
            return False
        self._parts.append((size, key, function, arguments))
        return True

    def finish_bundle(self) -> Outputs:
        pool = pool_of(self.job)
        parts = sorted(self._parts, key=lambda part: -part[0])  # stable
        self._parts = []
        futures: list[Future] = []
        for _, key, function, arguments in parts:
            assert pool is not None
            futures.append(pool.taken(key, function, *arguments))
        for future in as_completed(futures):
            for output in self.outputs(future.result()):
                yield _windowed(output)
        for output in self.last_outputs():
            yield _windowed(output)

    def outputs(self, result: Any) -> Outputs:
        """What the transform gives for the result of a part."""
        raise NotImplementedError

    def last_outputs(self) -> Outputs:
        """What it gives after all parts of a bundle."""
        yield from ()


def _windowed(output: Any) -> Any:
    if isinstance(output, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value))
    return GlobalWindows.windowed_value(output)
