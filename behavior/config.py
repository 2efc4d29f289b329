"""Configuration: pydantic models that are read from YAML, and errors that name the nearest known key."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pydantic
import yaml

from behavior.errors import UsageError, UserError
from behavior.files import check_regular
from behavior.keys import key_path, known_keys, places_of
from behavior.problems import in_words


class Unused(NamedTuple):
    """Settings that change nothing as another one stands."""

    names: Sequence[str]
    """Of a section within: `negatives.count`."""
    why: str
    """How the other one stands: `jumps is none`."""
    fix: str
    """What would make them count: `set jumps to learned`."""


class Config(pydantic.BaseModel):
    """Base of every configuration model: unknown keys are errors, values cannot change afterwards."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    def unused(self) -> Iterable[Unused]:
        """Its settings that change nothing as others of them stand, whether they were set or not."""
        return ()


def meaning_of(model: type[pydantic.BaseModel], name: str) -> str:
    """What a field means: its description, or the docstring after it; empty where it has neither.

    pydantic can read these docstrings itself, for all models at every start: a tenth of a second that only
    documentation needs.
    """
    told = model.model_fields[name].description
    for owner in model.__mro__ if told is None else ():
        if issubclass(owner, pydantic.BaseModel) and name in vars(owner).get("__annotations__", ()):
            return _docstrings(owner).get(name, "")
    return told or ""


@cache
def _docstrings(model: type[pydantic.BaseModel]) -> dict[str, str]:
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, after in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[field.target.id] = inspect.cleandoc(text.value)
    return found


def unused_settings(config: Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings, in all sections, that have another value than their default and change nothing.

    Yields:
        Each one's dotted key, and in words why it changes nothing and what to do.
    """
    for name in type(config).model_fields:
        inner = getattr(config, name)
        if isinstance(inner, Config):
            yield from unused_settings(inner, f"{prefix}{name}.")
    for names, why, fix in config.unused():
        for name in names:
            value, default = _value(config, name)
            if value != default:
                yield prefix + name, f"{name} is {_shown(value)}, and {why}: {fix}, or leave {name} out"


def _value(config: Config, name: str) -> tuple[Any, Any]:
    """What a setting is, of a section within too, and its default."""
    *sections, last = name.split(".")
    for section in sections:
        config = getattr(config, section)
    return getattr(config, last), type(config).model_fields[last].get_default(call_default_factory=True)


def _shown(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("\n").removesuffix("\n...")


ConfigT = TypeVar("ConfigT", bound=Config)


class BadValueError(ValueError):
    """What a validator raises that can advise: `fix` becomes that of the `UserError`."""

    def __init__(self, what: str, *, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


_FEW = 3
"""Sections that have a key: of more it cannot be guessed which one is meant."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, or None where nothing is close.

    A name that begins as the other does comes first (`dimension`: `dim`), then one with few letters changed.
    """
    text, names = str(name), list(known)
    begun = [other for other in names if _begins_alike(text.lower(), other.lower())]
    if begun:
        return difflib.get_close_matches(text, begun, n=1, cutoff=0.0)[0]
    matches = difflib.get_close_matches(text, names, n=1, cutoff=0.6)
    return matches[0] if matches else None


def _begins_alike(one: str, other: str) -> bool:
    return min(len(one), len(other)) >= 3 and (one.startswith(other) or other.startswith(one))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Advice for an unknown name: the nearest known one, else the whole list."""
    names = list(known)
    close = nearest(name, names)
    return f"did you mean '{close}'?" if close else f"known: {', '.join(sorted(names))}."


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        UserError: the file is missing, is not YAML, or does not hold a mapping.
    """
    path = Path(path)
    try:
        check_regular(path)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"there is no file '{path}'", fix="check the path") from None
    except IsADirectoryError:
        raise UserError(f"'{path}' is a folder, not a YAML file", fix="name the file") from None
    except UnicodeDecodeError:
        raise UserError(
            f"'{path}' is not a text file",
            fix="name a YAML file; 'lrm inspect FILE --save spec.yaml' makes a spec",
        ) from None
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}", fix="check the path") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise UserError(f"this is not YAML: {getattr(error, 'problem', error)}", where=where) from None
    except (ValueError, RecursionError) as error:  # 2024-13-01 looks like a date and is none
        raise UserError(f"this is not YAML: {error}", where=str(path)) from None
    if not isinstance(data, dict):
        raise UserError("a mapping of keys to values was expected", where=str(path))
    return data


def parse_config(
    cls: type[ConfigT], data: Mapping[str, Any], *, where: str | Callable[[str], str]
) -> ConfigT:
    """Check `data` against a configuration model.

    Args:
        cls: the model.
        data: plain values, as YAML gives them.
        where: the file or flag the values come from, for the error; or what tells it of a key such as
            `train.epochs` (empty where several keys do not fit together).

    Raises:
        UserError: the first thing that is wrong; an unknown key comes with the nearest known one.
    """
    try:
        return cls.model_validate(data)
    except pydantic.ValidationError as error:
        problems = error.errors()
        # A misspelt key often makes another one missing: the misspelling is the better message.
        first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
        raise _as_user_error(cls, first, where) from None


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply `a.b=value` settings (values are YAML) to nested mappings; returns a changed copy.

    Raises:
        UsageError: a setting without `=`, or one that goes through something that is not a mapping.
    """
    result = dict(data)
    for setting in overrides:
        key, separator, text = setting.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"'{setting}' is not a setting", where="--set", fix="write key.key=value")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise UsageError(f"the value of '{setting}' is not YAML", where="--set") from None
        result = _with_value(result, key.strip().split("."), value, setting)
    return result


def _with_value(data: Mapping[str, Any], keys: list[str], value: Any, setting: str) -> dict[str, Any]:
    result = dict(data)
    if len(keys) == 1:
        result[keys[0]] = value
        return result
    inner = result.get(keys[0])
    if inner is None:
        inner = {}
    if not isinstance(inner, Mapping):
        raise UsageError(f"'{setting}': '{keys[0]}' is a value, not a section", where="--set")
    result[keys[0]] = _with_value(inner, keys[1:], value, setting)
    return result


def _as_user_error(cls: type[Config], problem: Any, place: str | Callable[[str], str]) -> UserError:
    location = list(problem["loc"])
    path = ".".join(str(part) for part in location)
    key = key_path(cls, location)
    where = place if isinstance(place, str) else place(key)
    if problem["type"] == "extra_forbidden":
        return UserError(f"unknown key '{path}'", where=where, fix=_key_meant(cls, location))
    if problem["type"] == "missing":
        return UserError(f"the key '{path}' is missing", where=where, fix="add it")
    message = in_words(problem)
    subject = f"'{key}': " if key else ""
    shown = problem.get("input")
    if problem["type"] == "string_type" and isinstance(shown, bool | int | float | date):
        return _not_text(key, shown, where)
    got = f" (got {shown!r})" if isinstance(shown, str | int | float | bool) else ""
    if location and shown is None and ":" in str(location[-1]):
        name, _, value = str(location[-1]).partition(":")
        return UserError(
            f"{subject}{message.removesuffix('.')}",
            where=where,
            fix=f"write a space after the colon: '{name}: {value}'; without it YAML reads a name alone",
        )
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, BadValueError):
        return UserError(f"{subject}{message}", where=where, fix=cause.fix)
    return UserError(f"{subject}{message.removesuffix('.')}{got}", where=where)


def _not_text(key: str, value: bool | int | float | date, where: str) -> UserError:
    """The error for what YAML takes for a number, a truth value or a date where a name is meant."""
    of_key = key.endswith(".[key]")
    key = key.removesuffix(".[key]").rpartition(".")[0] if of_key else key
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    what = f"'{key}': {'keys are' if of_key else 'this is'} text, and YAML reads "
    if isinstance(value, bool):
        what += f"this as {shown} (yes, no, on and off are truth values too)"
        return UserError(what, where=where, fix='write it in quotes, as in "no"')
    what += f"{shown} as {'a date' if isinstance(value, date) else 'a number'}"
    return UserError(what, where=where, fix=f'write it in quotes: "{shown}"')


def _key_meant(cls: type[Config], location: list[Any]) -> str:
    """Advice for an unknown key: the same key in another section, else the nearest one where it stands."""
    name, known = str(location[-1]), known_keys(cls, location[:-1])
    elsewhere = places_of(cls, name)
    if elsewhere and len(elsewhere) <= _FEW:
        return f"did you mean {' or '.join(repr(path) for path in elsewhere)}?"
    return did_you_mean(name, known)
