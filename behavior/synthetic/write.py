"""Write a synthetic log the way logs come: gzipped CSV in order of time, tables of features, and the spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import yaml

from behavior.errors import UserError
from behavior.synthetic.config import SyntheticConfig


def write_log(
    config: SyntheticConfig,
    events: pa.Table,
    items: pa.Table,
    users: pa.Table,
    folder: Path,
    event_files: int,
) -> Path:
    """See `SyntheticLog.write`, whose fields these are."""
    if event_files < 1:
        raise UserError(f"{event_files} event files cannot hold a log", fix="use at least 1")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"the folder '{folder}' is not empty", fix="name a new folder, or empty this one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_events(events, folder, event_files)
        tags = pc.binary_join(items["tags"], "|")
        items = items.set_column(items.schema.get_field_index("tags"), "tags", tags)
        pacsv.write_csv(items, folder / "items.csv")
        pacsv.write_csv(users, folder / "users.csv")
        path = folder / "spec.yaml"
        path.write_text(
            yaml.safe_dump(spec_of(config), sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
    except OSError as error:
        raise UserError(f"the log cannot be written: {error}", where=str(folder)) from error
    return path


def _write_events(events: pa.Table, folder: Path, files: int) -> None:
    """All users' events by time; the sort is stable, so a user's ties stay in order, across files too."""
    order = np.argsort(events["timestamp"].to_numpy(), kind="stable")
    width = len(str(files))
    for number, rows in enumerate(np.array_split(order, files), start=1):
        path = folder / f"events-{number:0{width}d}.csv.gz"
        with pa.CompressedOutputStream(str(path), "gzip") as stream:
            pacsv.write_csv(events.take(pa.array(rows)), stream)


def spec_of(config: SyntheticConfig) -> dict[str, Any]:
    """The dataset spec of the files that `write_log` writes, as plain values."""
    columns = {"user": "user", "item": "item", "timestamp": "timestamp"}
    domains = {}
    if config.domains > 1:
        columns["domain"] = "domain"
        domains = {"domains": [f"domain-{d + 1}" for d in range(config.domains)]}
    return {
        "name": "synthetic",
        "description": f"a synthetic log with planted structure, seed {config.seed}",
        "events": [{"files": ["events-*.csv.gz"], "columns": columns, "behavior": {"column": "behavior"}}],
        "timestamp_unit": "s",
        "behaviors": list(config.behaviors),
        "targets": [config.target],
        **domains,
        "id_types": {"user": "integer"},
        "items": {
            "files": ["items.csv"],
            "id": "item",
            "features": [
                {"name": "category"},
                {"name": "tags", "kind": "multi_categorical", "separator": "|"},
                {"name": "price", "kind": "numeric"},
            ],
        },
        "users": {"files": ["users.csv"], "id": "user", "features": [{"name": "segment"}]},
        "split": {"kind": "leave_one_out"},
    }
