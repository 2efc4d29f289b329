"""`lrm doctor --runner`: a tiny job whose workers look around."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from behavior.errors import UserError
from behavior.shards.storage import Folder
from pipelines import dataflow
from pipelines.checkup.facts import Facts, Place, facts, reads, writes
from pipelines.checkup.findings import Finding, compare
from pipelines.checkup.hello import WORKERS, introduced
from pipelines.checkup.watch import SECONDS_BETWEEN_QUESTIONS, silence, stopped
from pipelines.crashed import local_crash
from pipelines.engines.crash import engine_crash
from pipelines.engines.engine import Engine
from pipelines.engines.logs import log_places
from pipelines.engines.room import check_slots
from pipelines.job import Job
from pipelines.quiet import dead_workers_passed_over, quiet_beam, traces_kept
from pipelines.runner import RunnerOptions
from pipelines.threads import pools_restored
from pipelines.waiting import wait_for_engine

_ELEMENTS = 32
"""More than a small cluster has slots: each of its workers gets some."""
_GROUPS = 8
_FOUND = "workers"
_SEEN = ".lrm-doctor"


@dataclass(frozen=True)
class Asked:
    """What workers are asked.

    Attributes:
        inputs: files, folders or globs that they are to read.
        out: a folder that they are to write to, if any.
        token: what this machine has left there, and the name of the job.
    """

    inputs: tuple[str, ...]
    out: Folder | None
    token: str

    @property
    def seen(self) -> str:
        """File with the token."""
        return f"{_SEEN}-{self.token}.txt"

    @property
    def notes(self) -> Folder | None:
        """Where workers leave what they find."""
        return None if self.out is None else self.out.child(self.token)


@dataclass(frozen=True)
class CheckUp:
    """What was found.

    Attributes:
        engine: in words.
        page: of the job there; empty where it is not known.
        logs: where they are, in words.
        seconds: until the job was done.
        here: this machine.
        workers: each process that answered.
        findings: what is wrong, and what is only to be known.
    """

    engine: str
    page: str
    logs: str
    seconds: float
    here: Facts
    workers: list[Facts]
    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.wrong for finding in self.findings)


class Doctor(beam.PTransform):
    """The whole job, in the shape of a real one: with a shuffle and a side input that depends on what goes
    through it, for which Flink wants more network buffers than for anything else."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self.asked = asked

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        looked = (
            root
            | beam.Create(range(_ELEMENTS), reshuffle=False)
            | beam.Reshuffle()
            | beam.ParDo(LookAround(self.asked))
        )
        return looked | beam.GroupByKey() | beam.ParDo(Meet(), beam.pvalue.AsList(looked))


class Meet(beam.DoFn):
    """(number, numbers), all pairs -> the number."""

    def process(self, element: tuple[int, Iterable[int]], _every: list[tuple[int, int]]) -> Iterator[int]:
        yield element[0]


class LookAround(beam.DoFn):
    """element -> (number, element); what a worker finds, once a process, is a metric, which every runner
    reports but Dataflow: so it lies in `--out` as well."""

    _looked: set[str] = set()

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.found = Metrics.string_set("lrm", _FOUND)

    def process(self, element: int) -> Iterator[tuple[int, int]]:
        if self.asked.token not in LookAround._looked:
            LookAround._looked.add(self.asked.token)
            found = facts(self.places())
            self.found.add(found.to_json())
            if self.asked.notes is not None:
                with suppress(OSError, UserError):  # what is wrong with the folder is among what was found
                    self.asked.notes.write_text(f"{WORKERS}/{found.host}-{found.pid}.json", found.to_json())
        yield element % _GROUPS, element

    def places(self) -> list[Place]:
        """What this process sees of what it is asked about."""
        found = [reads(path) for path in self.asked.inputs]
        if self.asked.out is not None:
            found.append(writes(self.asked.out, self.asked.seen, self.asked.token))
        return found


def check_up(runner: RunnerOptions, inputs: Sequence[str] = (), out: str | None = None) -> CheckUp:
    """Run a tiny job, and say what its workers lack.

    Args:
        runner: where; its `seconds_to_answer` are what the job may take.
        inputs: files, folders or globs that workers are to read.
        out: a folder that they are to write to; what is written there is removed again.

    Raises:
        UserError: the job cannot be started.
        KeyboardInterrupt: the user interrupted it; says what has become of the job.
    """
    runner.check()
    token = uuid.uuid4().hex[:12]
    asked = Asked(tuple(inputs), None if out is None else Folder(out), token)
    here, begin = facts(), time.monotonic()
    with _left(asked) as own, TemporaryDirectory(prefix="lrm-doctor-") as folder:
        if own is not None:
            return CheckUp(runner.name, "", "", 0.0, here, [], [own])
        named = replace(runner, beam=[*runner.beam, f"--job_name=lrm-doctor-{token}"])
        workers, failed, engine, result = _run(named, asked, Path(folder) / "workers.log")
        seconds = time.monotonic() - begin
        findings = [failed] if failed else []
        findings += compare(here, workers)
        if not workers and not failed:
            findings.append(_unreported(runner))
        words = "this machine" if runner.is_local else engine.kind
        logs = "" if runner.is_local else log_places(engine, runner.beam)
        return CheckUp(words, engine.page(result), logs, seconds, here, workers, findings)


@contextmanager
def _left(asked: Asked) -> Iterator[Finding | None]:
    """Around the job: a file in `--out` that workers should see. Yields what keeps this machine from it."""
    out = asked.out
    if out is None:
        yield None
        return
    there = out.is_local and out.path.exists()
    try:
        out.write_text(asked.seen, asked.token)
    except (OSError, UserError) as error:
        what = error.what if isinstance(error, UserError) else str(error)
        fix = error.fix if isinstance(error, UserError) else None
        yield Finding(
            f"this machine cannot write to '{out}': {what}",
            "--out",
            fix or "name another folder, or get the right",
        )
        return
    try:
        yield None
    finally:
        with suppress(OSError, UserError):
            out.remove(asked.seen)
            out.remove_tree(asked.token)
            if out.is_local and not there:
                out.path.rmdir()


def _run(runner: RunnerOptions, asked: Asked, log: Path) -> tuple[list[Facts], Finding | None, Engine, Any]:
    """What workers have found, and what kept the job from its end."""
    result: Any = None
    failed: UserError | None = None
    local = runner.is_local
    engine = Engine("", "", "") if local else Engine.of(runner.name, runner.beam, runner.job_name)
    traces = traces_kept(log) if local else nullcontext()
    with quiet_beam(), traces, pools_restored(), dead_workers_passed_over():
        try:
            options = runner.pipeline_options()
            check_slots(engine)
            with dataflow.submission(options) if runner.is_dataflow else nullcontext():
                pipeline = beam.Pipeline(runner.runner(log) if local else None, options=options)
                pipeline | "Doctor" >> Doctor(asked)
                result = pipeline.run()
            if local:
                result.wait_until_finish()
            else:
                wait_for_engine(
                    result,
                    _Notes(Folder(str(log.parent)), Folder(str(log.parent))),
                    _Limit(engine, runner.seconds_to_answer),
                )
        except Exception as error:  # whatever runners raise
            if isinstance(error, UserError):
                failed = error
            else:
                failed = local_crash(error, None) if local else engine_crash(error, engine, result)
        workers = _reported(result) or _left_by_workers(asked)
    told = Finding(failed.what, failed.where or "", failed.fix or "") if failed else None
    return workers, told, engine, result


class _Limit:
    """Ends the job where it is not done in time; see `pipelines.waiting.Watch`."""

    nobody = True  # that is looked at

    def __init__(self, engine: Engine, limit: float) -> None:
        self.engine, self.limit = engine, limit
        self._began = self._asked = time.monotonic()

    def look(self, result: Any) -> UserError | None:
        now = time.monotonic()
        if 0 < self.limit < now - self._began:
            return silence(self.engine, result, self.limit)
        if now - self._asked > SECONDS_BETWEEN_QUESTIONS:
            self._asked = now
            return stopped(self.engine, result)
        return None


@dataclass(frozen=True)
class _Notes(Job):
    """A job of which nothing is kept."""

    notes: Folder
    work: Folder
    timed: bool = False

    @property
    def out(self) -> Folder:
        return self.notes


def _reported(result: Any) -> list[Facts]:
    try:
        found = result.metrics().query()["string_sets"]
    except Exception:  # whatever a runner raises that does not report them
        return []
    lines: set[str] = set()
    for entry in found:
        if entry.key.metric.name == _FOUND:
            lines |= set(entry.committed or ()) | set(entry.attempted or ())
    return sorted((Facts.from_json(line) for line in lines), key=lambda one: (one.host, one.pid))


def _left_by_workers(asked: Asked) -> list[Facts]:
    with suppress(OSError, ValueError, TypeError, UserError):
        found = [] if asked.notes is None else introduced(asked.notes, set())
        return sorted(found, key=lambda one: (one.host, one.pid))
    return []


def _unreported(runner: RunnerOptions) -> Finding:
    return Finding(
        "the job was done, but what its workers found did not come back",
        runner.name,
        "nothing is known to be wrong: the engine reports no metrics of this kind; add --out, where workers "
        "leave it as well",
        wrong=False,
    )
