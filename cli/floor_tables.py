"""What `lrm evaluate` prints of floors, and of repeat and explore targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from behavior.wording import number_of
from cli.console import print_table, say

_COUNTED = {"train": "the training parts", "train+valid": "training and validation parts"}


def print_floors(data: str, result: dict[str, Any]) -> None:
    """Baselines of a data set alone, a line each: means over users, with confidence intervals."""
    floors = list(result["baselines"].values())
    names = [name for name in metrics_of(floors[0]) if not name.startswith("mrr@")]
    first = set(_of_first_cutoff(floors[0]))
    header = [""]
    for name in names:
        header += [name, *(["95 %"] if name in first and "intervals" in floors[0] else [])]
    rows = []
    for floor in floors:
        row = [floor["model"]]
        for name in names:
            row += [floor[name]]
            row += [interval(floor["intervals"][name])] if name in first and "intervals" in floor else []
        rows.append([*row, floor["oov_targets"], floor["excluded_targets"]])
    counts = (
        f"{result['split']}, {number_of(result['users'], 'user')}, {number_of(result['targets'], 'target')}"
    )
    print_table(f"{data}: {counts}", [*header, "unknown", "excluded"], rows)


def print_below_floors(result: dict[str, Any]) -> None:
    """That counting alone ranks better than the model, where it does."""
    for below in result.get("below_floors", []):
        parts = []
        for name, row in below["metrics"].items():
            overlap = row.get("intervals_overlap")
            about = "" if overlap is None else f", intervals {'overlap' if overlap else 'are apart'}"
            numbers = f"{row['ours']:.4f} against {row['floor']:.4f}"
            parts.append(f"{name} {numbers} ({row['difference']:+.4f}{about})")
        say(f"below the floor '{below['floor']}': {'; '.join(parts)}", style="yellow")


def print_repeats(result: dict[str, Any]) -> None:
    """Metrics of repeat and explore targets apart: a line each, or with several rankers a line a ranker."""
    rankers = [*([result] if "repeats" in result else []), *result.get("baselines", {}).values()]
    if not rankers:
        return
    names = _of_first_cutoff(rankers[0])
    parts = {name: part["targets"] for name, part in rankers[0]["repeats"].items() if part["targets"]}
    counts = ", ".join(f"{targets:,} {part}" for part, targets in parts.items())
    if len(rankers) == 1:
        header = ["", "targets", *names]
        rows = [
            [part, n, *(rankers[0]["repeats"][part][name] for name in names)] for part, n in parts.items()
        ]
    else:
        cells = [(part, name) for part in ("repeat", "explore") if part in parts for name in names]
        header = ["", *(f"{part} {name}" for part, name in cells)]
        rows = [[each["model"], *(each["repeats"][part][name] for part, name in cells)] for each in rankers]
    print_table(f"targets in the user's history (repeat) or not (explore): {counts}", header, rows)


def chosen(result: dict[str, Any]) -> list[str]:
    """What baselines have counted, what validation chose for them, and which ones are left out."""
    floors = result.get("baselines", {})
    parts = [
        f"baselines have counted {_COUNTED[counts]}" for counts in {f["counts"] for f in floors.values()}
    ]
    for name, floor in floors.items():
        if "chosen" in floor:
            values = ", ".join(f"{key} {value:g}" for key, value in floor["chosen"].items())
            parts.append(f"{name}: {values} (by {floor['chosen_on']})")
    return parts + [f"no {name}: {why}" for name, why in result.get("baselines_left_out", {}).items()]


def metrics_of(result: dict[str, Any]) -> list[str]:
    """The names of metrics; those of retrieval have a cutoff."""
    return [name for name in result if "@" in name] or [
        name for name, value in result.items() if isinstance(value, float)
    ]


def _of_first_cutoff(result: dict[str, Any]) -> list[str]:
    """HR and NDCG at the first cutoff."""
    return [next(name for name in result if name.startswith(kind)) for kind in ("hr@", "ndcg@")]


def interval(ends: Sequence[float], sign: str = "") -> str:
    """The ends of an interval."""
    low, high = ends
    return f"{low:{sign}.4f} to {high:{sign}.4f}"
