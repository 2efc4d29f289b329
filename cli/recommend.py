"""`lrm recommend`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from behavior.errors import UsageError
from behavior.wording import number_of
from cli.console import note, print_json, print_table, progress_bars, say
from cli.evaluate import CheckpointName
from cli.recommend_job import JobFlags, recommend_on_beam, tell_counts, tell_missing
from cli.runner_flags import WorkerTimeout

if TYPE_CHECKING:
    import pyarrow as pa

    from models.serving.recommend.recommend import Recommendations

SHOWN = 20
"""Users that a terminal is shown, at most."""


class IndexFlag(StrEnum):
    """How the top items are found."""

    exact = "exact"
    ann = "ann"


class DeviceFlag(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def recommend(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="Run folder made by 'lrm train'.", metavar="RUN")],
    users: Annotated[
        Path | None,
        typer.Option(
            help="Users of the data set, in this order: a file of ids, one a line or in a column 'user'."
        ),
    ] = None,
    histories: Annotated[
        str | None,
        typer.Option(
            help="Histories of other people: .parquet, .jsonl or .csv with rows user, item[, behavior]"
            "[, timestamp][, features], or one row a user with lists; ids, names and times as in the log. "
            "A file, a folder or a glob; gs:// and s3:// too."
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items a user.")] = 10,
    out: Annotated[
        str | None,
        typer.Option(
            help="File to write: .parquet, .jsonl, .csv or .tsv; default: the terminal. With --runner a "
            "folder; gs:// and s3:// too."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="Time of asking, of models that are told it: 2024-05-01, 2024-05-01T10:00:00Z, or in the "
            "data set's unit; default: now."
        ),
    ] = None,
    behavior: Annotated[
        str | None,
        typer.Option(help="Behavior that is wanted, of models that are told it; default: the first target."),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(help="Domain to choose items from, and to ask for of models that are told it."),
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="Items to choose from: a file of ids, as --users.")
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="Items to leave out: a file of ids, as --users.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Choose from items with this value of a feature: genre=Drama; may be repeated."),
    ] = None,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--keep-seen",
            help="Leave out items with a target behavior in the user's history; default: as the run's "
            "evaluation.",
        ),
    ] = None,
    seen_by: Annotated[
        str | None,
        typer.Option(help="Leave out items that the user has had by these behaviors: view,cart."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns of items to add: features, count, or those of --items.")
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="More columns of items, such as titles: a table with a column 'item', or the folder with "
            "the item tables of the spec."
        ),
    ] = None,
    index: Annotated[
        IndexFlag,
        typer.Option(
            help="exact: all items are scored; ann: an index finds most of the top ones (how many is told)."
        ),
    ] = IndexFlag.exact,
    rerank: Annotated[
        Path | None,
        typer.Option(
            help="Ranking run on the same data: the first items of each user in the order of its probability."
        ),
    ] = None,
    rerank_depth: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --rerank: how many items of each user are put in order; default: 100."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Shard folder, if it has moved since training.")] = None,
    checkpoint: Annotated[
        CheckpointName, typer.Option(help="best on validation, or last.")
    ] = CheckpointName.best,
    device: Annotated[
        DeviceFlag, typer.Option(help="Where to compute; auto: a GPU where there is one.")
    ] = DeviceFlag.auto,
    runner: Annotated[
        str | None,
        typer.Option(
            help="Run as a Beam job, writing a folder of Parquet files: local, or a Beam runner such as "
            "FlinkRunner."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Of --runner local, processes; default: one, a thread per free core.")
    ] = 0,
    worker_timeout: WorkerTimeout = None,
    max_rejects: Annotated[
        str | None,
        typer.Option(
            help="With --runner, the maximum of rejected rows of histories: a number, or a share (0.01, 1%); "
            "default: none, the first one is the error."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --runner, replace recommendations in --out.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recommend items to users of the data set, or to anyone whose history is given.

    The items that score highest after the last event of each user, of all items, exactly. With --runner,
    everything after -- is passed on to Beam.

    Example:  lrm recommend runs/hstu --k 10 --out recommendations.parquet

    Example:  lrm recommend runs/hstu --histories new-users.csv --where genres=Drama
    """
    from models.serving.load import load_model
    from models.serving.recommend.files import read_ids
    from models.serving.recommend.output import check_out

    job = JobFlags(
        runner, workers, list(context.args), max_rejects, overwrite, data, device.value, worker_timeout
    )
    job.check(out)
    if out is not None and runner is None:
        check_out(Path(out))
    if seen_by is not None and exclude_seen is not None:
        raise UsageError("--seen-by says already what is left out", where="--seen-by", fix="name one flag")
    if rerank_depth is not None and rerank is None:
        raise UsageError(
            "nothing is put in another order", where="--rerank-depth", fix="add --rerank RUN, or leave it out"
        )
    if users is not None and histories is not None:
        raise UsageError("--users are of the data set, --histories are not", fix="name one of them")

    def ids(path: Path | None, column: str, flag: str) -> pa.Array | None:
        return None if path is None else read_ids(path, column, flag)

    model = load_model(run, checkpoint=checkpoint.value, data=data, device=device.value)
    chosen = ids(users, "user", "--users")
    wanted: dict[str, Any] = {
        "k": k,
        "at": at,
        "behavior": behavior,
        "domain": domain,
        "candidates": ids(candidates, "item", "--candidates"),
        "exclude": ids(exclude, "item", "--exclude"),
        "where": where or (),
        "exclude_seen": _names(seen_by, "--seen-by") if seen_by is not None else exclude_seen,
        "columns": _names(columns, "--columns"),
        "items": items,
        "index": index.value,
        "rerank": rerank,
        **({} if rerank_depth is None else {"rerank_depth": rerank_depth}),
    }
    if out is not None and runner is not None:
        recommend_on_beam(model, wanted, chosen, histories, out, job, json=json)
        return
    about = {"run": run, "trained_on": model.config.loader.part}
    found = model.recommend(chosen, histories=histories, **wanted)
    if out is not None:
        _write(found, about, Path(out), json)
    elif json:
        from models.serving.recommend.values import rows_of

        rows = [row for batch in _watched(found) for row in rows_of(batch)]
        print_json({**about, **_summary(found), "recommendations": rows})
    else:
        _show(found)


def _names(listed: str | None, flag: str) -> list[str]:
    names = [name.strip() for name in (listed or "").split(",")]
    if listed is not None and not all(names):
        raise UsageError(f"'{listed}' names nothing", where=flag, fix="names, with commas between")
    return names if listed is not None else []


def _watched(found: Recommendations) -> Iterator[pa.RecordBatch]:
    """The batches, with a bar that counts users."""
    with progress_bars() as bars:
        task = bars.add_task("recommending", total=found.expected, note="")
        for batch in found:
            bars.update(task, completed=found.told.users)
            yield batch


def _summary(found: Recommendations) -> dict[str, Any]:
    return {**asdict(found.told), "notes": found.notes}


def _write(found: Recommendations, about: dict[str, Any], out: Path, json: bool) -> None:
    from models.serving.recommend.output import write_batches

    rows = write_batches(_watched(found), out)
    if json:
        print_json({**about, "out": str(out), "rows": rows, **_summary(found)})
        return
    say(f"{number_of(rows, 'recommendation')} for {number_of(found.told.users, 'user')}: {out}")
    _tell(found)


def _show(found: Recommendations) -> None:
    """The first users on the terminal; no more are made than the batch that they are in."""
    from models.serving.recommend.values import rows_of

    rows: list[dict[str, Any]] = []
    for batch in _watched(found):
        rows += rows_of(batch)
        if found.told.users > SHOWN:
            break
    by_user = [
        list(group) for _, group in groupby(rows, key=lambda row: (row["user"], row.get("user_domain")))
    ]
    for group in by_user[:SHOWN]:
        popular = "" if group[0]["answer"] == "model" else ": no history, what is popular"
        names = [name for name in group[0] if name not in ("user", "answer")]
        lines = [[str(row[name]) if name == "item" else _cell(row[name]) for name in names] for row in group]
        print_table(f"user {group[0]['user']}{popular}", names, lines)
    _tell(found)
    if len(by_user) > SHOWN:
        say(f"the first {SHOWN} users; --out FILE writes all")


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _tell(found: Recommendations) -> None:
    told = found.told
    for text in found.notes:
        note(text)
    tell_counts(told.users, asdict(told))
    if told.recall is not None:
        note(
            f"the index found {told.recall:.2%} of the exact top items of the first "
            f"{number_of(told.compared_users, 'user')}"
        )
    tell_missing(told.missing_values)
