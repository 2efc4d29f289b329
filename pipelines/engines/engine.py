"""Which engine a job runs on, its page of the job, and what it says there."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pipelines import dataflow
from pipelines.beam_options import job_server_options
from pipelines.engines.pages import SECONDS, ask, read
from pipelines.option_values import value_of

FLINK, SPARK, PRISM, DATAFLOW, OTHER = "Flink", "Spark", "Prism", "Dataflow", "the engine"
_BY_NAME = {"flinkrunner": FLINK, "sparkrunner": SPARK, "prismrunner": PRISM, "dataflowrunner": DATAFLOW}
_PORTS = {FLINK: 8081, SPARK: 4040, PRISM: 8074}
"""Where their pages are, unless they are told otherwise."""
_SECONDS_BETWEEN_LOOKS = 0.25


@dataclass
class Engine:
    """The engine behind a runner. Nothing here raises: an engine that cannot be asked says nothing.

    Attributes:
        kind: `FLINK`, `SPARK`, `PRISM`, `DATAFLOW`, `OTHER`.
        base: URL of its pages; empty where they are not known or do not answer.
        job_name: of the job, by which it is found there.
        options: of Beam.
    """

    kind: str
    base: str
    job_name: str
    options: list[str] = field(default_factory=list)
    _flink_id: str = ""

    @classmethod
    def of(cls, runner: str, options: Sequence[str], job_name: str) -> Engine:
        """The engine that a runner's name and Beam's options lead to."""
        endpoint = value_of(options, "--job_endpoint") or ""
        kind = _BY_NAME.get(runner.lower()) or _behind(endpoint)
        return cls(kind, _pages(kind, endpoint, options), job_name, list(options))

    def page(self, result: Any = None) -> str:
        """The engine's page of the job; empty where it has none that is known.

        Args:
            result: of `beam.Pipeline.run`.
        """
        if dataflow.is_job(result):
            return dataflow.page_of(result)
        if not self.base:
            return ""
        if self.kind == FLINK:
            found = self.flink_id()
            return f"{self.base}/#/job/running/{found}/overview" if found else self.base
        if self.kind == PRISM and name_of(result):
            return f"{self.base}/job/{quote(name_of(result))}"
        return self.base

    def said(self) -> list[str]:
        """What went wrong in the job so far, newest first: whole stack traces, of Flink alone."""
        found = self.flink_id()
        answer = ask(f"{self.base}/jobs/{found}/exceptions") if found else None
        if not isinstance(answer, dict):
            return []
        newest = [answer["root-exception"]] if answer.get("root-exception") else []
        entries = answer.get("exceptionHistory", {}).get("entries", [])
        return newest + [entry["stacktrace"] for entry in entries if entry.get("stacktrace")]

    def state(self) -> str:
        """What Flink says of the job: `RUNNING`, `RESTARTING`; empty where it is not known."""
        found = self.flink_id()
        answer = ask(f"{self.base}/jobs/{found}") if found else None
        return str(answer.get("state", "")) if isinstance(answer, dict) else ""

    def hosts(self) -> list[str]:
        """Of Flink's task managers, one entry each."""
        answer = ask(f"{self.base}/taskmanagers") if self.kind == FLINK and self.base else None
        managers = answer.get("taskmanagers", []) if isinstance(answer, dict) else []
        return [str(manager.get("id", "")).rpartition(":")[0] for manager in managers]

    def cancel(self, within: float = 0.0) -> bool:
        """Have Flink itself cancel the job, which Beam's job server does not pass on; whether it was told.

        Args:
            within: seconds for a job to come there that the job server has only just been given.
        """
        deadline = time.monotonic() + within
        found = self.flink_id()
        while not found and self.kind == FLINK and self.base and time.monotonic() < deadline:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            found = self.flink_id()
        if not found:
            return False
        request = urllib.request.Request(f"{self.base}/jobs/{found}?mode=cancel", method="PATCH")
        with suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=SECONDS):
            return True
        return False

    def flink_id(self) -> str:
        """Flink's own id of the newest job of this name; empty where it is not known."""
        if self.kind == FLINK and self.base and not self._flink_id:
            answer = ask(f"{self.base}/jobs/overview")
            jobs = answer.get("jobs", []) if isinstance(answer, dict) else []
            ours = [job for job in jobs if job.get("name") == self.job_name]
            if ours:
                self._flink_id = str(max(ours, key=lambda job: job.get("start-time", 0))["jid"])
        return self._flink_id


def name_of(result: Any) -> str:
    """The runner's id of a job."""
    found = getattr(result, "job_id", None) or getattr(result, "_job_id", None)
    with suppress(Exception):  # whatever a runner raises that has none yet
        return str(found()) if callable(found) else str(found or "")
    return ""


def _behind(endpoint: str) -> str:
    """Which engine a job server belongs to: by the options that it has of its own."""
    if not endpoint or endpoint == "embed":
        return OTHER
    names = job_server_options(endpoint)
    if names is None:
        return OTHER
    if "--flink_master" in names:
        return FLINK
    if "--spark_master" in names or "--spark_master_url" in names:
        return SPARK
    return OTHER if names else PRISM


def _pages(kind: str, endpoint: str, options: Sequence[str]) -> str:
    """URL of an engine's pages, if they answer."""
    named = value_of(options, "--flink_master") if kind == FLINK else None
    if named and not named.startswith("["):
        base = named if "://" in named else f"http://{named}"
    elif kind in _PORTS and endpoint and endpoint != "embed":
        base = f"http://{endpoint.rpartition(':')[0]}:{_PORTS[kind]}"
    else:
        return ""
    base = base.rstrip("/")
    if kind == FLINK:
        answer = ask(f"{base}/config")
        return base if isinstance(answer, dict) and "flink-version" in answer else ""
    if kind == SPARK:
        return base if isinstance(ask(f"{base}/api/v1/applications"), list) else ""
    return base if "prism" in read(base).lower() else ""
