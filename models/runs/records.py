"""What the JSON of a run may be: one schema for each kind, and one error for what does not follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field

from behavior.errors import UserError
from behavior.problems import first_problem

RUN_FORMAT = "lrm-kit run"
RUN_FORMAT_VERSION = 1
CHECKPOINT_FORMAT = "lrm-kit checkpoint"
CHECKPOINT_FORMAT_VERSION = 2

Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]


class _Record(pydantic.BaseModel):
    # A newer minor writer may add keys; readers of the same format version ignore what they do not know.
    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class RunMark(_Record):
    """run.json, which marks a folder as a run."""

    format: Literal["lrm-kit run"] = "lrm-kit run"
    format_version: Count = RUN_FORMAT_VERSION
    data: str
    """The shard folder that the run was trained on, or its url."""
    dataset: dict[str, Any] = {}
    """What checkpoints remember of it, too."""
    init: str | None = None
    """The run whose weights this one began with."""
    refit: str | None = None
    """The run whose settings, and number of epochs, this one was trained anew with."""


class CheckpointHead(_Record):
    """What a checkpoint says in its metadata."""

    format: Literal["lrm-kit checkpoint"] = "lrm-kit checkpoint"
    format_version: Count = CHECKPOINT_FORMAT_VERSION
    config: dict[str, Any]
    dataset: dict[str, Any]
    progress: dict[str, Any]
    param_groups: list[dict[str, Any]] | None = None
    tensors: list[str] | None = None
    """Names of all tensors, sorted; None in checkpoints of before."""


class Position(_Record):
    """Where a training stood; every checkpoint's progress says so."""

    step: Count
    """Steps taken."""
    epoch: Count
    """Whole epochs done."""


class MetricsLine(pydantic.BaseModel):
    """A line of metrics.jsonl; what else it has are metrics by name."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    kind: Literal["train", "valid"]
    step: Count

    @pydantic.model_validator(mode="after")
    def _numbers_can_be_drawn(self) -> MetricsLine:
        for name, value in (self.model_extra or {}).items():
            if isinstance(value, int) and abs(value) >= 1 << 1000:
                raise ValueError(f"{name} is too large a number")
        return self


RecordT = TypeVar("RecordT", bound=pydantic.BaseModel)


def read_mark(content: bytes, path: Path) -> RunMark:
    """run.json.

    Raises:
        UserError: it is none, is damaged, or of a later format.
    """
    fix = "bring it back from a copy"
    found = parse_json(content, "run.json", where=str(path), fix=fix)
    if not isinstance(found, dict) or found.get("format") != RUN_FORMAT:
        raise UserError("this run.json is not one of lrm-kit", where=str(path), fix=fix)
    check_version(found, RUN_FORMAT_VERSION, "the run", where=str(path))
    return check_record(RunMark, found, "run.json", where=str(path), fix=fix)


def parse_json(text: bytes | str, what: str, *, where: str, fix: str) -> Any:
    """JSON, however deep or wrong.

    Raises:
        UserError: it is none; names `what` it was to be.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # bad UTF-8 and endless numbers are ValueErrors, too
        raise damaged(what, f"it is no JSON ({_short(error)})", where=where, fix=fix) from None


def check_version(found: dict[str, Any], known: int, what: str, *, where: str) -> None:
    """Check a `format_version`.

    Raises:
        UserError: it is another than the one known; one that is no number is left to the schema.
    """
    version = found.get("format_version")
    if not isinstance(version, int) or version == known:
        return
    newer = version > known
    raise UserError(
        f"{what} is of {'a newer' if newer else 'an older'} format: {version}; this program reads {known}",
        where=where,
        fix="update lrm-kit" if newer else "train again, or use the lrm-kit that made it",
    )


def check_record(cls: type[RecordT], found: Any, what: str, *, where: str, fix: str) -> RecordT:
    """Check plain values against a schema.

    Raises:
        UserError: they do not follow it; names the first thing that is wrong.
    """
    try:
        return cls.model_validate(found)
    except pydantic.ValidationError as error:
        raise damaged(what, first_problem(error), where=where, fix=fix) from None


def damaged(what: str, how: str, *, where: str, fix: str) -> UserError:
    """The error of everything in a run that is not as it was written."""
    return UserError(f"{what} is damaged: {how}", where=where, fix=fix)


def _short(error: Exception) -> str:
    return str(error)[:100]
