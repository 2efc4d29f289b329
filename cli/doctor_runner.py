"""`lrm doctor --runner`: what a runner's workers have, and lack, beside this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from behavior.runtime.versions import NOT_INSTALLED
from behavior.wording import number_of
from cli.console import err, note, print_json, print_table, say

if TYPE_CHECKING:
    from pipelines.checkup.facts import Facts
    from pipelines.checkup.run import CheckUp
    from pipelines.runner import RunnerOptions

_GIGABYTE = 1 << 30


def doctor_runner(runner: RunnerOptions, inputs: Sequence[str], out: str | None, *, json: bool) -> None:
    """Look at a runner's workers, and say what is there; exit with 1 where something is wrong.

    Args:
        runner: which.
        inputs, out: what workers are to read, and to write to.
        json: say it as JSON.
    """
    from pipelines.checkup.run import check_up

    limit = runner.seconds_to_answer
    with err.status(f"a job on {runner.name} looks around, for {limit:g} s at most"):
        found = check_up(runner, inputs, out)
    if json:
        print_json(asdict(found) | {"healthy": found.healthy})
    else:
        _show(found, runner.name)
    raise typer.Exit(0 if found.healthy else 1)


def _show(found: CheckUp, name: str) -> None:
    if found.workers:
        many = f"{_count(found.workers)} answered in {found.seconds:.0f} s"
        print_table(f"{name} ({found.engine}): {many}", ("", "this machine", "workers"), _rows(found))
    for finding in found.findings:
        note(
            f"{'wrong' if finding.wrong else 'note'}: {finding.what}",
            style="red" if finding.wrong else "yellow",
        )
        if finding.where:
            note(f"where: {finding.where}")
        note(f"to do: {finding.fix}")
    said = " ".join(f"{finding.where} {finding.fix}" for finding in found.findings)
    if found.page and found.page not in said:
        say(f"the engine's page of this job: {found.page}")
    if found.logs and not found.healthy and found.logs not in said:
        say(f"more in {found.logs}")
    if found.healthy:
        say("nothing is wrong", style="green")


def _count(workers: Sequence[Facts]) -> str:
    hosts = {worker.host for worker in workers}
    return f"{number_of(len(workers), 'process', 'processes')} on {number_of(len(hosts), 'machine')}"


def _rows(found: CheckUp) -> Iterable[tuple[str, str, str]]:
    from pipelines.checkup.facts import EXTRAS

    here, workers = found.here, found.workers

    def row(name: str, of: Callable[[Facts], str]) -> tuple[str, str, str]:
        return name, of(here), ", ".join(dict.fromkeys(of(worker) for worker in workers))

    yield row("Python", lambda facts: facts.python)
    for package in here.versions:
        if package in EXTRAS and not any(one.versions.get(package) for one in (here, *workers)):
            continue
        yield row(package, lambda facts, package=package: facts.versions.get(package) or NOT_INSTALLED)  # type: ignore[misc]
    yield row("cores", lambda facts: str(facts.cores))
    yield row("memory", lambda facts: f"{facts.memory / _GIGABYTE:.1f} GB")
    yield row("compiled code", lambda facts: facts.compiled)
    for place in workers[0].places:
        yield row(f"can {place.use} {place.path}", lambda facts, place=place: _seen(facts, place))  # type: ignore[misc]


def _seen(facts: Facts, asked: Any) -> str:
    for place in facts.places:
        if (place.path, place.use) == (asked.path, asked.use):
            return "no" if place.problem else "yes"
    return ""
