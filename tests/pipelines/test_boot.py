"""`lrm-worker`: what it asks the engine, what it tells Beam's worker, and what it refuses."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import text_format

from behavior.errors import UsageError
from pipelines import boot
from pipelines.option_values import with_worker
from pipelines.runner import RunnerOptions

Info = beam_provision_api_pb2.ProvisionInfo


class Engine(
    beam_provision_api_pb2_grpc.ProvisionServiceServicer, beam_fn_api_pb2_grpc.BeamFnLoggingServicer
):
    """What an engine answers a worker, and what the worker has logged there."""

    def __init__(self) -> None:
        self.info = Info()
        self.asked_by: list[str] = []
        self.logged: list[tuple[int, str]] = []

    def GetProvisionInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked_by.append(str(dict(context.invocation_metadata())["worker_id"]))
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=self.info)

    def Logging(self, lists: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        for entries in lists:
            self.logged += [(entry.severity, entry.message) for entry in entries.log_entries]
        yield from ()


@pytest.fixture
def engine() -> Iterator[tuple[Engine, str]]:
    """An engine and its address."""
    engine, server = Engine(), grpc.server(ThreadPoolExecutor(4))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(engine, server)
    beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(engine, server)
    address = f"localhost:{server.add_insecure_port('localhost:0')}"
    engine.info.logging_endpoint.url = address
    engine.info.control_endpoint.url = "localhost:1"
    server.start()
    yield engine, address
    server.stop(None).wait()


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a test sets is gone afterwards."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_worker_of_beam_finds_what_the_engine_says(
    engine: tuple[Engine, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, address = engine
    answers.info.status_endpoint.url = "localhost:2"
    answers.info.pipeline_options.update({"beam:option:job_name:v1": "some-job"})
    answers.info.runner_capabilities.extend(["beam:one", "beam:two"])
    answers.info.metadata["job_id"] = "7"
    found: list[dict[str, str]] = []
    monkeypatch.setattr(sdk_worker_main, "main", lambda _: found.append(dict(os.environ)))
    boot.main(["--id=1-3", f"--provision_endpoint={address}", "--semi_persist_dir=/x", "--unknown=1"])
    assert answers.asked_by == ["1-3"]
    [told] = found
    assert told["WORKER_ID"] == "1-3"
    assert told["SEMI_PERSISTENT_DIRECTORY"] == "/x"
    assert told["RUNNER_CAPABILITIES"].split() == ["beam:one", "beam:two"]
    assert told["JOB_ID"] == "7"
    assert json.loads(told["PIPELINE_OPTIONS"]) == {"beam:option:job_name:v1": "some-job"}
    for name, wanted in (("LOGGING", address), ("CONTROL", "localhost:1"), ("STATUS", "localhost:2")):
        service = endpoints_pb2.ApiServiceDescriptor()
        text_format.Merge(told[f"{name}_API_SERVICE_DESCRIPTOR"], service)
        assert service.url == wanted


def staged(name: str) -> beam_runner_api_pb2.ArtifactInformation:
    role = beam_runner_api_pb2.ArtifactStagingToRolePayload(staged_name=name)
    return beam_runner_api_pb2.ArtifactInformation(role_payload=role.SerializeToString())


@pytest.mark.parametrize(
    ("brings", "said"),
    [
        (
            Info(dependencies=[staged("mine.whl"), staged("extra_packages.txt")]),
            "the job brings mine.whl, extra_packages.txt, and lrm-worker installs nothing",
        ),
        (Info(sibling_worker_ids=["1-4", "1-5"]), "the engine asks one lrm-worker for 3 workers"),
    ],
)
def test_what_it_refuses(
    engine: tuple[Engine, str], brings: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so where it was started, and in the engine's log."""
    answers, address = engine
    answers.info.MergeFrom(brings)
    monkeypatch.setattr(sdk_worker_main, "main", lambda _: pytest.fail("it is started"))
    with pytest.raises(SystemExit) as error:
        boot.main(["--id=1-3", f"--provision_endpoint={address}"])
    assert str(error.value).startswith(f"lrm-worker: {said}")
    [(severity, message)] = answers.logged
    assert severity == beam_fn_api_pb2.LogEntry.Severity.ERROR
    assert message.startswith(said)


def test_other_files_are_nothing_to_install() -> None:
    """Such as Beam's list of packages, and those of `--files_to_stage`."""
    names = ("submission_environment_dependencies.txt", "pom.xml")
    assert boot.refusal(Info(dependencies=list(map(staged, names)))) is None


def test_an_engine_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "_SECONDS_TO_ANSWER", 0.2)
    with pytest.raises(SystemExit, match="localhost:1 does not answer"):
        boot.main(["--id=1-3", "--provision_endpoint=localhost:1"])


def test_processes_of_which_nothing_more_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program beside this Python comes before one in the PATH."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    process = ["--environment_type=PROCESS"]
    with pytest.raises(UsageError, match="this machine has no lrm-worker"):
        RunnerOptions("PortableRunner", beam=["--job_endpoint=embed", *process]).check()
    (tmp_path / "bin").mkdir()
    for program in (tmp_path / "bin" / "lrm-worker", tmp_path / "lrm-worker"):
        program.touch(0o755)
        assert with_worker(process) == [*process, f'--environment_config={{"command": "{program}"}}']
    for others in (
        ["--environment_type=LOOPBACK"],
        [],
        [*process, "--environment_config={}"],
        [*process, "--environment_options=process_command=/x"],
    ):
        assert with_worker(others) == others
    options = RunnerOptions("PortableRunner", beam=["--job_endpoint=embed", *process]).pipeline_options()
    assert options.get_all_options()["environment_config"] == json.dumps({"command": str(program)})


def test_what_pip_makes_of_it_is_there() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        module, _, name = tomllib.load(file)["project"]["scripts"]["lrm-worker"].partition(":")
    assert getattr(import_module(module), name) is boot.main
