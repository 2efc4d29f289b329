"""`prepare --append`: new events of known and new users and items go into a finished data set."""

from __future__ import annotations

import time
from collections.abc import Sequence

from behavior.flow.append import NothingToRead, plan_addition
from behavior.flow.preparation import absolute
from behavior.shards.lock import exclusive
from behavior.shards.storage import FolderLike
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.left import EngineJob, refuse_at_work
from pipelines.prepare import PrepareResult, ended, execute, make_plan, output_folder
from pipelines.progress import Progress
from pipelines.runner import RunnerOptions
from pipelines.signals import interrupted_by_signals


def append(
    spec: DatasetSpec,
    base: str,
    out: FolderLike,
    files: Sequence[str],
    *,
    runner: RunnerOptions | None = None,
    full: bool = False,
    frozen: bool = False,
    skip_bad_files: bool = False,
    progress: Progress | None = None,
) -> PrepareResult:
    """Add new event files to a data set that `prepare` made.

    Known users and items keep their indices and new ones follow; only sequence files of users with new events
    are written again, and the manifest moves to a new version at once. Item and user tables are read again.
    The result is what preparing old and new files together would give, up to the indices of new items and
    values. Where times tie, old events stay before new ones: where several groups of events share users, it
    is thus the same up to the order of ties.

    Each file is added once: the manifest knows all that were read by path, size and modification time, and
    where all of these are there already, nothing is done. New files may hold no events, or none that stay.

    Args:
        spec: the spec that the data set was made by.
        base: folder its paths are relative to.
        out: the data set.
        files: paths or globs of the new files, written as the spec says; `2=PATH` for files of the second
            group of events where the spec has several.
        runner: where to run; default: in this process.
        full: prepare everything afresh from the old and new files as they are now, for specs under which old
            rows change.
        frozen: for specs with standardized features or quantiles: keep means, standard deviations and
            quantiles as they are in the data set, those of its first version.
        skip_bad_files: as for `prepare`.
        progress: told how far a local job is.

    Raises:
        UserError: no such data set, another spec, one that does not allow it, or files that cannot be read;
            without `full` also files of which some are there already, or have changed since.
    """
    return ended(
        start_append(
            spec,
            base,
            out,
            files,
            runner=runner,
            full=full,
            frozen=frozen,
            skip_bad_files=skip_bad_files,
            progress=progress,
        )
    )


def start_append(
    spec: DatasetSpec,
    base: str,
    out: FolderLike,
    files: Sequence[str],
    *,
    runner: RunnerOptions | None = None,
    full: bool = False,
    frozen: bool = False,
    skip_bad_files: bool = False,
    progress: Progress | None = None,
) -> PrepareResult | EngineJob:
    """`append`, whose job may be left on an engine (`RunnerOptions.detach`): then that job is returned."""
    begin = time.time()
    runner = runner or RunnerOptions()
    base, folder = absolute(base), output_folder(out, runner)
    with exclusive(folder), interrupted_by_signals(runner):
        refuse_at_work(folder)
        addition = plan_addition(
            spec,
            base,
            folder,
            files,
            lambda wanted: make_plan(wanted, base, runner, skip_bad_files),
            full=full,
            frozen=frozen,
            skip_bad_files=skip_bad_files,
        )
        if isinstance(addition, NothingToRead):
            seconds = {} if addition.done_before else {"commit": time.time() - begin}
            return PrepareResult(addition.manifest, addition.done_before, {}, seconds)
        return execute(addition.preparation, runner, progress, begin, addition.manifest)
