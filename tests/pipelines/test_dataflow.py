"""What is Dataflow's own, as far as it needs neither Google's packages nor a service."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, PortableOptions
from apache_beam.runners.runner import PipelineState

from behavior.errors import UsageError, UserError
from behavior.shards.storage import Folder
from pipelines.dataflow import check_reachable, options, submission, wait
from pipelines.dataflow.jobs import DataflowError
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from pipelines.waiting import check_summary, wait_for_engine
from tests.pipelines.conftest import make_spec
from tests.pipelines.test_transforms import make_job

GOOD = [
    "--project=some-project",
    "--region=europe-west4",
    "--temp_location=gs://bucket/tmp",
    "--sdk_container_image=registry/lrm-kit:1",
]
PAGE = "https://console.cloud.google.com/dataflow/jobs/europe-west4/job-7?project=some-project"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's packages, or so it seems; and no region by default."""
    monkeypatch.setattr(options, "_PACKAGES", ("json",))
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION", raising=False)


def check(*given: str) -> None:
    RunnerOptions("DataflowRunner", beam=list(given)).check()


def refused(*given: str) -> UsageError:
    with pytest.raises(UsageError) as error:
        check(*given)
    return error.value


def without(name: str) -> list[str]:
    return [option for option in GOOD if not option.startswith(f"--{name}")]


def test_what_docs_deploy_names_is_good(tmp_path: Path) -> None:
    check(*GOOD)
    package = tmp_path / "lrm_kit-0.1.0.tar.gz"
    package.touch()
    check(*without("sdk_container_image"), f"--extra_package={package}")
    check(
        *GOOD,
        "--labels=team=shop",
        '--labels={"cost-center": "7_a", "x": ""}',
        "--staging_location=gs://bucket/s",
    )
    check(
        *GOOD,
        "--machine_type=n2-standard-4",
        "--max_num_workers=50",
        "--no_use_public_ips",
        "--job_name=a-job-7",
    )
    check(*GOOD, "--dataflow_endpoint=http://localhost:8123", "--no_auth")


@pytest.mark.parametrize("name", ["project", "region", "temp_location"])
def test_what_dataflow_needs(name: str) -> None:
    error = refused(*without(name))
    assert error.what == f"Dataflow needs --{name}"
    assert f"--{name}=" in str(error.fix)


def test_all_that_is_missing_is_named_at_once() -> None:
    assert refused().what == "Dataflow needs --project, --region, --temp_location"


def test_the_region_that_google_s_tools_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "us-east1")
    check(*without("region"))
    for given, region in ((without("region"), "us-east1"), (GOOD, "europe-west4")):
        found = RunnerOptions("DataflowRunner", beam=given).pipeline_options()
        assert found.view_as(GoogleCloudOptions).region == region
        assert found.view_as(PortableOptions).environment_cache_millis == 0  # is for other engines


def test_jobs_have_names_and_wait_for_machines() -> None:
    for given, name in ((GOOD, r"lrm-\d{8}-\d{6}-[0-9a-f]{6}"), ([*GOOD, "--job_name=own-7"], "own-7")):
        check(*given)
        found = RunnerOptions("DataflowRunner", beam=given).pipeline_options()
        assert re.fullmatch(name, found.view_as(GoogleCloudOptions).job_name)
    queued = RunnerOptions("DataflowRunner", beam=[*GOOD, "--flexrs_goal=COST_OPTIMIZED"])
    assert RunnerOptions("DataflowRunner", beam=GOOD).seconds_to_answer < 3600 < queued.seconds_to_answer


def test_workers_without_lrm_kit() -> None:
    error = refused(*without("sdk_container_image"))
    assert "workers would have no lrm-kit" in error.what
    assert "--sdk_container_image=IMAGE" in str(error.fix)
    assert "no file '/nowhere.tar.gz'" in refused(*GOOD, "--extra_package=/nowhere.tar.gz").what


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--temp_location=/tmp/here", "Invalid GCS path (/tmp/here), given for the option: temp_location."),
        ("--staging_location=s3://bucket/x", "Invalid GCS path (s3://bucket/x)"),
        ("--project=123456", "Please make sure you specified the Project ID, not project number"),
        ("--job_name=My_Job", "Invalid job_name (My_Job)"),
        ("--max_num_workers=0", "Value needs to be positive"),
        ("--max_num_workers=many", "invalid int value: 'many'"),
        ("--template_location=gs://bucket/t", "--template_location makes no sense here"),
        ("--update", "--update makes no sense here"),
        ("--dry_run=True", "--dry_run makes no sense here: nothing would run"),
        ("--streaming", "--streaming makes no sense here"),
        ("--labels=Team=shop", "Google Cloud takes no label 'Team=shop'"),
        ("--labels=7=shop", "Google Cloud takes no label '7=shop'"),
        (f"--labels=a={'b' * 64}", "Google Cloud takes no label"),
        ("--labels={team: shop}", "is no dictionary of labels"),
        ("--max_num_worker=5", "Beam knows no option '--max_num_worker'"),
    ],
)
def test_wrong_options(option: str, said: str) -> None:
    assert said in refused(*without(option.partition("=")[0].removeprefix("--")), option).what


def test_google_s_packages_are_asked_for_by_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_such_package", "no_such_package.inner"):
        monkeypatch.setattr(options, "_PACKAGES", ("json", name))
        with pytest.raises(UserError, match="is not installed") as error:
            check(*GOOD)
        assert error.value.fix == "pip install 'lrm-kit[gcp]'"


@pytest.mark.parametrize("path", ["/data/x", "file:///data/x", "local:///data/x", "data"])
def test_paths_of_this_machine(path: str) -> None:
    with pytest.raises(UsageError, match="workers on Dataflow cannot reach") as error:
        check_reachable(path, "--out")
    assert error.value.where == "--out"
    RunnerOptions("FlinkRunner").check_reachable(path, "--out")  # may be mounted there
    check_reachable("gs://bucket/x", "--out")


def test_a_log_of_this_machine(raw: Path) -> None:
    runner = RunnerOptions("DataflowRunner", beam=GOOD)
    with pytest.raises(UsageError, match=r"cannot reach '/.*/raw/part-1\.csv'") as error:
        prepare(make_spec(), str(raw), "memory://nowhere/out", runner=runner)
    assert error.value.where == "--input"


class DataflowPipelineResult:
    """As Beam's of the same name, as far as it is asked here."""

    def __init__(self, state: str, said: str | None = None) -> None:
        self.state, self.has_job = state, True
        self._runner = SimpleNamespace(last_error_msg=said)
        self._options = PipelineOptions(GOOD)

    def job_id(self) -> str:
        return "job-7"


@pytest.fixture
def polled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Beam's way of asking the service raises, if there is anything in it."""
    raised: list[Any] = []

    def poll(runner: Any, result: Any, duration: Any) -> None:
        for error in raised:
            raise error

    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    monkeypatch.setattr(DataflowRunner, "poll_for_job_completion", staticmethod(poll))
    return raised


def test_how_jobs_end(polled: list[Any]) -> None:
    assert wait(DataflowPipelineResult(PipelineState.DONE)) == PipelineState.DONE
    assert wait(DataflowPipelineResult(PipelineState.CANCELLED)) == PipelineState.CANCELLED
    for said, what in (
        ("Traceback\n  File x\nKeyError: 7\n", "KeyError: 7"),
        (None, "Dataflow gives no reason"),
    ):
        with pytest.raises(DataflowError) as failed:
            wait(DataflowPipelineResult(PipelineState.FAILED, said))
        assert (str(failed.value), failed.value.where) == (what, PAGE)
    polled.append(ConnectionError("refused\nat line 3"))
    with pytest.raises(DataflowError, match=r"does not tell any more how the job does: refused$") as lost:
        wait(DataflowPipelineResult(PipelineState.RUNNING))
    assert lost.value.where == PAGE
    assert "the job may go on" in lost.value.fix


def test_a_job_that_somebody_cancels_is_named_by_its_page(
    polled: list[Any], raw: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="the engine says CANCELLED") as error:
        wait_for_engine(DataflowPipelineResult(PipelineState.CANCELLED), make_job(raw, tmp_path / "work"))
    assert error.value.where == PAGE


def test_a_job_that_left_nothing(raw: Path, tmp_path: Path) -> None:
    job = make_job(raw, tmp_path / "work")
    result = DataflowPipelineResult(PipelineState.DONE)
    with pytest.raises(UserError, match="it left no result") as error:
        check_summary(result, job)
    assert error.value.where == PAGE
    job.work.write_text("summary.json", "{}")
    check_summary(result, job)


@pytest.fixture
def staging(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were written to see whether they can be, in memory instead of a bucket."""
    written: list[str] = []
    usual = Folder.write_bytes

    def write(folder: Folder, name: str, data: bytes) -> None:
        written.append(str(folder))
        usual(Folder(str(folder).replace("gs://", "memory://")), name, data)

    monkeypatch.setattr(Folder, "write_bytes", write)
    monkeypatch.setattr(Folder, "remove", lambda folder, name: None)
    return written


def test_folders_for_staging_are_tried(staging: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with submission(PipelineOptions([*GOOD, "--staging_location=gs://other/stage"])):
        pass
    assert staging == ["gs://bucket/tmp", "gs://other/stage"]

    def refuse(error: Exception) -> None:
        def write(*_: object) -> None:
            raise error

        monkeypatch.setattr(Folder, "write_bytes", write)

    for error, what in (
        (FileNotFoundError("https://storage/b/bucket"), "the job cannot be staged: there is no such bucket"),
        (
            PermissionError(errno.EACCES, "Forbidden: you"),
            "the job cannot be staged: Forbidden: you",
        ),
    ):
        refuse(error)
        with pytest.raises(UserError) as told, submission(PipelineOptions(GOOD)):
            raise AssertionError("it is not tried")
        assert (told.value.what, told.value.where) == (what, "gs://bucket/tmp")
    with submission(PipelineOptions([*GOOD, "--impersonate_service_account=robot"])):
        pass  # who may write where it does


class RefusedError(Exception):
    """As those of Google's packages."""

    __module__ = "google.api_core.exceptions"

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        (RefusedError("403 no right", 403), "Dataflow refused the job: 403 no right", "may create jobs"),
        (RefusedError("429 quota", 429), "Dataflow refused the job: 429 quota", "quota"),
        (RefusedError("400 zone is off", 400), "Dataflow refused the job: 400 zone is off", "correct what"),
        (RefusedError("500 oh", 500), "Dataflow refused the job: 500 oh", "run the same command again"),
        (RefusedError("no answer"), "Dataflow cannot be reached: no answer", "check the network"),
        (OSError("Could not upload to GCS path gs://b: 404"), "the job cannot be staged: Could", "bucket"),
        (RefusedError("404 GET https://storage.googleapis.com/b", 404), "the job cannot be staged", "bucket"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("staging")
def test_jobs_that_cannot_be_sent(error: Exception, what: str, fix: str) -> None:
    with pytest.raises(UserError) as told, submission(PipelineOptions(GOOD)):
        raise error
    assert told.value.what.startswith(what)
    assert fix in str(told.value.fix)


@pytest.mark.usefixtures("staging")
def test_what_is_none_of_google_s_is_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), submission(PipelineOptions(GOOD)):
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt, match="project=some-project"), submission(PipelineOptions(GOOD)):
        raise KeyboardInterrupt
