"""`lrm prepare`."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from behavior.errors import UsageError
from cli.console import note, print_json, print_table, progress_bars, say, warn
from cli.interrupted import AGAIN, advised
from cli.rejects import limit_of
from cli.runner_flags import WorkerTimeout

if TYPE_CHECKING:
    from behavior.spec.dataset_spec import DatasetSpec
    from pipelines.left import EngineJob
    from pipelines.prepare import PrepareResult

_STAGES = {"read": "reading", "sort": "sorting", "write": "writing"}
_GOES_ON = "the job on the engine goes on; --finish waits for it again"


def prepare(
    context: typer.Context,
    spec: Annotated[
        str, typer.Argument(help="Dataset spec (a YAML file), or the name of a ready one ('lrm data list').")
    ],
    out: Annotated[str, typer.Option(help="Folder for the shards; gs:// and s3:// too.")],
    input: Annotated[
        str | None,
        typer.Option(help="Folder that paths in the spec are relative to; default: the folder of the spec."),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Local processes; default: one per free core, threads if fewer than four.")
    ] = 0,
    runner: Annotated[str, typer.Option(help="local, or a Beam runner such as FlinkRunner.")] = "local",
    shuffle: Annotated[
        str | None,
        typer.Option(
            help="What carries events between a cluster's workers: files (in the job's folder in --out) or "
            "engine (its own shuffle); default: engine on Dataflow, else files."
        ),
    ] = None,
    worker_timeout: WorkerTimeout = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Leave the job on the engine, which makes the data set by itself."),
    ] = False,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Wait for a job that was left on an engine, and clear up after it."),
    ] = False,
    append: Annotated[
        list[str] | None,
        typer.Option(
            help="Add event files to the data set in --out; 2=PATH: of the second group of the spec. Takes "
            "--frozen where the spec standardizes or has quantiles, --full where it has k-core, minimum "
            "counts or a cap: what is added would change old rows.",
            metavar="FILES",
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="With --append and all files ever added: prepare from scratch."),
    ] = False,
    frozen: Annotated[
        bool,
        typer.Option(
            "--frozen", help="With --append: keep means, deviations and quantiles of the first version."
        ),
    ] = False,
    max_rejects: Annotated[
        str | None,
        typer.Option(help="Maximum of rejected rows: a number, or a share (0.01, 1%); default: the spec's."),
    ] = None,
    skip_bad_files: Annotated[
        bool,
        typer.Option(
            "--skip-bad-files", help="Skip event files that cannot be read; the manifest names them."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing data set.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Turn raw logs into training shards.

    Everything after -- is passed on to Beam.

    Example:  lrm prepare ml-1m --input ~/ml-1m --out data/ml-1m
    """
    if runner == "local" and not finish and not context.args:
        from behavior.runtime.memory import keep_freed

        keep_freed()
        _start_workers(workers)
    # First what the work waits for.
    from behavior.spec.dataset_spec import load_spec
    from pipelines.left import EngineJob
    from pipelines.prepare import start
    from pipelines.runner import RunnerOptions

    _check_flags(append, full, frozen, overwrite)
    if finish and (detach or append or overwrite):
        raise UsageError(
            "--finish starts no job", where="--finish", fix="leave out --detach, --append and --overwrite"
        )
    parsed, base = load_spec(spec, input_folder=input)
    if max_rejects is not None:
        parsed = parsed.model_copy(update={"max_rejects": limit_of(max_rejects)})
    common: dict[str, Any] = {
        "runner": RunnerOptions(runner, workers, list(context.args), shuffle, note, detach, worker_timeout),
        "skip_bad_files": skip_bad_files,
    }
    result: PrepareResult | EngineJob
    begin = time.perf_counter()
    with progress_bars(quiet=json) as bars:
        tasks = {name: bars.add_task(label, total=None, note="") for name, label in _STAGES.items()}

        def progress(stage: str, done: int, total: int) -> None:
            bars.update(tasks[stage], completed=done, total=total)

        common["progress"] = progress
        with advised(_GOES_ON if finish else AGAIN):
            if finish:
                from pipelines.finish import finish as run_finish

                result = run_finish(out)
            elif append:
                from pipelines.append import start_append

                result = start_append(parsed, base, out, append, full=full, frozen=frozen, **common)
            else:
                result = start(parsed, base, out, overwrite=overwrite, **common)
    if isinstance(result, EngineJob):
        _say_where(result, spec, out, json=json)
        return
    from behavior.shards.folder import open_shards
    from behavior.summary.doubt import doubts

    manifest, warnings = result.manifest, doubts(open_shards(out))
    if json:
        record = {"out": out, "done_before": result.done_before, "version": manifest.version}
        record |= {"counts": manifest.counts.model_dump(), "seconds": result.seconds}
        record |= {"cpu_seconds": result.cpu_seconds}
        coverage = [entry.model_dump() for entry in manifest.coverage]
        record |= {"damaged_files": manifest.damaged_files, "coverage": coverage}
        print_json(record | {"warnings": warnings})
        return
    if result.done_before:
        say(f"'{out}' already holds this data set: nothing to do")
    _print(manifest, out, time.perf_counter() - begin)
    if not append:
        _say_what_adding_takes(parsed)
    for text in warnings:
        warn(text)


def begin_early(arguments: list[str]) -> None:
    """Start what workers are forked from as soon as a process sees that it is a local `prepare`.

    It imports for half a second and more, while this process makes the command, reads the flags and imports.
    What is not foreseen is started later, and what is not needed ends with this process.
    """
    from behavior.runtime.imports import without
    from behavior.runtime.memory import few_collections

    elsewhere = {"--help", "-h", "--runner", "--finish", "--"}
    if arguments[:1] != ["prepare"] or elsewhere & {part.partition("=")[0] for part in arguments}:
        return
    asked = "0"
    for part, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = part.partition("=")
        if name == "--workers":
            asked = value if equals else following
    if asked.isdigit():
        _start_workers(int(asked))
        without("pandas", "scipy")
        few_collections()


def _start_workers(asked: int) -> None:
    from behavior.runtime.forks import processes, start_ahead

    if processes(asked):
        start_ahead(["pipelines.work:ready_for_any"])


def _check_flags(append: list[str] | None, full: bool, frozen: bool, overwrite: bool) -> None:
    if full and not append:
        raise UsageError("--full goes with --append", where="--full", fix="to redo a data set: --overwrite")
    if frozen and (full or not append):
        raise UsageError(
            "--frozen goes with --append, and not with --full",
            where="--frozen",
            fix="leave it out: what is prepared from scratch is fitted afresh",
        )
    if append and overwrite:
        raise UsageError(
            "--append adds to a data set, --overwrite replaces it", where="--append", fix="leave one out"
        )


def _say_where(job: EngineJob, spec: str, out: str, *, json: bool) -> None:
    """How to see, to wait for and to finish a job that was left on an engine."""
    if json:
        print_json({"out": out, "job": job.name, "endpoint": job.endpoint or None, "page": job.page or None})
        return
    seen = job.page or (f"job server {job.endpoint}" if job.endpoint else "")
    say(f"the job {job.name} was left on the engine" + (f" ({seen})" if seen else ""))
    say(f"it makes the data set by itself: '{out}' holds one as soon as there is a new manifest.json")
    say(f"to wait for it and to clear up: lrm prepare {shlex.quote(spec)} --out {shlex.quote(out)} --finish")
    say(f"to give it up: cancel it on the engine's page, and remove .lrm-job in '{out}'")


def _say_what_adding_takes(spec: DatasetSpec) -> None:
    """Now, not on the day when there is more to add."""
    from behavior.flow.previous import flag_for_adding, reasons_against

    flag = flag_for_adding(spec)
    if flag is not None:
        say(f"to add to it, --append takes {flag}: {'; '.join(reasons_against(spec))}")


def _print(manifest: Any, out: str, seconds: float) -> None:
    from behavior.summary.tables import coverage_table

    rows = list(manifest.counts.model_dump().items())
    version = f", version {manifest.version}" if manifest.version > 1 else ""
    print_table(f"{manifest.name} in {out}{version} ({seconds:.1f} s)", ("", "number"), rows)
    coverage = coverage_table(manifest)
    if coverage is not None:
        print_table(*coverage)
    if manifest.counts.rejected:
        say(f"rejected rows, with file, line and reason: {out}/rejected/")
    if manifest.damaged_files:
        shown = ", ".join(manifest.damaged_files[:5])
        more = len(manifest.damaged_files) - 5
        shown += f" and {more} more" if more > 0 else ""
        warn(f"not read to their end: {shown}; what could not be read is lost")
