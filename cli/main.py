"""`lrm`: the command, and its ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from behavior.errors import UserError
from behavior.runtime.cores import THREADS, limit_threads
from behavior.runtime.versions import NOT_INSTALLED, OWN, installed_version
from cli import (
    ablate,
    doctor,
    embed,
    evaluate,
    export,
    inspect,
    prepare,
    recipes,
    recommend,
    report,
    scale,
    similar,
    train,
)
from cli import data as data_command
from cli import demo as demo_command
from cli.console import not_printed, print_error, print_interrupted, print_trace, say
from cli.endings import FIXABLE, INTERRUPTED, MISUSE, told, wants_json
from cli.evaluate_command import EvaluateCommand
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
    epilog="Exit codes: 0 success, 1 an error that you can fix, 2 a wrong command line, 130 interrupted.",
)

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
app.command("recipes")(recipes.recipes)
app.command("evaluate", cls=EvaluateCommand)(evaluate.evaluate)
app.command("recommend", context_settings={"allow_extra_args": True})(recommend.recommend)
app.command("similar")(similar.similar)
app.command("embed")(embed.embed)
app.command("export")(export.export)
app.command("ablate")(ablate.ablate)
app.command("scale")(scale.scale)
app.command("report")(report.report)
app.command("demo")(demo_command.demo)
app.command("doctor", context_settings={"allow_extra_args": True})(doctor.doctor)
app.add_typer(data_command.app, name="data")


def main() -> NoReturn:
    """Run `lrm`; exit with 0 (success), 1 (an error that users can fix), 2 (usage), 130 (interrupted)."""
    try:
        code = app(prog_name="lrm", standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (UserError, OSError, MISUSE) as error:
        if _state["debug"] and not isinstance(error, MISUSE):
            raise
        code = told(error)
    if code == INTERRUPTED:
        print_interrupted(take_advice(), INTERRUPTED, json=wants_json())
    sys.exit(code or 0)


def _is_stuck() -> bool:
    """Whether a GPU still waits for a training process that is gone."""
    module = sys.modules.get("models.distributed.torch_processes")
    return module is not None and module.TorchProcesses.stuck


def command() -> NoReturn:
    """The command `lrm`: `main`, and an end without taking Python and torch apart, which takes seconds."""
    sys.excepthook = print_trace
    prepare.begin_early(sys.argv[1:])
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):  # letters that its encoding lacks are escaped, as in errors
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    code = _flushed(code)
    job_servers = sys.modules.get("pipelines.job_servers")
    if job_servers is not None:  # those that Beam has started would go on
        job_servers.end_started()
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process after its exit functions, or in Python's own way, which waits for threads at work.

    After Ctrl-C compiled code may still run in threads, which Python would wait for or stumble over; and
    threads that Beam keeps make every end take a third of a second, and a stuck GPU keeps its own for good:
    those ends wait for nothing.
    """
    if code != INTERRUPTED and "apache_beam" not in sys.modules and not _is_stuck():
        if any(
            thread is not threading.current_thread() and not thread.daemon for thread in threading.enumerate()
        ):
            sys.exit(code)
        atexit._run_exitfuncs()
        code = _flushed(code)
    os._exit(code)


def _flushed(code: int) -> int:
    """The exit code; another one where what was printed has not arrived."""
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (Python would try again)
        code = code or FIXABLE
        if not isinstance(error, BrokenPipeError):
            print_error(not_printed(error))
    with suppress(OSError):
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    command()
