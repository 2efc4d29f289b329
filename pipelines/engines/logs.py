"""Where workers and engines write their logs."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.engines.engine import DATAFLOW, FLINK, PRISM, SPARK, Engine
from pipelines.option_values import value_of


def log_places(engine: Engine, options: Sequence[str]) -> str:
    """In words, by the engine and by what its workers are.

    >>> log_places(Engine(FLINK, "http://localhost:8081", "job"), ["--environment_type=PROCESS"])
    "the task managers' logs, which have what workers print (http://localhost:8081/#/task-manager)"
    """
    if engine.kind == DATAFLOW:
        return "the logs of the job's page"
    environment = (value_of(options, "--environment_type") or "DOCKER").upper()
    theirs = {
        FLINK: "the task managers' logs",
        SPARK: "the executors' logs (work/app-*/*/stderr on Spark's workers)",
        PRISM: "what Prism prints",
    }.get(engine.kind, "the engine's logs")
    if environment == "EXTERNAL":
        theirs += " and what the worker pool prints"
    elif environment == "DOCKER":
        theirs += " and those of the worker containers (docker logs)"
    elif environment == "PROCESS":
        theirs += ", which have what workers print"
    page = f" ({engine.base}/#/task-manager)" if engine.kind == FLINK and engine.base else ""
    return theirs + page
