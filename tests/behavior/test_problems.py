"""Words for what pydantic finds wrong: the user's, never names of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pydantic
import pytest

from behavior.config import Config, parse_config
from behavior.errors import UserError
from behavior.problems import first_problem


class _Inner(Config):
    size: int = 1


class _Outer(Config):
    inner: _Inner = _Inner()
    counts: dict[str, int] = {}


@dataclass
class _Record:
    __pydantic_config__: ClassVar = pydantic.ConfigDict(extra="forbid")
    step: int = 0


@pytest.mark.parametrize(
    ("schema", "data", "said"),
    [
        (_Outer, [], "Input should be a mapping of keys to values"),
        (_Outer, {"inner": 3}, "inner: Input should be a mapping of keys to values"),
        (_Outer, {"counts": "x"}, "counts: Input should be a mapping of keys to values"),
        (_Outer, {"inner": {"sise": 1}}, "inner.sise: unknown key"),
        (_Outer, {"inner": {"size": "x"}}, "inner.size: Input should be a valid integer"),
        (_Record, [], "Input should be a mapping of keys to values"),
        (_Record, {"stop": 1}, "stop: unknown key"),
    ],
)
def test_the_first_problem(schema: type[Any], data: Any, said: str) -> None:
    with pytest.raises(pydantic.ValidationError) as error:
        pydantic.TypeAdapter(schema).validate_python(data)
    assert first_problem(error.value).startswith(said)
    assert schema.__name__ not in first_problem(error.value)


@pytest.mark.parametrize("value", [3, "x", [1], None])
def test_a_value_in_place_of_a_section(value: Any) -> None:
    with pytest.raises(UserError, match="'inner': Input should be a mapping of keys to values") as error:
        parse_config(_Outer, {"inner": value}, where="x.yaml")
    assert "_Inner" not in str(error.value)
