"""The end of a job that was left on an engine: it is waited for, and what it needed is cleared away."""

from __future__ import annotations

import pickle
import time
from contextlib import suppress

from behavior.errors import UserError
from behavior.flow.totals import Summary
from behavior.shards.commit import commit, sweep
from behavior.shards.lock import exclusive
from behavior.shards.manifest import MANIFEST_NAME, load_manifest
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder, FolderLike, as_folder
from pipelines.job import FAILURE, SUMMARY, read_error
from pipelines.left import MANIFEST_OF, EngineJob, without_result
from pipelines.prepare import PrepareResult

_SECONDS_BETWEEN_LOOKS = 2.0


def finish(out: FolderLike) -> PrepareResult:
    """Wait for a job that was left on an engine (`RunnerOptions.detach`), or whose starting process is gone.

    The job itself makes the data set; this tells what became of it. An interrupt leaves it as it is.

    Args:
        out: folder of the data set.

    Returns:
        What the job did; `done_before` where there is a data set, and no job.

    Raises:
        UserError: what a worker found wrong, or the job ended without a result; then the folder is as it
            was before the job. Or there is no job.
    """
    folder = as_folder(out)
    work = folder.child(JOB_FOLDER)
    with exclusive(folder):
        job = EngineJob.noted(work)
        if job is None:
            if folder.exists(MANIFEST_NAME):
                return PrepareResult(load_manifest(folder), True, {}, {})
            raise UserError(
                f"no job on an engine writes to '{folder}'",
                where="--finish",
                fix="start one: the same command with --detach in place of --finish",
            )
        try:
            _wait(work, job)
        except UserError:
            with suppress(OSError, UserError):
                sweep(folder)
            raise
        # The job has done so already, or is about to: whoever comes second writes the same.
        manifest = pickle.loads(work.read_bytes(MANIFEST_OF))(Summary.from_json(work.read_text(SUMMARY)))
        commit(folder, manifest)
        return PrepareResult(manifest, False, {}, {})


def _wait(work: Folder, job: EngineJob) -> None:
    """Until there is a summary.

    Raises:
        UserError: there will be none.
    """
    while True:
        ended = job.ended()  # first: what it has left is then all there
        if work.exists(FAILURE):
            raise read_error(work)
        if work.exists(SUMMARY):
            return
        if ended:
            raise without_result(job, ended)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
