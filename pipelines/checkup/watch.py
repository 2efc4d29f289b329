"""The workers of a job on an engine are awaited for so long, and looked at when they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from behavior.errors import UserError
from behavior.shards.storage import Folder
from pipelines import dataflow
from pipelines.checkup.environment import why_silent
from pipelines.checkup.facts import Facts, facts
from pipelines.checkup.findings import compare
from pipelines.checkup.hello import introduced
from pipelines.engines.causes import symptom_of
from pipelines.engines.crash import messages_of, told
from pipelines.engines.engine import SPARK, Engine, name_of
from pipelines.engines.room import SPARK_ADVICE, check_slots, no_executor, waits_for_slots

SECONDS_BETWEEN_QUESTIONS = 5.0


class WorkerWatch:
    """Of one job.

    Args:
        notes: the job's folder, in which workers introduce themselves.
        runner: name of the runner.
        options: of Beam.
        job_name: of the job.
        limit: seconds within which a worker must come; 0: nothing is looked at.
        say: told once where the job can be seen: when a worker has come, or Flink has the job.
    """

    def __init__(
        self,
        notes: Folder,
        runner: str,
        options: Sequence[str],
        job_name: str,
        limit: float,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.notes, self.limit, self.say = notes, limit, say
        self._of = runner, list(options), job_name
        self._began = self._asked = time.monotonic()
        self._known: set[str] = set()
        self._told = self._told_of_slots = False
        self.workers: list[Facts] = []

    @cached_property
    def engine(self) -> Engine:
        """Where the job runs; it is asked who it is."""
        return Engine.of(*self._of)

    @cached_property
    def _here(self) -> Facts:
        return facts()

    @property
    def nobody(self) -> bool:
        """Whether no worker has come, where they are looked at."""
        return bool(self.limit) and not self.workers

    def before(self) -> None:
        """Look at the cluster before it has the job.

        Raises:
            UserError: the job would wait there for what will not come.
        """
        if self.limit:
            check_slots(self.engine)

    def look(self, result: Any) -> UserError | None:
        """Why the job should not be waited for any longer, if so.

        Args:
            result: of `beam.Pipeline.run`.
        """
        now = time.monotonic()
        late = now - self._began > self.limit
        if not self.limit or (late and self.workers):
            return None
        with suppress(OSError, ValueError, TypeError, UserError):  # the next look may see more
            came = introduced(self.notes, self._known)
            if came:
                self._say_where(result)
                self.workers += came
                wrong = [finding for finding in compare(self._here, self.workers) if finding.wrong]
                return wrong[0].error() if wrong else None
        if self.workers:
            return None
        if late:
            return silence(self.engine, result, self.limit)
        if now - self._asked > SECONDS_BETWEEN_QUESTIONS:
            self._asked = now
            if self.engine.state():  # workers may be long in coming, and this page says why
                self._say_where(result)
                self._say_what_it_waits_for()
            return stopped(self.engine, result)
        return None

    def _say_what_it_waits_for(self) -> None:
        if self.say is not None and not self._told_of_slots and (waits := waits_for_slots(self.engine)):
            self._told_of_slots = True
            self.say(waits)

    def _say_where(self, result: Any) -> None:
        # Dataflow's page is known, and said, as soon as there is a job.
        if self.say is None or self._told or dataflow.is_job(result):
            return
        page = self.engine.page(result)
        if page:
            self._told = True
            self.say(f"the job {self.engine.job_name} on {self.engine.kind}: {page}")


def stopped(engine: Engine, result: Any) -> UserError | None:
    """What keeps workers from starting, where the engine has said so and trying again is of no use."""
    said = engine.said()
    found = symptom_of(said[0]) if said else None
    if found and found[0].final:
        return told(said, engine, result, "no worker starts: ")
    return no_executor(engine)


def silence(engine: Engine, result: Any, limit: float) -> UserError:
    """No worker has come within the limit."""
    texts = [*engine.said(), *messages_of(result)]
    if any(symptom_of(text) for text in texts):
        return told(texts, engine, result, "no worker starts: ")
    state, waits = engine.state(), waits_for_slots(engine)
    why, fix = why_silent(engine.options)
    running = f", and {engine.kind} says {state}" if state else ""
    if waits:
        why, fix = waits, "wait until other jobs end, or start more task managers"
    elif engine.kind == SPARK:
        fix = f"{fix}; {SPARK_ADVICE}"
    return UserError(
        f"no worker answered within {limit:g} s{running}: {why}",
        where=engine.page(result) or name_of(result) or None,
        fix=f"{fix}; --worker-timeout sets another limit where workers only take longer to start",
    )
