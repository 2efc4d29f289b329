"""A job on an engine, as it is noted in its folder: it runs on where the process that started it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial

from behavior.errors import UserError
from behavior.flow.totals import Summary
from behavior.shards.manifest import Manifest
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder
from pipelines.job import FAILURE, SUMMARY

_NOTE = "engine.json"
MANIFEST_OF = "manifest.pickle"
"""What makes the manifest from the summary, for whoever commits."""
ManifestOf = Callable[[Summary], Manifest] | partial[Manifest]
_SECONDS_TO_ANSWER = 5.0


@dataclass(frozen=True)
class EngineJob:
    """Where a job runs.

    Attributes:
        name: as the engine calls it.
        endpoint: address of the job server that knows it; empty where there is none.
        page: where it is shown; empty where that is not known.
        detached: whether its starting process has left it.
        service: options of Beam by which Dataflow can be asked for it; empty elsewhere.
    """

    name: str
    endpoint: str = ""
    page: str = ""
    detached: bool = False
    service: list[str] = field(default_factory=list)

    def note(self, work: Folder) -> None:
        """Note it in the job's folder."""
        Folder(work.url).write_text(_NOTE, json.dumps(asdict(self)))

    @classmethod
    def noted(cls, work: Folder) -> EngineJob | None:
        """The job that is noted in a folder, if any."""
        try:
            return cls(**json.loads(work.read_text(_NOTE)))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def ended(self) -> str | None:
        """How the engine says that it ended; None where it has not, or nobody can tell."""
        import grpc
        from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
        from apache_beam.runners.runner import PipelineState

        from pipelines import dataflow

        state = PipelineState.UNKNOWN
        if self.endpoint:
            request = beam_job_api_pb2.GetJobStateRequest(job_id=self.name)
            with suppress(grpc.RpcError), grpc.insecure_channel(self.endpoint) as channel:
                server = beam_job_api_pb2_grpc.JobServiceStub(channel)
                found = server.GetState(request, timeout=_SECONDS_TO_ANSWER)
                state = beam_job_api_pb2.JobState.Enum.Name(found.state)
        elif self.service:
            state = dataflow.state_of(self.name, self.service)
        return state if PipelineState.is_terminal(state) else None


def refuse_at_work(out: Folder) -> None:
    """Refuse a folder to which a job that was left on an engine may still write.

    Raises:
        UserError: which job it is.
    """
    work = out.child(JOB_FOLDER)
    job = EngineJob.noted(work)
    if job is None or not job.detached or work.exists(FAILURE) or work.exists(SUMMARY) or job.ended():
        return
    raise UserError(
        f"the job {job.name}, which was left on the engine, may still be writing to '{out}'",
        where="--out",
        fix=f"add --finish to wait for it, or remove '{work}' to give it up",
    )


def without_result(job: EngineJob, state: str) -> UserError:
    """A job that is over, and has made nothing."""
    return UserError(
        f"the job {job.name} ended without a result: the engine says {state}",
        where=job.page or None,
        fix="look at its page and at the workers' logs on the engine; docs/deploy.md lists symptoms",
    )
