"""A grid in words: its plan, and what came of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from behavior.wording import number_of
from models.experiments.results import RunRecord
from models.scaling.grid import Size
from models.scaling.rates import Resolved
from models.scaling.records import CrowdedRecord
from models.scaling.store import Failure

HEADER = ("run", "rate", "backbone", "embedding", "FLOPs", "memory", "time", "")


def plan_rows(plan: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line a run, as `HEADER` names its columns."""
    return [
        (
            f"{row['label']}, seed {row['seed']}",
            _rate(row),
            *_numbers(row),
            row["status"],
        )
        for row in plan
    ]


def _numbers(row: dict[str, Any]) -> tuple[str, ...]:
    if row["flops"] is None:
        return ("?",) * 5
    return (
        f"{row['parameters_backbone']:,}",
        f"{row['parameters_embedding']:,}",
        f"{row['flops']:.2e}",
        f"{row['memory_bytes'] / 2**20:,.0f} MiB",
        f"{row['seconds']:,.0f} s",
    )


def _rate(row: dict[str, Any]) -> str:
    rate = row["learning_rate"]
    if rate is None:
        return "open" if row["status"] == "waits for a rate" else "recipe's"
    return f"{rate:g}{' tried' if row['searches'] else ''}"


def plan_lines(plan: Sequence[dict[str, Any]]) -> list[str]:
    """The plan as text, and what all of it takes."""
    rows = [HEADER, *plan_rows(plan)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [*lines, plan_total(plan)]


def plan_total(plan: Sequence[dict[str, Any]]) -> str:
    """How much is left in all."""
    left = [row for row in plan if row["status"] not in ("done", "failed")]
    seconds, flops = (sum(row[name] or 0.0 for row in left) for name in ("seconds", "flops"))
    time = f"{seconds / 60:,.1f} minutes one after the other"
    errors = list(dict.fromkeys(row["error"] for row in left if "error" in row))
    unknown = sum("error" in row for row in left)
    fails = f"; {unknown} will fail:\n" + "\n".join(errors) if errors else ""
    return f"{number_of(len(plan), 'run')}, {len(left)} left: {flops:.2e} FLOPs, {time}{fails}"


def result_line(found: RunRecord | Failure) -> str:
    """What came of a run."""
    if isinstance(found, Failure):
        return f"FAILED {found.label}: {found.error}"
    parts = {"valid": found.valid, "test": found.test}
    shown = [
        f"{split} {name.upper()} {metrics[name]:.4f}"
        for split, metrics in parts.items()
        for name in ("ndcg@10", "auc")
        if name in metrics
    ]
    about = f"epoch {found.best_epoch} of {found.epochs}, {found.minutes:.2f} min"
    return f"{found.line}, seed {found.seed}: {', '.join([*shown, about])}"


def crowded_lines(crowded: Mapping[str, CrowdedRecord]) -> list[str]:
    """Which runs ran out of memory beside others; a line each."""
    return [
        f"{each.size.label}: memory ran out beside other runs; run again with {each.at_once - 1} beside it"
        for each in crowded.values()
    ]


def edge_lines(resolved: Resolved) -> list[str]:
    """Which shapes have their best rate at an end of those that they tried; a line each."""
    return [
        f"{Size(*shape, None, 1.0, 0).label}: the best learning rate, {resolved.rates[shape]:g}, is the "
        "outermost that was tried"
        for shape in resolved.edges
        if shape in resolved.rates
    ]
