"""What is chosen by name, and may be registered by a program of the user's: how that is told."""

from __future__ import annotations

from collections.abc import Iterable

from behavior.config import BadValueError, did_you_mean
from behavior.errors import UserError


def unknown_name(what: str, name: str, known: Iterable[str], register: str, *, where: str) -> UserError:
    """The error of a name that nothing is registered by.

    Args:
        what: what the name is of: task, layout.
        name: as the settings have it.
        known: the names that there are.
        register: what registers one.
        where: the setting.
    """
    return UserError(f"there is no {what} '{name}'", where=where, fix=_advice(what, name, known, register))


def bad_name(what: str, name: str, known: Iterable[str], register: str) -> BadValueError:
    """The same for the validator of a setting, which knows its place."""
    return BadValueError(f"there is no {what} '{name}'", fix=_advice(what, name, known, register))


def _advice(what: str, name: str, known: Iterable[str], register: str) -> str:
    return (
        f"{did_you_mean(name, known)} A {what} of your own: {register} before settings are read, in the "
        "program that calls models.train and models.evaluate (lrm does not know it)"
    )
