"""What `lrm evaluate --task ranking --baselines` prints."""

from __future__ import annotations

from typing import Any

from behavior.wording import number_of
from cli.console import print_table, say
from cli.floor_tables import interval

_COUNTED = {"train": "the training parts", "train+valid": "training and validation parts"}
_ERRORS = {"log_loss": "log loss", "normalized_entropy": "norm. entropy", "expected_calibration_error": "ECE"}


def print_rankers(data: str, result: dict[str, Any]) -> None:
    """A line each: AUC with its interval, GAUC, log loss and calibration; of a number its errors."""
    reports = result["baselines"]
    binary = any("log_loss" in report for report in reports.values())
    names = {"auc": "AUC", "gauc": "GAUC", **_ERRORS} if binary else {"rmse": "RMSE", "mae": "MAE"}
    header = [""]
    for name in names:
        header += [names[name], *(["95 % by user"] if name == "auc" else [])]
    rows = []
    for ranker, report in reports.items():
        row: list[Any] = [ranker]
        for name in names:
            row.append(report.get(name, ""))
            if name == "auc":
                ends = report.get("intervals", {}).get("auc")
                row.append("" if ends is None else interval(ends))
        rows.append(row)
    counts = f"{result['split']}, {number_of(result['users'], 'user')}, {number_of(result['rows'], 'row')}"
    print_table(f"{data}: {result['label']}, {counts}", header, rows)


def told(result: dict[str, Any]) -> None:
    """The protocol of the numbers, in one line."""
    targets = "all events" if result["split_targets"] == "all" else "one event a user"
    parts = [f"split {result['split_kind']}", targets, f"fitted on {_COUNTED[result['counts']]}"]
    if result.get("unknown_rows"):
        parts.append(f"{number_of(result['unknown_rows'], 'row')} of unknown users or items left out")
    for name, report in result["baselines"].items():
        if report.get("chosen"):
            values = ", ".join(f"{key} {value:g}" for key, value in report["chosen"].items())
            parts.append(f"{name}: {values}")
    parts += [f"no {name}: {why}" for name, why in result["baselines_left_out"].items()]
    say("; ".join(parts))
