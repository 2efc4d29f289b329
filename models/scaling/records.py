"""What the JSON of a grid and its runs may be; what does not follow it is a user's error, with its file."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import Field

from models.experiments.results import RunRecord
from models.runs.files import read_file
from models.runs.records import Count, check_record, parse_json
from models.scaling.grid import Size

Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Record(pydantic.BaseModel):
    """What else stands in a file is of a later version."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class ParameterCounts(Record):
    """Of `summary.json`."""

    embedding: Count
    backbone: Count
    other: Count
    total: Count


class Summary(Record):
    """`summary.json` of a run, as far as points are made of it; `models.training.summary` writes it."""

    backbone: str
    data: str | None
    blocks: Count
    width: Count
    length: Count
    seed: Count
    learning_rate: Amount
    data_fraction: Amount
    data_by: str
    unique_events: Count
    parameters: ParameterCounts
    best_epoch: Count | None
    seconds: Amount
    gpu_seconds: Amount
    gpu_joules: Amount | None
    device: str


class ValidationLine(pydantic.BaseModel):
    """A line of `metrics.jsonl` of the kind `valid`; what else it has are metrics by name."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    step: Count
    epoch: Count
    tokens: Amount | None = None
    flops: Amount | None = None
    minutes: Amount | None = None
    log_loss: Number | None = None


class Result(Record):
    """A file of `results/`."""

    record: RunRecord
    size: Size
    rate: Amount | None
    searches: bool
    run: str
    wall_seconds: Amount = 0.0
    sharing: int = 1
    pid: int | None = None
    dataset: str | None = None
    """Digest of the data set; None in those of earlier versions."""


class FailureRecord(Record):
    """A file of `failures/`."""

    size: Size
    rate: Amount | None
    error: str
    trace: str = ""
    when: str


class CrowdedRecord(Record):
    """A file of `crowded/`."""

    size: Size
    rate: Amount | None
    at_once: Annotated[int, Field(ge=1)]
    """Runs of the folder that may go on at one time while this one does, itself included."""
    when: str


class Call(Record):
    """A file of `calls/`."""

    command: list[str]
    when: str
    host: str
    system: str
    processor: str
    cores: int | None
    gpus: list[str]
    python: str
    torch: str
    version: str


RecordT = TypeVar("RecordT", bound=pydantic.BaseModel)


def read_record(cls: type[RecordT], path: Path, what: str, fix: str) -> RecordT | None:
    """A file; None where there is none.

    Raises:
        UserError: it does not follow its schema.
    """
    content = read_file(path)
    if content is None:
        return None
    return as_record(cls, parse_json(content, what, where=str(path), fix=fix), what, str(path), fix)


def as_record(cls: type[RecordT], found: Any, what: str, where: str, fix: str) -> RecordT:
    """Plain values as a record; see `read_record`."""
    return check_record(cls, found, what, where=where, fix=fix)


def read_all(
    cls: type[RecordT], folder: Path, what: str, *, known: Container[str] = ()
) -> dict[str, RecordT]:
    """Every JSON file of a folder by its name, those that others are about to write left out.

    Args:
        cls: of records.
        folder: it.
        what: a file holds, for the error.
        known: names of files that are not read again.

    Raises:
        UserError: one of them is damaged.
    """
    fix = "bring it back from a copy, or remove it"
    paths = [path for path in sorted(folder.glob("*.json")) if path.stem not in known]
    found = {path.stem: read_record(cls, path, what, fix) for path in paths}
    return {name: record for name, record in found.items() if record is not None}
