"""`lrm demo`: the whole way on generated data, in about two minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from behavior.errors import UserError
from behavior.wording import number_of
from cli.console import note, print_json, print_table, progress_bars, say
from cli.interrupted import advised
from cli.progress import TrainProgress, threads_in_words

if TYPE_CHECKING:
    from behavior.shards.manifest import Manifest


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the log and of the training runs.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Generate multi-behavior logs, prepare, train HSTU and SASRec, evaluate, recommend, write a report.

    Example:  lrm demo --out demo
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{out}' is not empty", where="--out", fix="name a new folder, or remove this one")
    from models.experiments.demo import Demo

    with progress_bars(quiet=json) as bars:
        steps = bars.add_task("", total=None, note="")

        def told(name: str, seconds: float | None) -> None:
            bars.reset(steps, description=name, total=None)
            if not json and seconds is not None:
                note(f"{name}: {seconds:.1f} s")
            elif not json and bars.disable:  # no terminal, and no bars
                note(f"{name} ...")

        def observer(label: str) -> TrainProgress:
            return TrainProgress(bars, label=f"training {label}", quiet=True, lines=not json)

        if not json:
            note(threads_in_words())
        with advised(f"a demo begins anew: remove '{out}', or name another folder"):
            record = Demo(out, seed, _prepare, told, observer).run()
    if json:
        print_json(record)
        return
    _print(record)
    say(f"{record['seconds']['all']:.0f} s in all; report: {record['report']}")


def _prepare(spec: Path, out: Path) -> Manifest:
    from behavior.spec.dataset_spec import load_spec
    from pipelines.prepare import prepare

    return prepare(*load_spec(spec), out).manifest


def _print(record: dict[str, Any]) -> None:
    from models.experiments.demo import below_lines, repeat_rows, table_rows
    from models.experiments.demo_people import people_tables

    users = record["results"]["hstu"]["users"]
    header = ("ranker", "NDCG@10", "HR@10", "of the history oracle")
    print_table(f"next purchase of {number_of(users, 'user')}, every item ranked", header, table_rows(record))
    for line in below_lines(record):
        say(line, style="yellow")
    columns = ("ranker", "NDCG@10 of repeat targets", "of explore targets")
    print_table("targets in the user's history (repeat) or not (explore)", columns, repeat_rows(record))
    for caption, rows in people_tables(record["people"]):
        print_table(caption, ("did last, newest first", "recommended"), rows)
