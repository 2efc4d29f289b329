"""A log with one planted structure, and what can be known of each user's last target."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import yaml
from numpy.typing import NDArray

from behavior.errors import UserError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PlantedLog:
    """Events of users one after the other, each user's in order; there are no times.

    Leave one out: the last event of the target behavior is each user's test target.
    """

    name: str
    events: pa.Table
    """user int64, item string, value where events have one, and where there are several behavior and domain,
    strings."""
    target: Ints
    """[users] the item of the test target, a column of `chance`."""
    chance: Floats
    """[users, candidates] probability of each item to be that of the test target, given the process and all
    events before it; candidates are all items, or those of the target's domain."""
    items: pa.Table | None = None
    """item string and its features; None: there are none."""
    spec: dict[str, Any] = field(default_factory=dict)
    """What the spec says besides where events are."""

    def best_hr(self, k: int) -> float:
        """Expected HR@k of the best ranker, which orders items by `chance`: the mean sum of the k largest."""
        return float(np.sort(self.chance, axis=1)[:, -k:].sum(1).mean())

    def write(self, folder: str | Path) -> Path:
        """Write `events.csv`, `items.csv` and `spec.yaml`; returns the path of the spec.

        Raises:
            UserError: the folder holds other files already, or cannot be written.
        """
        folder = Path(folder)
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"the folder '{folder}' is not empty", fix="name a new folder, or empty this one")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pacsv.write_csv(self.events, folder / "events.csv")
            if self.items is not None:
                pacsv.write_csv(self.items, folder / "items.csv")
            path = folder / "spec.yaml"
            path.write_text(yaml.safe_dump(self._whole_spec(), sort_keys=False), encoding="utf-8")
        except OSError as error:
            raise UserError(f"the log cannot be written: {error}", where=str(folder)) from error
        return path

    def _whole_spec(self) -> dict[str, Any]:
        names = self.events.column_names
        columns = {name: name for name in ("user", "item", "value", "domain") if name in names}
        behavior = {"column": "behavior"} if "behavior" in names else "buy"
        return {
            "name": f"planted-{self.name}",
            "description": f"a generated log with one planted structure: {self.name}",
            "events": {"files": "events.csv", "columns": columns, "behavior": behavior},
            "timestamp_unit": "none",
            "id_types": {"user": "integer"},
            **self.spec,
            "split": {"kind": "leave_one_out"},
        }


def item_names(count: int, prefix: str = "item") -> NDArray[np.str_]:
    """[count] ids such as `item-0042`."""
    return np.array([f"{prefix}-{number:04d}" for number in range(count)])


def events_of(item: NDArray[np.str_], **columns: NDArray[np.str_]) -> pa.Table:
    """The table of events, [users, events of each] names of items and of whatever else."""
    users, length = item.shape
    flat = {name: pa.array(values.ravel()) for name, values in {"item": item, **columns}.items()}
    return pa.table({"user": pa.array(np.repeat(np.arange(users), length)), **flat})


def mixed(sure: Ints, share: float, candidates: int) -> Floats:
    """[users, candidates] chances where one item is certain but for a share of items drawn evenly."""
    chance = np.full((len(sure), candidates), share / candidates)
    chance[np.arange(len(sure)), sure] += 1.0 - share
    return chance
