"""A job that was sent to Dataflow: where it can be seen, how it ends, what its errors mean."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineState

from behavior.errors import UserError
from behavior.shards.storage import Folder

_CONSOLE = "https://console.cloud.google.com/dataflow/jobs"
_SECONDS_TO_ANSWER = 20.0
_STAGING = "check --temp_location: the bucket must be there, and you must be allowed to write to it"
_REFUSALS = {
    401: "log in: gcloud auth application-default login",
    403: "see that the account may create jobs (roles/dataflow.developer, and roles/iam.serviceAccountUser "
    "on the workers' account), and that the Dataflow API is enabled in the project",
    404: "check --project and --region",
    409: "wait for the other job, or give this one a name of its own: --job_name",
    429: "the project's quota is used up: wait, take fewer or smaller workers, or ask for more",
}


class DataflowError(Exception):
    """A failure with what Dataflow says about it.

    Attributes:
        where: the job's page.
        fix: what to do.
    """

    def __init__(self, what: str, *, where: str, fix: str) -> None:
        super().__init__(what)
        self.where = where
        self.fix = fix


def is_job(result: Any) -> bool:
    """Whether what `beam.Pipeline.run` gave is a job on Dataflow."""
    return type(result).__name__ == "DataflowPipelineResult" and bool(result.has_job)


def page_of(result: Any) -> str:
    """Where a job can be seen."""
    cloud = result._options.view_as(GoogleCloudOptions)
    return f"{_CONSOLE}/{cloud.region}/{result.job_id()}?project={cloud.project}"


def options_to_ask(result: Any) -> list[str]:
    """Options of Beam by which another process can ask for a job; see `state_of`."""
    cloud = result._options.view_as(GoogleCloudOptions)
    names = ("project", "region", "dataflow_endpoint", "impersonate_service_account")
    named = [f"--{name}={value}" for name in names if (value := getattr(cloud, name))]
    return [*named, *(["--no_auth"] if cloud.no_auth else [])]


def state_of(job: str, options: Sequence[str]) -> str:
    """How a job does.

    Args:
        job: its id.
        options: as `options_to_ask` gives them.

    Returns:
        One of Beam's states; `UNKNOWN` where the service does not tell.
    """
    with suppress(Exception):  # no packages, no account, no network
        from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult
        from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
        from google.cloud import dataflow

        given = PipelineOptions(list(options))
        cloud = given.view_as(GoogleCloudOptions)
        asked = dataflow.GetJobRequest(job_id=job, project_id=cloud.project, location=cloud.region)
        client = DataflowApplicationClient(given, "gs://none")._jobs_client
        found = client.get_job(asked, timeout=_SECONDS_TO_ANSWER)
        return str(DataflowPipelineResult.api_jobstate_to_pipeline_state(found.current_state))
    return str(PipelineState.UNKNOWN)


def wait(result: Any) -> str:
    """Wait until a job has ended, however it does.

    Beam's own `wait_until_finish` says of a service that does not answer any more that the job has reached
    no end after waiting for ever, and prints the reason as the stack trace of a thread.

    Returns:
        The state it ended in; that of a job that failed is raised.

    Raises:
        DataflowError: it failed, or the service does not answer: Beam asks again for eight minutes or so.
    """
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    runner = result._runner
    try:
        DataflowRunner.poll_for_job_completion(runner, result, None)
    except Exception as error:  # whatever stands between here and the service
        raise DataflowError(
            f"Dataflow does not tell any more how the job does: {first_line(error)}",
            where=page_of(result),
            fix="the job may go on: see that page before you start another; lrm prepare --finish waits",
        ) from error
    state = str(result.state)
    if state == PipelineState.FAILED:
        said = str(getattr(runner, "last_error_msg", None) or "")
        last = (said.strip().splitlines() or ["Dataflow gives no reason"])[-1].strip()
        fix = "that page has the job's log and the workers'; docs/deploy.md lists symptoms"
        raise DataflowError(last, where=page_of(result), fix=fix)
    return state


@contextmanager
def submission(options: Any) -> Iterator[None]:
    """Around the sending of a job: says what is wrong with an account, a bucket or a service.

    Raises:
        UserError: the job was not sent.
        KeyboardInterrupt: it may have been.
    """
    cloud = options.view_as(GoogleCloudOptions)
    _check_staging(cloud)
    try:
        yield
    except KeyboardInterrupt:
        page = f"{_CONSOLE}?project={cloud.project}"
        raise KeyboardInterrupt(f"should the job have been sent already, cancel it: {page}") from None
    except Exception as error:
        told = _told(error, cloud)
        if told is None:
            raise
        raise told from error


def _check_staging(cloud: GoogleCloudOptions) -> None:
    """See that the folders for staging can be written to: Beam tries again for minutes if they cannot.

    Raises:
        UserError: there is no such bucket, or you may not write there.
    """
    for url in dict.fromkeys(filter(None, (cloud.temp_location, cloud.staging_location))):
        folder, name = Folder(str(url)), f"lrm-{uuid.uuid4().hex}.txt"
        try:
            folder.write_bytes(name, b"")
        except OSError as error:
            if cloud.impersonate_service_account and not isinstance(error, FileNotFoundError):
                continue  # another account is the one that is to be allowed to
            missing = isinstance(error, FileNotFoundError)
            reason = "there is no such bucket" if missing else error.strerror or first_line(error)
            raise UserError(f"the job cannot be staged: {reason}", where=str(url), fix=_STAGING) from error
        with suppress(OSError, UserError):  # some may write and not remove
            folder.remove(name)


def _told(error: Exception, cloud: GoogleCloudOptions) -> UserError | None:
    room, reason = type(error).__module__.partition(".")[0], first_line(error)
    code = getattr(error, "code", None)
    if type(error).__name__ == "DataflowJobAlreadyExistsError":
        code = 409
    if (room == "google" and "storage" in reason) or "GCS path" in reason:
        staging = cloud.staging_location or cloud.temp_location
        return UserError(f"the job cannot be staged: {reason}", where=staging, fix=_STAGING)
    if code in _REFUSALS or isinstance(code, int):
        fix = _REFUSALS.get(code, "correct what it names" if code < 500 else "run the same command again")
        return UserError(f"Dataflow refused the job: {reason}", where=f"project {cloud.project}", fix=fix)
    if type(error).__module__.startswith("google.auth"):
        return UserError(f"Dataflow cannot be used: {reason}", where="account", fix=_REFUSALS[401])
    if room in ("google", "requests", "urllib3"):
        fix = "check the network, and --dataflow_endpoint"
        return UserError(f"Dataflow cannot be reached: {reason}", where=cloud.dataflow_endpoint, fix=fix)
    return None


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
