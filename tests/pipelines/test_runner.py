"""Which runners and which of Beam's options there are; the job server is a stand-in."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.options.pipeline_options import DebugOptions, PortableOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from behavior.errors import UsageError
from pipelines.option_values import value_of
from pipelines.runner import RunnerOptions


class JobServer(beam_job_api_pb2_grpc.JobServiceServicer):
    def DescribePipelineOptions(self, request: Any, context: Any) -> Any:  # noqa: N802
        option = beam_job_api_pb2.PipelineOptionDescriptor(name="number_of_execution_retries")
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=[option])


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(JobServer(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


def test_the_job_server_is_asked_for_options_that_the_sdk_lacks(endpoint: str) -> None:
    given = ["--number_of_execution_retries=3", "--parallelism=4"]
    RunnerOptions("PortableRunner", beam=[f"--job_endpoint={endpoint}", *given]).check()
    RunnerOptions("FlinkRunner", beam=["--job_endpoint", endpoint, *given]).check()
    with pytest.raises(UsageError, match="Beam knows no option '--number_of_execution_retries'"):
        RunnerOptions("DataflowRunner", beam=given).check()
    with pytest.raises(UsageError) as error:
        RunnerOptions("PortableRunner", beam=[f"--job_endpoint={endpoint}", "--number_of_retries=3"]).check()
    assert "knows an option '--number_of_retries'" in error.value.what
    assert "--number_of_execution_retries" in str(error.value.fix)


def test_a_job_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.beam_options._SECONDS_TO_ANSWER", 0.3)
    for given in (["--of_flink=1"], []):  # Beam would wait for five minutes
        runner = RunnerOptions("PortableRunner", beam=["--job_endpoint=localhost:1", *given])
        with pytest.raises(UsageError, match="the job server at localhost:1 does not answer"):
            runner.check()


def test_a_job_server_that_is_being_started_may_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.beam_options._SECONDS_TO_ANSWER", 0.1)
    server = grpc.server(ThreadPoolExecutor(1))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(JobServer(), server)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    later = threading.Timer(0.5, lambda: (server.add_insecure_port(f"localhost:{port}"), server.start()))
    given = [f"--job_endpoint=localhost:{port}"]
    with pytest.raises(UsageError, match="does not answer"):
        RunnerOptions("PortableRunner", beam=given).check()
    later.start()
    try:
        RunnerOptions("PortableRunner", beam=[*given, "--job_server_timeout=30"]).check()
    finally:
        later.join()
        server.stop(None)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("PrismRunner", "--prism_location"),
        ("flinkrunner", "--flink_job_server_jar"),
        ("SparkRunner", "--spark_job_server_jar"),
    ],
)
def test_a_runner_is_refused_only_where_it_would_download(
    name: str, flag: str, endpoint: str, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.touch()
    RunnerOptions(name, beam=[f"{flag}={program}"]).check()
    RunnerOptions(name, beam=[f"--job_endpoint={endpoint}"]).check()
    for missing in ([], [f"{flag}={tmp_path}/other"], [f"{flag}=https://x/program.zip"]):
        with pytest.raises(UsageError, match=f"{name} cannot be used: it would download its") as error:
            RunnerOptions(name, beam=missing).check()
        assert f"-- {flag}=PATH" in str(error.value.fix)


def test_a_job_server_that_does_not_start_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started to be asked for options that the SDK lacks."""
    jar = tmp_path / "job-server.jar"
    jar.write_text("no JAR")
    given = [f"--flink_job_server_jar={jar}", "--job_server_java_launcher=false", "--of_flink=1"]
    with pytest.raises(UsageError, match="the job server does not start") as error:
        RunnerOptions("FlinkRunner", beam=given).check()
    assert error.value.where == "--flink_job_server_jar"


def test_workers_are_kept_between_stages_unless_the_user_says_otherwise() -> None:
    cases = [("PortableRunner", [], 5000), ("FlinkRunner", [], 5000), ("SparkRunner", [], 0)]
    cases += [(name, ["--environment_cache_millis=7"], 7) for name, _, _ in cases]
    for name, given, kept in cases:
        options = RunnerOptions(name, beam=["--job_endpoint=x:1", *given]).pipeline_options()
        assert int(options.view_as(PortableOptions).environment_cache_millis) == kept


def test_what_is_installed_is_not_listed_for_each_job() -> None:
    """Beam would have pip do so."""
    for given, wanted in (([], []), (["--experiments=a", "--experiments=b"], ["a", "b"])):
        runner = RunnerOptions("FlinkRunner", beam=["--job_endpoint=x:1", *given])
        found = runner.pipeline_options().view_as(DebugOptions)
        assert found.lookup_experiment("disable_logging_submission_environment")
        assert all(found.lookup_experiment(name) for name in wanted)


def test_what_carries_the_events() -> None:
    names = ["DataflowRunner", "FlinkRunner", "local"]
    assert [RunnerOptions(name).through_engine for name in names] == [True, False, False]
    for name, shuffle in itertools.product(names[:2], ("files", "engine")):
        assert RunnerOptions(name, shuffle=shuffle).through_engine == (shuffle == "engine")
    for name, shuffle in (("local", "engine"), ("PortableRunner", "filez")):
        with pytest.raises(UsageError) as error:
            RunnerOptions(name, shuffle=shuffle).check()
        assert error.value.where == "--shuffle"


def test_the_value_of_an_option() -> None:
    options = ["--a=1", "--b", "2", "--a", "3", "--c"]
    assert [value_of(options, name) for name in ("--a", "--b", "--c", "--d")] == ["3", "2", "", None]
