"""What is said of a data set whose files do not fit each other, though their checksums are right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pydantic

from behavior.errors import UserError
from behavior.problems import first_problem

PREPARE_AGAIN = "prepare the data again with --overwrite"

Model = TypeVar("Model", bound=pydantic.BaseModel)


def damaged(of: str, what: str, where: str) -> UserError:
    """The one error for a file of a data set that holds what it cannot hold.

    Args:
        of: what the file has, in the plural: `sequences`, `items`.
        what: is wrong.
        where: the file.
    """
    return UserError(f"the {of} are damaged: {what}", where=where, fix=PREPARE_AGAIN)


@contextmanager
def decoding(of: str, where: str) -> Iterator[None]:
    """Tell the errors of pyarrow, for a file whose checksum is right, as those of a damaged file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise damaged(of, f"the file cannot be read: {reason[:200]}", where) from error


def parse_json(data: bytes | str) -> Any:
    """Any JSON.

    Raises:
        ValueError: it is none, no UTF-8, or nested deeper than anything that this program writes; `NaN` and
            `Infinity`, which Python takes for JSON, are none.
    """
    try:
        return json.loads(data, parse_constant=_refused)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def check_json(data: Any, schema: type[Model], of: str, where: str) -> Model:
    """Check plain values against their schema.

    Raises:
        UserError: the first field that is missing or of another type.
    """
    try:
        return schema.model_validate(data)
    except pydantic.ValidationError as error:
        raise damaged(of, first_problem(error), where) from None
