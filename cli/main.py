"""`lrm`: the command, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from behavior.cores import THREADS, limit_threads
from behavior.errors import UserError
from behavior.versions import NOT_INSTALLED, OWN, installed_version
from cli import ablate, doctor, evaluate, inspect, prepare, train
from cli import data as data_command
from cli import demo as demo_command
from cli.console import print_error, print_interrupted, print_trace, say
from cli.interrupted import take_advice


class _Commands(TyperGroup):
    """`lrm` and its subcommands; an `EOFError` is an error, where typer takes it for the user's own end."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise UserError(
                f"a file ends too early: {error or 'nothing more to read'}",
                fix="--debug shows the stack trace",
            ) from error


app = typer.Typer(
    name="lrm",
    cls=_Commands,
    help="Large recommendation models: raw behavior logs to training shards, models and rankings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 an error that you can fix, 2 wrong usage.",
)

_INTERRUPTED = 130  # the exit code of shells for a command ended by Ctrl-C
_state = {"debug": False}


def _version(show: bool) -> None:
    if show:
        say(f"{OWN} {installed_version() or NOT_INSTALLED}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            envvar=THREADS,
            help="Threads to compute with; default: one a free core.",
        ),
    ] = None,
) -> None:
    _state["debug"] = debug
    if threads is not None:
        os.environ[THREADS] = str(threads)
    limit_threads(os.environ)


app.command("inspect")(inspect.inspect)
app.command("prepare", context_settings={"allow_extra_args": True})(prepare.prepare)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("ablate")(ablate.ablate)
app.command("demo")(demo_command.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(data_command.app, name="data")


def main() -> None:
    """Run `lrm`; exit with 0 (success), 1 (an error that users can fix), 2 (usage), 130 (interrupted)."""
    try:
        app()
    except (UserError, OSError) as error:
        if _state["debug"]:
            raise
        print_error(error if isinstance(error, UserError) else _explained(error))
        sys.exit(1)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # typer makes this of Ctrl-C
            _interrupted()
        raise


def _explained(error: OSError) -> UserError:
    where = str(error.filename) if error.filename else None
    return UserError(error.strerror or str(error), where=where, fix="--debug shows the stack trace")


def _interrupted() -> NoReturn:
    print_interrupted(take_advice())
    sys.exit(_INTERRUPTED)


def command() -> NoReturn:
    """The command `lrm`: `main`, and an end without Python's way out where that would not do.

    After Ctrl-C compiled code may still run in threads, which Python would wait for or stumble over; and
    threads that Beam keeps make every end take a third of a second.
    """
    sys.excepthook = print_trace
    if isinstance(sys.stdout, TextIOWrapper):  # letters that its encoding lacks are escaped, as in errors
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        code: object = 0
    except SystemExit as end:
        code = end.code if end.code is not None else 0
    sys.stdout.flush()
    sys.stderr.flush()
    if isinstance(code, int) and (code == _INTERRUPTED or "apache_beam" in sys.modules):
        os._exit(code)
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    command()
