"""Which Beam runner, with which options."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from behavior.config import did_you_mean
from behavior.errors import UsageError
from behavior.runtime.cores import thread_count
from pipelines.option_values import value_of, with_worker

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineRunner

LOCAL = "local"
_SECONDS_TO_ANSWER, _SECONDS_ON_DATAFLOW = 300.0, 900.0
_SECONDS_IN_ITS_QUEUE = 7 * 3600.0
"""Jobs with --flexrs_goal may wait for six hours before machines are started."""
FILES, ENGINE = "files", "engine"
_LOCAL_NAMES = {"local", "fnapirunner", "directrunner"}
_REMOTE = ["DataflowRunner", "FlinkRunner", "SparkRunner", "PrismRunner", "PortableRunner"]
_REFUSED = {
    "daskrunner": "it loses data in silence (what is emitted at the end of a bundle, and tagged outputs)",
}

# Beam has pip list what is installed here for each job, which takes a second or two; `pipelines.checkup`
# compares what matters. One more of the user's stands beside it.
_NO_LIST = "--experiments=disable_logging_submission_environment"
# Where a job server tells the state of a job by the id that it has before it runs (Prism), Beam asks for that
# once, and fails when the answer has not ended within the seconds of this option: no job would take longer.
# `check_options` has seen that the server answers.
_LONGER_THAN_ANY_JOB = f"--job_server_timeout={365 * 86400}"
_REMOTE_DEFAULTS = [
    # Flink ends a worker process when none of its stages runs for a moment, and starts another for the next:
    # seconds each time, a dozen times a job. A dead one is kept as well: for less than restarts wait.
    "--environment_cache_millis=5000",
]
_SPARK_DEFAULTS = ["--environment_cache_millis=0"]
"""Spark tries a task again at once, four times: each would meet the dead worker that is kept."""


@dataclass(frozen=True)
class RunnerOptions:
    """How to run a job.

    Attributes:
        name: local, or a Beam runner. Under `local`, without options of Beam's, `prepare` does without Beam.
        workers: processes of a local run; 0 for one a free core, which are threads of this process where
            there are fewer than four: they start faster and take less memory.
        beam: ordinary Beam options, such as `--flink_master=...`.
        shuffle: what carries events from the workers that read them to those that sort them: `files` in the
            job's working folder, or the `engine`'s own shuffle; default: `engine` on Dataflow, which has a
            service for it, else `files`.
        say: told in words where a job on an engine can be seen, once it is there.
        detach: leave a job on the engine, which makes the data set by itself.
        worker_timeout: seconds within which a worker of an engine must answer; 0: it is waited for without
            end, and not looked at. Default: 300, on Dataflow, which starts machines, 900.
    """

    name: str = LOCAL
    workers: int = 0
    beam: list[str] = field(default_factory=list)
    shuffle: str | None = None
    say: Callable[[str], None] | None = None
    detach: bool = False
    worker_timeout: float | None = None

    @property
    def is_local(self) -> bool:
        return self.name.lower() in _LOCAL_NAMES

    @property
    def is_dataflow(self) -> bool:
        return self.name.lower() == "dataflowrunner"

    @property
    def without_beam(self) -> bool:
        """Whether `prepare` runs here without Beam: nothing of Beam's was asked for."""
        return self.name.lower() == LOCAL and not self.beam

    @property
    def through_engine(self) -> bool:
        """Whether the engine's shuffle carries the events."""
        if self.shuffle is None:
            return self.is_dataflow
        return self.shuffle == ENGINE

    @property
    def seconds_to_answer(self) -> float:
        """Within which a worker must answer; 0: without a limit."""
        if self.worker_timeout is not None:
            return self.worker_timeout
        if not self.is_dataflow:
            return _SECONDS_TO_ANSWER
        return _SECONDS_IN_ITS_QUEUE if self._has("--flexrs_goal") else _SECONDS_ON_DATAFLOW

    @cached_property
    def job_name(self) -> str:
        """Of a job on an engine, by which its page is found: as told, or one of its own."""
        own = f"lrm-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        return value_of(self.beam, "--job_name") or own

    @cached_property
    def at_once(self) -> int:
        """How many parts of a stage a local run works on at once, in processes or threads."""
        return self.workers or _cores()

    def check(self) -> None:
        """Raises UsageError: a runner that is unknown or refused, or a silly number of workers."""
        lower = self.name.lower()
        if lower in _REFUSED:
            raise UsageError(
                f"{self.name} cannot be used: {_REFUSED[lower]}",
                where="--runner",
                fix=f"use {LOCAL} or another runner",
            )
        known = [LOCAL, *_REMOTE]
        if lower not in {*_LOCAL_NAMES, *(name.lower() for name in _REMOTE)}:
            raise UsageError(
                f"unknown runner '{self.name}'", where="--runner", fix=did_you_mean(self.name, known)
            )
        self._check_program()
        self._check_shuffle()
        self._check_detach()
        self._check_options()
        if self.worker_timeout is not None and not 0 <= self.worker_timeout < math.inf:
            raise UsageError(
                f"{self.worker_timeout:g} is no number of seconds",
                where="--worker-timeout",
                fix="use 0 for no limit, or for example 300",
            )
        if self.workers and not self.is_local:
            raise UsageError(
                "the number of workers is for local runs",
                where="--workers",
                fix=f"leave it out: {self.name} takes its own options, after --",
            )
        if self.workers < 0:
            raise UsageError(
                "the number of workers is negative", where="--workers", fix="use 0 for all cores"
            )
        if self.is_dataflow:
            from pipelines import dataflow

            dataflow.check_options(self.beam)
        elif not self.is_local:
            with_worker(self.beam)

    def check_reachable(self, path: str, where: str) -> None:
        """Refuse a path that workers cannot have, before anything is done.

        Args:
            path: that they are to read or write.
            where: the flag that named it.

        Raises:
            UsageError: it is of this machine, and workers are of Google's.
        """
        if self.is_dataflow:
            from pipelines import dataflow

            dataflow.check_reachable(path, where)

    def _check_program(self) -> None:
        if not self.is_local:
            from pipelines.job_servers import check_program

            check_program(self.name, self.beam)

    def _check_options(self) -> None:
        if self.beam:
            from pipelines.beam_options import check_options
            from pipelines.job_servers import options_of_program

            check_options(self.beam, lambda: options_of_program(self.name, self.beam))

    def _check_shuffle(self) -> None:
        if self.shuffle not in (None, FILES, ENGINE):
            raise UsageError(
                f"unknown shuffle '{self.shuffle}'",
                where="--shuffle",
                fix=did_you_mean(self.shuffle, [FILES, ENGINE]),
            )
        if self.is_local and self.shuffle == ENGINE:
            raise UsageError(
                "a local run has no engine to carry its events: they would all be held in memory",
                where="--shuffle",
                fix="leave it out",
            )

    def _check_detach(self) -> None:
        if not self.detach:
            return
        why, fix = "", "name a job server that goes on: -- --job_endpoint=HOST:PORT"
        if self.is_local:
            why, fix = "a local run ends with the process that started it", "leave it out"
        elif value_of(self.beam, "--environment_type") == "LOOPBACK":
            why, fix = "with LOOPBACK, this process is the worker", "use another --environment_type"
        elif self.name.lower() != "dataflowrunner" and self.endpoint in ("", "embed"):
            why = "the job server would end with the process that started it"
        if why:
            raise UsageError(why, where="--detach", fix=fix)

    @property
    def endpoint(self) -> str:
        """Address of the job server; empty where none is named."""
        return value_of(self.beam, "--job_endpoint") or ""

    def runner(self, log: Path) -> PipelineRunner | None:
        """The runner of a local run; None where the options name the runner.

        Plain DirectRunner would try to download Prism at run time; FnApiRunner does the same work without.

        Args:
            log: file for what worker processes print.
        """
        if not self.is_local:
            return None
        from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
        from apache_beam.transforms.environments import (
            EmbeddedPythonGrpcEnvironment,
            SubprocessSDKEnvironment,
        )

        if self.at_once == 1:
            return FnApiRunner()
        if not self.workers:
            return FnApiRunner(EmbeddedPythonGrpcEnvironment())
        # The shell gives way to it: who ends the process ends the worker.
        command = f"exec {shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main"
        command += f" >>{shlex.quote(str(log))} 2>&1"
        return FnApiRunner(SubprocessSDKEnvironment.from_command_string(command))

    def pipeline_options(self) -> PipelineOptions:
        """Options for `beam.Pipeline`."""
        from apache_beam.options.pipeline_options import PipelineOptions

        name = "FnApiRunner" if self.is_local else self.name
        if self.is_local:
            # The checks of types take as long as the rest of making the pipeline; remote runs keep them.
            ours = [f"--direct_num_workers={self.at_once}", "--no_pipeline_type_check"]
        elif self.is_dataflow:
            from pipelines import dataflow

            named = [] if self._has("--job_name") else [f"--job_name={self.job_name}"]
            return PipelineOptions([f"--runner={name}", *named, *dataflow.completed(self.beam)])
        else:
            kept = _SPARK_DEFAULTS if self.name.lower() == "sparkrunner" else _REMOTE_DEFAULTS
            defaults = [*kept, f"--job_name={self.job_name}"]
            ours = [_NO_LIST, *(one for one in defaults if not self._has(one.partition("=")[0]))]
            given = with_worker(self.beam)
            return PipelineOptions([f"--runner={name}", *ours, *given, _LONGER_THAN_ANY_JOB])
        return PipelineOptions([f"--runner={name}", *ours, *self.beam])

    def _has(self, option: str) -> bool:
        return value_of(self.beam, option) is not None


def _cores() -> int:
    """Cores to work on: as many as are free, or as told."""
    return thread_count(os.environ)


def known_runners() -> dict[str, str]:
    """Runner -> what there is to say about it, for `lrm doctor`."""
    seen = "the working folder must be visible to all workers"
    given = "with a job server that is there: --job_endpoint, or "
    return {
        LOCAL: "on this machine, prepare without Beam; a thread or process a free core, or --workers N",
        **dict.fromkeys(_REMOTE, f"passed to Beam; {seen}"),
        "FlinkRunner": f"{given}--flink_job_server_jar; {seen}",
        "SparkRunner": f"{given}--spark_job_server_jar; {seen}",
        "PrismRunner": f"{given}--prism_location",
        "DaskRunner": "refused: " + _REFUSED["daskrunner"],
    }
