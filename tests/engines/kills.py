"""Which processes are killed when, and what came of it.

`LRM_ENGINE_KILLS` is how many on each engine; by default three in all.
"""

from __future__ import annotations

import os
import random
import signal
from dataclasses import asdict, dataclass
from typing import Any

import pytest

SIGNALS = {f"lrm ({name})": getattr(signal, name) for name in ("SIGKILL", "SIGTERM", "SIGINT")}
"""Of the process that has started the job."""
FATAL = {*SIGNALS, "job manager", "job server", "driver"}
"""Without these a job may end with an error; it outlives all others."""
_VICTIMS = {
    "flink": ["task manager", "lrm (SIGKILL)", "SDK worker", "job manager", "job server", "lrm (SIGTERM)"],
    "spark": ["SDK worker", "executor", "lrm (SIGKILL)", "driver", "worker machine", "lrm (SIGTERM)"],
}
_OFTEN = {"flink": 2, "spark": 1}
_PROPERTY = "kill"
ALL = "LRM_ENGINE_KILLS" in os.environ
"""Whether it is night: all that takes long is tried, too."""
night = pytest.mark.skipif(not ALL, reason="by night alone: set LRM_ENGINE_KILLS")


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        number: the seed.
        engine, victim: where, and what is killed.
        moment: part of the time that a whole job takes, after which it happens.
        adds: whether the job adds to a data set.
    """

    number: int
    engine: str
    victim: str
    moment: float
    adds: bool

    def __str__(self) -> str:
        return f"{self.engine}-{self.number}-{self.victim.replace(' ', '-')}"


def kills(engine: str) -> list[Kill]:
    """Those on an engine: each kind in turn, at moments that depend on their number alone."""
    asked = int(os.environ.get("LRM_ENGINE_KILLS", "0"))
    victims = [*_VICTIMS[engine], "lrm (SIGINT)"]
    return [
        Kill(
            number,
            engine,
            victims[number % len(victims)],
            random.Random(f"{engine} {number}").uniform(0.05, 0.8),  # jobs that follow another are shorter
            number % 3 == 2,
        )
        for number in range(asked or _OFTEN[engine])
    ]


def record(request: Any, kill: Kill, **outcome: Any) -> None:
    """Keep what became of a kill, for the summary at the end."""
    request.node.user_properties.append((_PROPERTY, {**asdict(kill), **outcome}))


def told(reporter: Any) -> list[str]:
    """A table of all kills."""
    found = [
        (report.outcome, value)
        for reports in reporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == _PROPERTY and report.when == "call"
    ]
    lines = []
    for passed, kill in sorted(found, key=lambda one: (one[1]["engine"], one[1]["number"])):
        job = "append" if kill["adds"] else "prepare"
        at = f"{kill['at']:.1f} of {kill['whole']:.1f} s"
        lines.append(
            f"{kill['engine']:6} {kill['number']:3} {kill['victim']:14} {job:8} at {at:18} "
            f"{passed:7} {kill['came']} (ended after {kill['ended']:.0f} s): {kill['said']}"
        )
    return lines
