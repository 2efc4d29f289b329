"""Whether a cluster has room for a job, which engines say nothing of for minutes, if at all.

Flink waits five minutes for slots that there are not, Spark without end for a worker with the memory that an
executor asks for. Both have pages that tell.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlparse

from behavior.errors import UserError
from pipelines.engines.engine import FLINK, SPARK, Engine
from pipelines.engines.pages import ask
from pipelines.option_values import value_of

_SECONDS_TO_REGISTER = 10.0
"""Task managers, and Spark's workers, that have just been started."""
_GROW = {"kubernetes.cluster-id", "yarn.application.id"}
"""Settings of clusters that start task managers as jobs want them."""
_DRIVER_PORT, _MASTER_PORT = 4040, 8080

SPARK_ADVICE = (
    "see on the master's page (port 8080) whether the job waits there: its executors want workers with as "
    "much memory (-Dspark.executor.memory of the job server, 1 GB by default) and as many cores"
)


def check_slots(engine: Engine) -> None:
    """Refuse a parallelism for which Flink has not enough slots, before it has the job.

    Raises:
        UserError: it has not, whichever jobs end meanwhile.
    """
    wanted = value_of(engine.options, "--parallelism") or ""
    if engine.kind != FLINK or not engine.base or not wanted.isdigit():
        return
    deadline = time.monotonic() + _SECONDS_TO_REGISTER
    while (lack := _too_few(engine, int(wanted))) is not None:
        if time.monotonic() > deadline:
            raise lack
        time.sleep(1.0)


def _too_few(engine: Engine, wanted: int) -> UserError | None:
    found = _numbers(ask(f"{engine.base}/overview"), "slots-total", "taskmanagers")
    if found is None or found[0] >= wanted or _grows(engine.base):
        return None
    slots, managers = found
    return UserError(
        f"the job asks for {wanted} slots, and Flink's cluster has {slots} (task managers: {managers})",
        where=f"--parallelism={wanted}; {engine.base}",
        fix=f"ask for --parallelism={slots} at most, or start more task managers"
        if slots
        else "start task managers, and see in their logs why they do not register",
    )


def _grows(base: str) -> bool:
    found = ask(f"{base}/jobmanager/config")
    entries = found if isinstance(found, list) else []
    return any(isinstance(entry, dict) and entry.get("key") in _GROW for entry in entries)


def waits_for_slots(engine: Engine) -> str:
    """How a job waits on Flink for slots that others have, in words; empty where it does not."""
    job = engine.flink_id()
    found = ask(f"{engine.base}/jobs/{job}") if job else None
    counts = found.get("status-counts") if isinstance(found, dict) else None
    if not isinstance(counts, dict) or not counts.get("SCHEDULED"):
        return ""
    if any(count for state, count in counts.items() if state not in ("CREATED", "SCHEDULED")):
        return ""
    slots = _numbers(ask(f"{engine.base}/overview"), "slots-available", "slots-total")
    return f"it waits for slots: {slots[0]} of {slots[1]} are free" if slots else ""


def no_executor(engine: Engine) -> UserError | None:
    """Why Spark starts no executor of a job, as far as its driver and its master tell."""
    found = _no_executor(engine)
    if found is not None:  # workers that have just been started may still come
        time.sleep(_SECONDS_TO_REGISTER)
        found = _no_executor(engine)
    return found


def _no_executor(engine: Engine) -> UserError | None:
    if engine.kind != SPARK:
        return None
    driver, app = _driver(engine)
    master = value_of(engine.options, "--spark_master_url") or app.get("spark.master", "")
    host = urlparse(master).hostname if master.startswith("spark://") else None
    page = f"http://{host}:{_MASTER_PORT}"
    found = ask(f"{page}/json/") if host else None
    if not isinstance(found, dict):
        return None
    ours = [one for one in found.get("activeapps", []) if _is(one, engine.job_name)]
    workers = [one for one in found.get("workers", []) if one.get("state") == "ALIVE"]
    if not ours or ours[0].get("state") != "WAITING":
        return None
    memory = _numbers(ours[0], "memoryperexecutor") or _numbers(ours[0], "memoryperslave")
    where = "; ".join(filter(None, (page, driver)))
    return _unmet(workers, memory[0] if memory else 0, _cores(app), where)


def _unmet(workers: list[dict[str, Any]], memory: int, cores: int, where: str) -> UserError | None:
    if not workers:
        return UserError(
            "Spark's master has no worker that is alive",
            where=where,
            fix="start workers, and see in their logs why they do not register",
        )
    most = max(int(one.get("memory", 0)) for one in workers)
    if most < memory:
        return UserError(
            f"an executor asks for {memory} MB of memory, and no worker of Spark has more than {most} MB",
            where=where,
            fix=f"start the job server with -Dspark.executor.memory={most}m or less, or workers with more",
        )
    most = max(int(one.get("cores", 0)) for one in workers)
    if most < cores:
        return UserError(
            f"an executor asks for {cores} cores, and no worker of Spark has more than {most}",
            where=where,
            fix=f"start the job server with -Dspark.executor.cores={most} or less, or workers with more",
        )
    return None


def _driver(engine: Engine) -> tuple[str, dict[str, str]]:
    """The page of Spark's driver, which is there as long as the job is, and its properties."""
    host = (value_of(engine.options, "--job_endpoint") or "").rpartition(":")[0]
    page = f"http://{host or 'localhost'}:{_DRIVER_PORT}"
    apps = ask(f"{page}/api/v1/applications")
    for app in apps if isinstance(apps, list) else []:
        if _is(app, engine.job_name):
            found = ask(f"{page}/api/v1/applications/{app.get('id')}/environment")
            pairs = found.get("sparkProperties", []) if isinstance(found, dict) else []
            return page, {str(name): str(value) for name, value in pairs}
    return "", {}


def _is(app: dict[str, Any], job_name: str) -> bool:
    """Beam's job server appends an id of its own to the name."""
    return f"{app.get('name', '')}_".startswith(f"{job_name}_")


def _cores(app: dict[str, str]) -> int:
    given = app.get("spark.executor.cores", "")
    return int(given) if given.isdigit() else 1


def _numbers(found: Any, *names: str) -> list[int] | None:
    """Numbers of an answer; None where one is missing."""
    if not isinstance(found, dict) or not all(isinstance(found.get(name), int) for name in names):
        return None
    return [found[name] for name in names]
