"""Jobs on a stand-in for Dataflow that do not end well: what is said, what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from apache_beam.utils import retry

from behavior.errors import UserError
from behavior.shards.owned import JOB_FOLDER
from pipelines.crashed import JobCrashError
from pipelines.finish import finish
from pipelines.left import EngineJob
from pipelines.prepare import PrepareResult, prepare, start
from pipelines.runner import RunnerOptions
from tests.engines.cloud import PROJECT, REGION, Cloud
from tests.engines.dataflow import CANCELLED, DONE, FAILED, DataflowJob, DataflowService
from tests.engines.installed import ROOT
from tests.engines.processes import wait_for
from tests.pipelines.conftest import make_spec, raw
from tests.pipelines.test_prepare import contents

__all__ = ["raw"]

PAGE = f"https://console.cloud.google.com/dataflow/jobs/{REGION}/{{}}?project={PROJECT}"
TRACE = """Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in process
ModuleNotFoundError: No module named 'scipy'
"""


def for_ever(job: DataflowJob) -> str:
    """Until it is cancelled."""
    job.cancelled.wait()
    return CANCELLED


@pytest.fixture
def places(google: Cloud, raw: Path, tmp_path: Path) -> tuple[str, str]:
    """Where the log is, and where the data set is to be."""
    logs = f"gs://logs-bucket/{tmp_path.name}"
    google.put(raw, logs)
    return logs, f"gs://data-bucket/{tmp_path.name}"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam waits for minutes before it asks a service again that does not answer."""
    monkeypatch.setattr(retry.Clock, "sleep", lambda self, value: time.sleep(0.01))
    monkeypatch.setattr("pipelines.waiting._SECONDS_BETWEEN_REQUESTS", 0.1)


def run(places: tuple[str, str], runner: RunnerOptions) -> PrepareResult:
    return prepare(make_spec(), *places, runner=runner)


def page(service: DataflowService) -> str:
    return PAGE.format(service.jobs[-1].id)


def test_a_job_that_fails(google: Cloud, places: tuple[str, str]) -> None:
    def fail(job: DataflowJob) -> str:
        job.messages.append(("JOB_MESSAGE_BASIC", "Worker configuration: n2-standard-4"))
        job.messages.append(("JOB_MESSAGE_ERROR", TRACE))
        job.messages.append(("JOB_MESSAGE_ERROR", "Workflow failed: a work item was attempted 4 times"))
        return FAILED

    service = google.fresh(fail)
    with pytest.raises(JobCrashError) as error:
        run(places, google.runner())
    assert error.value.what == "the job failed: ModuleNotFoundError: No module named 'scipy'"
    assert error.value.where == page(service)
    assert "that page has the job's log" in str(error.value.fix)


def test_a_job_that_fails_without_a_word(google: Cloud, places: tuple[str, str]) -> None:
    """Beam waits for the reason, for fifty seconds if the clock were not faster here."""
    service = google.fresh(lambda job: FAILED)
    with pytest.raises(JobCrashError, match="the job failed: Dataflow gives no reason") as error:
        run(places, google.runner())
    assert error.value.where == page(service)


def test_a_job_that_somebody_cancels(google: Cloud, places: tuple[str, str]) -> None:
    service = google.fresh(lambda job: CANCELLED)
    with pytest.raises(UserError, match="the engine says CANCELLED") as error:
        run(places, google.runner())
    assert error.value.where == page(service)
    assert google.contents(places[1]) == {}


def test_a_job_that_is_done_and_has_left_nothing(google: Cloud, places: tuple[str, str]) -> None:
    service = google.fresh(lambda job: DONE)
    with pytest.raises(UserError, match="left no result") as error:
        run(places, google.runner())
    assert service.jobs[-1].id in str(error.value)
    assert google.contents(places[1]) == {}


@pytest.mark.parametrize(
    ("status", "text", "fix"),
    [
        (403, "Current user cannot act as service account", "may create jobs"),
        (404, "no such project", "check --project and --region"),
        (429, "Quota exceeded", "quota"),
        (400, "The workflow could not be created: zone is wrong", "correct what it names"),
        (503, "The service is unavailable", "run the same command again"),
    ],
)
def test_a_service_that_refuses(
    google: Cloud, places: tuple[str, str], status: int, text: str, fix: str
) -> None:
    google.fresh().faults["create"] = status, text
    with pytest.raises(UserError, match="Dataflow refused the job") as error:
        run(places, google.runner())
    assert text in error.value.what
    assert error.value.where == f"project {PROJECT}"
    assert fix in str(error.value.fix)
    assert google.contents(places[1]) == {}


def test_an_account_that_is_none(google: Cloud, places: tuple[str, str]) -> None:
    google.fresh().faults["create"] = 401, "Request had invalid credentials"
    with pytest.raises(UserError, match="Dataflow cannot be used: Anonymous credentials") as error:
        run(places, google.runner())
    assert "gcloud auth application-default login" in str(error.value.fix)


def test_a_service_that_is_not_there(google: Cloud, places: tuple[str, str]) -> None:
    service = google.fresh()
    runner = google.runner()
    service.end()
    with pytest.raises(UserError, match="Dataflow cannot be reached") as error:
        run(places, runner)
    assert error.value.where == service.endpoint


def test_a_bucket_that_is_not_there(google: Cloud, places: tuple[str, str]) -> None:
    google.fresh()
    with pytest.raises(UserError, match="the job cannot be staged") as error:
        run(places, google.runner("--temp_location=gs://no-bucket/tmp"))
    assert str(error.value.where).startswith("gs://no-bucket/tmp")
    with pytest.raises(
        UserError, match="cannot write to 'gs://no-bucket/data': there is no bucket 'no-bucket'"
    ):
        run((places[0], "gs://no-bucket/data"), google.runner())
    with pytest.raises(UserError, match="no file matches 'part-") as error:
        run(("gs://no-bucket/logs", places[1]), google.runner())
    assert "there is no folder 'no-bucket/logs' either" in str(error.value.fix)


@pytest.mark.parametrize("fault", ["gone", "refuses"])
def test_a_service_that_is_lost(google: Cloud, places: tuple[str, str], fault: str) -> None:
    """The job may go on: its files stay where they are."""

    def lose(job: DataflowJob) -> str:
        if fault == "refuses":
            service.faults["get"] = 503, "try again later"
        else:
            service.end()
        time.sleep(1)
        return DONE

    service = google.fresh(lose)
    with pytest.raises(JobCrashError, match="Dataflow does not tell any more how the job does") as error:
        run(places, google.runner())
    assert error.value.where == page(service)
    assert "the job may go on" in str(error.value.fix)
    assert "lrm prepare --finish" in str(error.value.fix)
    assert f"{JOB_FOLDER}/" in " ".join(google.contents(places[1]))


def test_a_job_that_is_left_there(google: Cloud, places: tuple[str, str], tmp_path: Path) -> None:
    """It makes the data set by itself; who comes later waits for it."""
    service = google.fresh()
    job = start(make_spec(), *places, runner=google.runner(detach=True))
    assert isinstance(job, EngineJob)
    assert (job.name, job.page) == (service.jobs[-1].id, page(service))
    manifest = finish(places[1]).manifest
    assert manifest == prepare(make_spec(), places[0], tmp_path / "local").manifest
    assert google.contents(places[1]) == contents(tmp_path / "local")


@pytest.mark.parametrize("ends", [FAILED, CANCELLED])
def test_a_job_that_is_left_there_and_fails(google: Cloud, places: tuple[str, str], ends: str) -> None:
    service = google.fresh(for_ever)
    start(make_spec(), *places, runner=google.runner(detach=True))
    with pytest.raises(UserError, match="may still be writing"):
        run(places, google.runner())
    service.jobs[-1].state = ends
    with pytest.raises(UserError, match="ended without a result: the engine says") as error:
        finish(places[1])
    assert error.value.where == page(service)
    assert google.contents(places[1]) == {}


@pytest.mark.parametrize("fault", [(403, "not for you"), None])
def test_counters_are_not_worth_a_failure(
    google: Cloud, places: tuple[str, str], fault: tuple[int, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.execution._SECONDS_FOR_COUNTERS", 0.5)
    google.fresh().faults["metrics"] = fault
    assert run(places, google.runner()).counters == {}
    assert "manifest.json" in google.contents(places[1])


def started(google: Cloud, places: tuple[str, str], folder: Path) -> subprocess.Popen:
    """`lrm prepare` in a process of its own."""
    spec = folder / "spec.yaml"
    spec.write_text(make_spec().model_dump_json())  # JSON is YAML
    logs, out = places
    flags = ["--input", logs, "--out", out, "--runner", "DataflowRunner", "--json", "--", *google.options()]
    path = os.environ.get("PYTHONPATH", str(ROOT))
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "prepare", str(spec), *flags],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_job(
    google: Cloud, places: tuple[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    service = google.fresh(for_ever)
    process = started(google, places, tmp_path)
    try:
        wait_for(lambda: bool(service.jobs) or process.poll() is not None, "a job")
        time.sleep(1)
        for _ in range(2):  # as `timeout` does
            process.send_signal(number)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    [job] = service.jobs
    assert job.state == CANCELLED, said
    assert process.returncode == 130
    assert f"the job {job.id} on Dataflow: {page(service)}" in said
    assert f"interrupted; the job {job.id} on Dataflow is cancelled; run the same command again" in said
    assert "Traceback" not in said
    assert json.loads(printed)["exit_code"] == 130
    assert google.contents(places[1]) == {}


def test_an_interrupt_where_the_service_is_deaf(
    google: Cloud, places: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections, and says nothing any more."""
    monkeypatch.setattr("pipelines.waiting._SECONDS_TO_CANCEL", 1.0)

    def deafen(job: DataflowJob) -> str:
        service.faults |= {"get": None, "update": None}
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)
        return for_ever(job)

    service = google.fresh(deafen)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        run(places, google.runner())
    said = f"the job {service.jobs[-1].id} could not be cancelled (not within 1 s)"
    assert str(interrupt.value) == f"{said}: cancel it there: {page(service)}"
