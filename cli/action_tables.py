"""What `lrm evaluate` prints of predicted actions."""

from __future__ import annotations

from typing import Any

from behavior.wording import number_of
from cli.console import print_table
from cli.floor_tables import interval
from models.evaluation.actions.names import METRICS

_OF_SLICES = ("auc", "log_loss", "normalized_entropy", "calibration", "rmse")


def print_actions(run: str, result: dict[str, Any]) -> None:
    """Metrics of each label, with confidence intervals; then by activity of users and popularity of items.

    Args:
        run: what predicted.
        result: the report of `models.evaluation.actions.report.ActionEvaluation`.
    """
    labels = result.get("labels") or {result["label"]: result}
    refitted = " (refitted)" if result.get("trained_on", "train") != "train" else ""
    counts = f"{result['split']}, {number_of(result['users'], 'user')}, {number_of(result['rows'], 'row')}"
    title = f"{run}: {result['model']}{refitted}, {counts}"
    names = [name for name in METRICS if any(name in found for found in labels.values())]
    header, rows = [""], [[name] for name in ("rows", "positives", *names)]
    for label, found in labels.items():
        ends = found.get("intervals")
        header += [label, *(["95 %"] if ends else [])]
        for row in rows:
            name = row[0]
            row.append(found.get(name, ""))
            if ends:
                row.append(interval(ends[name]) if name in ends else "")
    print_table(title, header, [row for row in rows if any(cell != "" for cell in row[1:])])
    if "retrieval" in result:
        beside = result["retrieval"]
        shown = [name for name in beside if name.startswith(("ndcg@", "hr@"))]
        print_table(
            "retrieval by the same backbone, all items ranked", shown, [[beside[name] for name in shown]]
        )
    for label, found in labels.items():
        for attribute, slices in found.get("breakdown", {}).items():
            of = f" of {label}" if len(labels) > 1 else ""
            shown = [name for name in _OF_SLICES if any(name in each for each in slices.values())]
            print_table(
                f"by {attribute}{of}",
                ["", "rows", *shown],
                [
                    [part, each["rows"], *(each.get(name, "") for name in shown)]
                    for part, each in slices.items()
                ],
            )
