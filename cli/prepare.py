"""`lrm prepare`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from behavior.errors import UsageError
from cli.console import note, print_json, print_table, progress_bars, say, warn
from cli.interrupted import AGAIN, advised
from cli.rejects import limit_of

if TYPE_CHECKING:
    from behavior.spec.dataset_spec import DatasetSpec

_STAGES = {"read": "reading", "sort": "sorting", "write": "writing"}


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
    workers: Annotated[int, typer.Option(help="Local processes; default: one, a thread per free core.")] = 0,
    runner: Annotated[str, typer.Option(help="local, or a Beam runner such as FlinkRunner.")] = "local",
    shuffle: Annotated[
        str | None,
        typer.Option(
            help="What carries events between a cluster's workers: files (in the job's folder in --out) or "
            "engine (its own shuffle); default: engine on Dataflow, else files."
        ),
    ] = None,
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
    # Beam takes a second to import: only the command that needs it pays.
    from behavior.shards.folder import open_shards
    from behavior.spec.dataset_spec import load_spec
    from behavior.summary.doubt import doubts
    from pipelines.append import append as run_append
    from pipelines.prepare import prepare as run
    from pipelines.runner import RunnerOptions

    _check_flags(append, full, frozen, overwrite)
    parsed, base = load_spec(spec, input_folder=input)
    if max_rejects is not None:
        parsed = parsed.model_copy(update={"max_rejects": limit_of(max_rejects)})
    common: dict[str, Any] = {
        "runner": RunnerOptions(runner, workers, list(context.args), shuffle, say=note),
        "skip_bad_files": skip_bad_files,
    }
    begin = time.perf_counter()
    with progress_bars(quiet=json) as bars:
        tasks = {name: bars.add_task(label, total=None, note="") for name, label in _STAGES.items()}

        def progress(stage: str, done: int, total: int) -> None:
            bars.update(tasks[stage], completed=done, total=total)

        common["progress"] = progress
        with advised(AGAIN):
            if append:
                result = run_append(parsed, base, out, append, full=full, frozen=frozen, **common)
            else:
                result = run(parsed, base, out, overwrite=overwrite, **common)
    manifest, warnings = result.manifest, doubts(open_shards(out))
    if json:
        record = {"out": out, "done_before": result.done_before, "version": manifest.version}
        record |= {"counts": manifest.counts.model_dump(), "seconds": result.seconds}
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
