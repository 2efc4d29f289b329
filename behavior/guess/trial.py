"""A proposed spec is tried on the first rows, as `prepare` reads them, and mended where it can be."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from behavior.arrow.values import parse_text
from behavior.config import parse_config
from behavior.errors import UserError
from behavior.sources.chunks import Chunk
from behavior.sources.plan import plan_input
from behavior.sources.raw import RawBatch
from behavior.sources.read import read_chunk
from behavior.spec.dataset_spec import DatasetSpec
from behavior.steps.events import read_events

TRIAL_BYTES = 16 << 20
"""About so much of each group of files is read."""
TRIAL_ROWS = 1_000_000


@dataclass(frozen=True)
class Trial:
    """What reading with a spec came to.

    Attributes:
        read, rejected: rows.
        reasons: of the first rejected rows, with file and line.
        problem: what is wrong with the spec or the files, so that nothing was read; or None.
    """

    read: int = 0
    rejected: int = 0
    reasons: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def good(self) -> bool:
        """Whether `prepare` would take it, as far as was read."""
        return self.problem is None and self.read > 0 and self.rejected <= 0.01 * self.read

    @property
    def share(self) -> float:
        return 1.0 if self.problem is not None or not self.read else self.rejected / self.read


def try_spec(record: dict[str, Any], base: str) -> Trial:
    """Read the first rows of each group of files with a proposed spec.

    Args:
        record: the spec, as YAML has it.
        base: folder that its paths are relative to.
    """
    read, reasons, rejected = 0, [], 0
    try:
        spec = parse_config(DatasetSpec, record, where="proposed spec")
        plan = plan_input(spec, base, TRIAL_BYTES)
        for chunk in first_chunks(plan.chunks):
            rows = 0
            for batch in read_events(spec, plan, chunk, plan.names[chunk.path]):
                rows += batch.read
                rejected += len(batch.rejects)
                reasons += [f"{reject.where}: {reject.reason}" for reject in batch.rejects[:3]]
                if rows >= TRIAL_ROWS:
                    break
            read += rows
    except UserError as error:
        return Trial(problem=error.what)
    return Trial(read, rejected, tuple(reasons[:3]))


def first_chunks(chunks: list[Chunk]) -> Iterator[Chunk]:
    """The first and the last chunk of each group, since dates of one month may fit two forms."""
    for number in dict.fromkeys(chunk.source for chunk in chunks):
        own = [chunk for chunk in chunks if chunk.source == number]
        yield own[0]
        if len(own) > 1:
            yield own[-1]


def mended(record: dict[str, Any], base: str) -> tuple[dict[str, Any], Trial]:
    """The spec with those changes under which more rows can be read, and how its trial went."""
    trial = try_spec(record, base)
    for change in (_ids_as_text, _multiline, _without_value):
        if trial.good:
            break
        changed = change(copy.deepcopy(record))
        if changed == record:
            continue
        again = try_spec(changed, base)
        if again.share < trial.share:
            record, trial = changed, again
    return record, trial


def behaviors_of(source: dict[str, Any], base: str, column: str) -> list[str]:
    """The values of a column in the first rows, the most frequent first."""
    record = source | {"columns": {"user": column, "item": column}, "behavior": "x"}
    record.pop("timestamp_format", None)
    spec = parse_config(
        DatasetSpec, {"name": "x", "events": record, "timestamp_unit": "none"}, where="proposed spec"
    )
    plan = plan_input(spec, base, TRIAL_BYTES)
    counts: Counter[str] = Counter()
    for chunk in first_chunks(plan.chunks):
        for batch in _rows(spec, chunk, column):
            text, good = parse_text(batch.columns[column])
            counts.update(text.filter(pa.array(good)).to_pylist())
    return sorted(counts, key=lambda name: (-counts[name], name))


def _rows(spec: DatasetSpec, chunk: Chunk, column: str) -> Iterator[RawBatch]:
    rows = 0
    for batch in read_chunk(spec.events[0], chunk, [column]):
        yield batch
        rows += batch.num_rows
        if rows >= TRIAL_ROWS:
            return


def _sources(record: dict[str, Any]) -> list[dict[str, Any]]:
    return record["events"] if isinstance(record["events"], list) else [record["events"]]


def _ids_as_text(record: dict[str, Any]) -> dict[str, Any]:
    record.pop("id_types", None)
    return record


def _multiline(record: dict[str, Any]) -> dict[str, Any]:
    for source in _sources(record):
        if source["format"] == "csv" and len(source.get("separator", ",")) == 1:
            source["multiline"] = True
    return record


def _without_value(record: dict[str, Any]) -> dict[str, Any]:
    for source in _sources(record):
        source.get("columns", {}).pop("value", None)
    return record
