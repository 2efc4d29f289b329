"""`lrm report`: plots and tables of a folder of runs, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from behavior.wording import number_of
from cli.console import print_json, say


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a grid (lrm scale), an ablation, or of runs.")],
    html: Annotated[Path, typer.Option(help="The page; its tables go to a folder beside it.")] = Path(
        "report.html"
    ),
    metric: Annotated[
        str | None, typer.Option(help="Validation metric to show; default: ndcg@10 or auc.")
    ] = None,
    replicates: Annotated[int, typer.Option(min=2, help="Bootstrap replicates of the fitted laws.")] = 200,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw everything that a folder of runs shows: one HTML file that needs nothing else, and CSV tables.

    Reads the folder alone, at any time, while runs are still going on as well.

    Example:  lrm report runs/scale --html report.html
    """
    from models.scaling.report.write import tables_beside, write_report

    written = write_report(folder, html, metric=metric, replicates=replicates)
    if json:
        print_json({"report": str(html), "files": [str(path) for path in written]})
        return
    say(f"{html}, and {number_of(len(written) - 1, 'table')} in {tables_beside(html)}")
