"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from itertools import takewhile

import typer

from behavior.errors import UsageError, UserError
from cli.console import print_error

FIXABLE, MISUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: what the user can put right; a wrong command line; ended by Ctrl-C, as shells have it."""

MISUSE: type[Exception] = typer.BadParameter.__mro__[2]
"""Typer's base of errors about flags and arguments, which it exports by no name of its own."""


def told(error: Exception) -> int:
    """Say an error, on standard output as JSON as well where the command was asked for JSON.

    Returns:
        The exit code.
    """
    if type(error).__name__ == "NoArgsIsHelpError":  # the help has been shown
        return MISUSED
    shown = error if isinstance(error, UserError) else _explained(error)
    code = MISUSED if isinstance(shown, UsageError) else FIXABLE
    print_error(shown, code, json=wants_json())
    return code


def wants_json() -> bool:
    """Whether the command line asks for JSON; it may be too wrong to be parsed."""
    return "--json" in takewhile(lambda word: word != "--", sys.argv[1:])


def _explained(error: Exception) -> UserError:
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename else None
        return UserError(error.strerror or str(error), where=where, fix="--debug shows the stack trace")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "lrm"
    message = str(getattr(error, "format_message", lambda: error)())
    return UsageError(message, where=command, fix=f"{command} --help shows how it is used")
