"""A stand-in for Dataflow's job API, for `--dataflow_endpoint=http://localhost:PORT --no_auth`."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUNNING, DONE, FAILED = "JOB_STATE_RUNNING", "JOB_STATE_DONE", "JOB_STATE_FAILED"
CANCELLING, CANCELLED = "JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"
_STATES = {2: DONE, 5: CANCELLED}  # numbers of JobState in the API, those that may be requested
_JOBS = re.compile(r"/v1b3/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/:]+))?(/messages|/metrics)?")


@dataclass
class DataflowJob:
    """A job as the service knows it.

    Attributes:
        id: that the service gave it.
        request: the JSON that created it.
        project, region: of the address that was asked.
        state: its present state.
        messages: of importance and text, in order.
        counters: (namespace, name) -> value.
        cancelled: set once somebody asks for it to be cancelled.
    """

    id: str
    request: dict[str, Any]
    project: str
    region: str
    state: str = "JOB_STATE_PENDING"
    messages: list[tuple[str, str]] = field(default_factory=list)
    counters: dict[tuple[str, str], int] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, Any]:
        """What workers are to be like."""
        return self.request["environment"]

    @property
    def pool(self) -> dict[str, Any]:
        """The worker pool."""
        [pool] = self.environment["workerPools"]
        return pool

    @property
    def options(self) -> dict[str, Any]:
        """The options of the pipeline, as workers get them."""
        return self.environment["sdkPipelineOptions"]["options"]


Work = Callable[[DataflowJob], str]
"""Does what a job is to do, in a thread of its own; gives the state it ends in."""


class DataflowService:
    """Answers, from a thread of this process, until `end`.

    Args:
        work: what becomes of every job.

    Attributes:
        jobs: all that were created, in order.
        faults: operation (`create`, `get`, `update`, `messages`, `metrics`) -> what it is answered with
            instead: an HTTP status with a message, or None: nothing at all, the connection stays open.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.jobs: list[DataflowJob] = []
        self.faults: dict[str, tuple[int, str] | None] = {}
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Its address; Beam wants it to be `localhost`."""
        return f"http://localhost:{self._server.server_port}"

    def options(self) -> list[str]:
        """Options of Beam that send a job here."""
        return [f"--dataflow_endpoint={self.endpoint}", "--no_auth"]

    def end(self) -> None:
        """Answer no more; connections are refused from now on."""
        self.closing.set()
        for job in self.jobs:
            job.cancelled.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, sent: Any) -> dict[str, Any]:
        """What the API says.

        Raises:
            LookupError: it has no such thing.
        """
        matched = _JOBS.fullmatch(path)
        if matched is None:
            raise LookupError(path)
        project, region, number, about = matched.groups()
        if number is None and method == "POST":
            self._fail("create")
            return self._shown(self._create(project, region, sent))
        job = next(job for job in self.jobs if (job.id, job.project, job.region) == (number, project, region))
        operation = (about or "").strip("/") or {"GET": "get", "PUT": "update"}[method]
        self._fail(operation)
        if operation == "messages":
            return {"jobMessages": [_message(job, *message) for message in enumerate(job.messages)]}
        if operation == "metrics":
            return {"metrics": [found for counter in job.counters.items() for found in _metrics(*counter)]}
        if operation == "update":
            assert _STATES[sent["requestedState"]] == CANCELLED
            if not job.cancelled.is_set() and job.state not in (DONE, FAILED, CANCELLED):
                job.state = CANCELLING
                job.cancelled.set()
        return self._shown(job)

    def _fail(self, operation: str) -> None:
        if operation in self.faults:
            raise _FaultError(self.faults[operation])

    def _create(self, project: str, region: str, request: dict[str, Any]) -> DataflowJob:
        for job in self.jobs:  # a request that is sent again makes no second job
            if job.request["clientRequestId"] == request["clientRequestId"]:
                return job
        job = DataflowJob(f"2026-11-30_00_00_00-{len(self.jobs) + 1:019d}", request, project, region)
        self.jobs.append(job)
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return job

    def _run(self, job: DataflowJob) -> None:
        job.state = RUNNING
        try:
            ended = self.work(job)
        except Exception as error:
            job.messages.append(("JOB_MESSAGE_ERROR", f"the stand-in failed: {error!r}"))
            ended = FAILED
        job.state = CANCELLED if job.cancelled.is_set() else ended

    def _shown(self, job: DataflowJob) -> dict[str, Any]:
        shown = {"id": job.id, "projectId": job.project, "location": job.region, "currentState": job.state}
        return {**shown, "name": job.request["name"], "clientRequestId": job.request["clientRequestId"]}

    def _handler(service) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                sent = json.loads(self.rfile.read(length) or b"null")
                try:
                    status, answer = 200, service.answer(self.command, self.path.partition("?")[0], sent)
                except _FaultError as fault:
                    if fault.told is None:
                        service.closing.wait()
                        self.close_connection = True
                        return
                    status, text = fault.told
                    answer = {"error": {"code": status, "message": text, "status": "FAILED"}}
                except LookupError as error:
                    status, answer = 404, {"error": {"code": 404, "message": f"no {error}"}}
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


class _FaultError(Exception):
    def __init__(self, told: tuple[int, str] | None) -> None:
        super().__init__()
        self.told = told


def _message(job: DataflowJob, number: int, message: tuple[str, str]) -> dict[str, Any]:
    importance, text = message
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_800_000_000 + number))
    return {"id": f"{job.id}-{number}", "time": when, "messageText": text, "messageImportance": importance}


def _metrics(counter: tuple[str, str], value: int) -> list[dict[str, Any]]:
    """As the service has them: once committed and once tentative."""
    namespace, name = counter
    context = {"namespace": namespace, "step": "ref_AppliedPTransform"}
    names = [
        {"origin": "user", "name": name, "context": {**context, **more}}
        for more in ({}, {"tentative": "true"})
    ]
    return [{"name": named, "kind": "Sum", "scalar": float(value)} for named in names]
