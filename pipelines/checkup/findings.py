"""What is wrong with workers, beside the machine that starts the job; each with its remedy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from behavior.errors import UserError
from behavior.runtime.versions import OWN
from pipelines.checkup.facts import KEPT, NOT_KEPT, SAME, Facts

_ALIKE = (OWN, "apache-beam")
"""Packages of which another version does not do."""


@dataclass(frozen=True)
class Finding:
    """One thing.

    Attributes:
        what: it is.
        where: which workers, or what of theirs.
        fix: what to do about it.
        wrong: jobs fail of it; otherwise it is only to be known.
    """

    what: str
    where: str
    fix: str
    wrong: bool = True

    def error(self) -> UserError:
        """As an error."""
        return UserError(self.what, where=self.where or None, fix=self.fix)


def compare(here: Facts, workers: Sequence[Facts]) -> list[Finding]:
    """What workers lack, or have otherwise than this machine: what is wrong first."""
    found: dict[Finding, list[str]] = defaultdict(list)
    for worker in workers:
        for finding in _of_one(here, worker):
            found[finding].append(worker.host)
    told = [
        Finding(one.what, one.where or f"workers on {', '.join(sorted(set(hosts)))}", one.fix, one.wrong)
        for one, hosts in found.items()
    ]
    return sorted([*told, *_pools(workers)], key=lambda finding: not finding.wrong)


def _of_one(here: Facts, worker: Facts) -> Iterator[Finding]:
    if worker.python.split(".")[:2] != here.python.split(".")[:2]:
        yield Finding(
            f"workers have Python {worker.python}, this machine {here.python}",
            "",
            "use the same minor version on both: functions travel as code of one",
        )
    for name in SAME:
        yield from _version(name, here, worker)
    if here.code != worker.code and here.versions[OWN] == worker.versions.get(OWN):
        yield Finding(
            f"workers have other files of {OWN} than this machine, under the same version",
            "",
            "build and install it anew on both, unless you know that the difference does not matter",
            wrong=False,
        )
    if worker.compiled == NOT_KEPT:
        yield Finding(
            "workers cannot keep compiled code: each process compiles it anew, for up to half a minute",
            "",
            "set NUMBA_CACHE_DIR for workers, to a folder that they can write to",
            wrong=False,
        )
    elif worker.compiled != KEPT:
        yield Finding(
            f"Numba does not work there: {worker.compiled}",
            "",
            "install numba and llvmlite anew where workers run, for their processor",
        )
    for place in worker.places:
        if place.problem:
            cannot = f"a worker cannot {place.use} '{place.path}': {place.problem}"
            yield Finding(cannot, "--out" if place.use == "write" else "--input", place.fix)


def _version(name: str, here: Facts, worker: Facts) -> Iterator[Finding]:
    ours, theirs = here.versions.get(name), worker.versions.get(name)
    if ours == theirs:
        return
    said = f"workers have {name} {theirs}" if theirs else f"workers have no installed {name}"
    yield Finding(
        f"{said}, this machine {ours or 'none that is installed'}",
        "",
        f"install {name}=={ours} where workers run, or use an image that has it"
        if ours
        else "use the same version on both",
        wrong=name in _ALIKE or not theirs,
    )


def _pools(workers: Sequence[Facts]) -> Iterator[Finding]:
    """Worker pools that several task managers share: each names its workers as the others do."""
    seen: dict[tuple[str, str], set[int]] = defaultdict(set)
    for worker in workers:
        if worker.pool and worker.worker:
            seen[worker.pool, worker.worker].add(worker.pid)
    shared = sorted({pool for (pool, _), processes in seen.items() if len(processes) > 1})
    for pool in shared:
        yield Finding(
            "several task managers share one worker pool: they give their workers the same names, and when "
            "one is done with its own, the pool ends another's, whose job then stands still",
            f"worker pool {pool} (host:process)",
            "start a pool for each task manager, in its own container, or on one machine with ports of their "
            "own and a Flink configuration each; or use --environment_type=PROCESS",
        )
