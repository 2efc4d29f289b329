"""What an engine's pages say; a stand-in answers as Flink 1.19's do (tests/engines has real ones)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from pipelines.crashed import local_crash
from pipelines.dataflow import DataflowError
from pipelines.engines.crash import engine_crash
from pipelines.engines.engine import DATAFLOW, FLINK, OTHER, PRISM, SPARK, Engine
from pipelines.engines.logs import log_places
from tests.pipelines.engines.pages import served

BOOT = (Path(__file__).parent / "said" / "boot.txt").read_text()
ANSWERS: dict[str, Any] = {
    "/config": {"flink-version": "1.19.0"},
    "/jobs/overview": {
        "jobs": [
            {"jid": "aaa", "name": "lrm-1", "start-time": 1},
            {"jid": "bbb", "name": "lrm-1", "start-time": 2},
            {"jid": "ccc", "name": "other", "start-time": 3},
        ]
    },
    "/jobs/bbb": {"state": "RESTARTING"},
    "/jobs/bbb/exceptions": {
        "root-exception": BOOT,
        "exceptionHistory": {"entries": [{"stacktrace": "older"}]},
    },
}


@pytest.fixture
def pages() -> Iterator[tuple[str, list[str]]]:
    """Address of the stand-in, and what it was told."""
    with served(ANSWERS) as (port, told):
        yield f"127.0.0.1:{port}", told


def test_flink_is_asked_for_the_newest_job_of_that_name(pages: tuple[str, list[str]]) -> None:
    address, told = pages
    engine = Engine.of("FlinkRunner", [f"--flink_master={address}"], "lrm-1")
    assert engine.kind == FLINK
    assert engine.page() == f"http://{address}/#/job/running/bbb/overview"
    assert engine.said() == [BOOT, "older"]
    assert engine.state() == "RESTARTING"
    assert engine.cancel()
    assert told == ["/jobs/bbb?mode=cancel"]
    assert log_places(engine, ["--environment_type=PROCESS"]).endswith(f"(http://{address}/#/task-manager)")


def test_a_job_that_flink_does_not_have_yet_is_cancelled_when_it_comes(
    pages: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt may come while the job server still translates the job."""
    address, told = pages
    engine = Engine.of("FlinkRunner", [f"--flink_master={address}"], "lrm-2")
    assert not engine.cancel(0.3)
    there = [*ANSWERS["/jobs/overview"]["jobs"], {"jid": "ddd", "name": "lrm-2", "start-time": 4}]
    later = threading.Timer(0.4, monkeypatch.setitem, (ANSWERS, "/jobs/overview", {"jobs": there}))
    later.start()
    assert engine.cancel(30.0)
    later.join()
    assert told == ["/jobs/ddd?mode=cancel"]


def test_an_engine_that_cannot_be_asked_says_nothing(pages: tuple[str, list[str]]) -> None:
    address, told = pages
    for options, name in (
        ([f"--flink_master={address}"], "nobody's"),
        (["--flink_master=127.0.0.1:9"], "lrm-1"),
        ([], "lrm-1"),
    ):
        engine = Engine.of("FlinkRunner", options, name)
        assert (engine.said(), engine.state(), engine.cancel()) == ([], "", False)
    assert told == []
    assert Engine.of("PortableRunner", ["--job_endpoint=127.0.0.1:9"], "lrm-1").kind == OTHER
    assert Engine.of("SparkRunner", [], "lrm-1").page() == ""


def test_dataflow_tells_of_its_own_jobs() -> None:
    said = DataflowError("ModuleNotFoundError: No module named 'torch'", where="its page", fix="its log")
    error = engine_crash(said, Engine.of("DataflowRunner", [], "lrm-1"))
    assert (error.what, error.where) == ("the job failed: the workers lack torch", "its page")
    assert "worker-torch" in (error.fix or "")
    plain = engine_crash(DataflowError("no", where="page", fix="log"), Engine(DATAFLOW, "", "lrm-1"))
    assert (plain.what, plain.where, plain.fix) == ("the job failed: no", "page", "log")


def test_a_crash_says_cause_remedy_page_and_log(pages: tuple[str, list[str]]) -> None:
    engine = Engine.of("FlinkRunner", [f"--flink_master={pages[0]}"], "lrm-1")
    error = engine_crash(RuntimeError("Pipeline x failed in state FAILED: unknown error"), engine, object())
    assert error.what == "the job failed: the program that starts workers ended by itself, with exit code 1"
    page, _, kept = (error.where or "").partition("; all that the engine said: ")
    assert page == f"http://{pages[0]}/#/job/running/bbb/overview"
    assert Path(kept).read_text().startswith(BOOT.expandtabs(4).strip())
    Path(kept).unlink()
    assert "the task managers' logs" in (error.fix or "")
    assert "again" not in (error.fix or "")


def message(importance: int, text: str) -> beam_job_api_pb2.JobMessagesResponse:
    response = beam_job_api_pb2.JobMessage(importance=importance, message_text=text)
    return beam_job_api_pb2.JobMessagesResponse(message_response=response)


def test_a_crash_is_told_by_the_messages_of_the_job_server(tmp_path: Path) -> None:
    """Also where no page is known: Flink's own id of the job is in them."""
    trace = (
        f"a.ProgramInvocationException: Job failed (JobID: {'0123456789abcdef' * 2})\n\tat a.B.c(D.java:1)\n"
        "Caused by: java.io.IOException: the disk\nis gone\n\tat e.F.g(H.java:2)\n"
    )
    messages = [
        message(1, trace),
        message(3, "running the job"),
        message(5, "java.io.IOException: the disk\nis gone"),
    ]
    result = SimpleNamespace(_messages=messages, _job_id="job-7")
    printed = tmp_path / "printed.log"
    error = engine_crash(RuntimeError("Pipeline failed"), Engine(FLINK, "", "lrm-1"), result, printed)
    assert error.what == "the job failed: IOException: the disk\nis gone"
    begin, _, rest = (error.where or "").partition("; all that the engine said: ")
    assert begin == f"Flink's job {'0123456789abcdef' * 2}"
    kept, _, named = rest.partition("; what workers in this process printed: ")
    assert named == str(printed)
    Path(kept).unlink()


def test_what_fails_before_there_is_a_job_has_its_name() -> None:
    engine = Engine(OTHER, "", "lrm-1")
    assert engine_crash(ZeroDivisionError(), engine).what == "the job failed: ZeroDivisionError"
    assert engine_crash(ValueError("no"), engine).what == "the job failed: ValueError: no"
    with grpc.insecure_channel("localhost:1") as channel:
        server = beam_job_api_pb2_grpc.JobServiceStub(channel)
        with pytest.raises(grpc.RpcError) as gone:
            server.Run(beam_job_api_pb2.RunJobRequest(), timeout=5)
    said = engine_crash(gone.value, engine).what  # type: ignore[arg-type]
    assert said.startswith("the job failed: its job server does not answer any more (")
    assert "Connection refused" in said
    assert "error: " not in said
    assert "\n" not in said


def test_a_local_crash_says_more_than_to_try_again(tmp_path: Path) -> None:
    died = local_crash(RuntimeError("Channel closed prematurely."), tmp_path / "workers.log")
    assert "a worker process died" in died.what
    assert "--workers" in (died.fix or "")
    assert "--debug" in (local_crash(ValueError("a\nb"), None).fix or "")
    assert local_crash(ValueError("a\nb"), None).what == "the job failed: ValueError: b"


@pytest.mark.parametrize(
    ("kind", "environment", "said"),
    [
        (FLINK, "EXTERNAL", "the task managers' logs and what the worker pool prints"),
        (
            SPARK,
            "DOCKER",
            "the executors' logs (work/app-*/*/stderr on Spark's workers) and those of the worker containers "
            "(docker logs)",
        ),
        (PRISM, "LOOPBACK", "what Prism prints"),
        (DATAFLOW, "DOCKER", "the logs of the job's page"),
    ],
)
def test_where_logs_are(kind: str, environment: str, said: str) -> None:
    assert log_places(Engine(kind, "", "lrm-1"), [f"--environment_type={environment}"]) == said
