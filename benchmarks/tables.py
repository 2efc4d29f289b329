"""What benchmarks of ablation tables share: options, the runs of the chosen lines, the CSV file."""

from __future__ import annotations

import argparse
import csv
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.experiments import load_table
from models.experiments.runs import PlannedRun, plan_runs


def table_options(about: str | None, *, shards: str, table: str) -> argparse.ArgumentParser:
    """The options of a benchmark that trains the lines of a table.

    Args:
        about: the script's docstring.
        shards: what `--shards` is.
        table: the table by default.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True, help=shards)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of results.csv")
    parser.add_argument("--table", default=table, help="name or path of a table")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--lines", nargs="+", help="some of the table's lines, by name")
    parser.add_argument("--set", nargs="+", default=[], help="settings of all lines: section.key=value")
    parser.add_argument("--csv", type=Path, help="default: in --out, by the script's name")
    return parser


def planned_lines(options: argparse.Namespace, overrides: Sequence[str]) -> list[PlannedRun]:
    """The runs of the lines that `table_options` chose; says on what machine."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"{card}, torch {torch.__version__}")
    planned = plan_runs(
        options.table,
        load_table(options.table),
        options.shards,
        options.out,
        seeds=options.seeds,
        overrides=overrides,
    )
    return [run for run in planned if not options.lines or run.line in options.lines]


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
