"""Whether a cluster has room for a job, by pages that answer as those of Flink 1.19 and Spark 3.5 do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from behavior.errors import UserError
from behavior.shards.storage import Folder
from pipelines.checkup.watch import WorkerWatch, silence, stopped
from pipelines.engines import room
from pipelines.engines.engine import Engine
from pipelines.engines.room import check_slots, no_executor, waits_for_slots
from tests.pipelines.engines.pages import served

FLINK: dict[str, Any] = {
    "/config": {"flink-version": "1.19.0"},
    "/overview": {"taskmanagers": 2, "slots-total": 4, "slots-available": 1, "jobs-running": 2},
    "/jobmanager/config": [{"key": "rest.port", "value": "8081"}],
    "/jobs/overview": {"jobs": [{"jid": "aaa", "name": "lrm-1", "start-time": 1}]},
    "/jobs/aaa": {"state": "RUNNING", "status-counts": {"SCHEDULED": 3, "CREATED": 4, "RUNNING": 0}},
}
SPARK: dict[str, Any] = {
    "/api/v1/applications": [{"id": "app-7", "name": "lrm-1_52228dec-7e2c"}],
    "/api/v1/applications/app-7/environment": {
        "sparkProperties": [["spark.master", "spark://127.0.0.1:7077"], ["spark.executor.cores", "4"]]
    },
    "/json/": {
        "workers": [
            {"state": "ALIVE", "cores": 2, "memory": 512},
            {"state": "ALIVE", "cores": 4, "memory": 1024},
            {"state": "DEAD", "cores": 64, "memory": 65536},
        ],
        "activeapps": [
            {"name": "lrm-11_0f504871-efa8", "state": "RUNNING", "memoryperexecutor": 512},
            {"name": "lrm-1_52228dec-7e2c", "state": "WAITING", "memoryperexecutor": 2048},
        ],
    },
}


@pytest.fixture
def flink(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, Any]]]:
    """Its address, and what it answers."""
    monkeypatch.setattr(room, "_SECONDS_TO_REGISTER", -1.0)
    answers = dict(FLINK)
    with served(answers) as (port, _):
        yield f"127.0.0.1:{port}", answers


def on_flink(address: str, parallelism: str) -> Engine:
    return Engine.of("FlinkRunner", [f"--flink_master={address}", f"--parallelism={parallelism}"], "lrm-1")


def test_more_slots_than_there_are_is_refused_before_the_job_is_sent(
    flink: tuple[str, dict[str, Any]],
) -> None:
    address, answers = flink
    with pytest.raises(UserError) as error:
        check_slots(on_flink(address, "5"))
    assert error.value.what == "the job asks for 5 slots, and Flink's cluster has 4 (task managers: 2)"
    assert error.value.where == f"--parallelism=5; http://{address}"
    assert "--parallelism=4 at most" in str(error.value.fix)
    for fine in ("4", "-1"):  # Flink's own default
        check_slots(on_flink(address, fine))
    answers["/overview"] = {"taskmanagers": 0, "slots-total": 0}
    with pytest.raises(UserError, match="has 0") as none:
        check_slots(on_flink(address, "1"))
    assert str(none.value.fix).startswith("start task managers")


@pytest.mark.parametrize("setting", ["kubernetes.cluster-id", "yarn.application.id"])
def test_a_cluster_that_grows_has_room(flink: tuple[str, dict[str, Any]], setting: str) -> None:
    address, answers = flink
    answers["/jobmanager/config"] = [{"key": setting, "value": "x"}]
    check_slots(on_flink(address, "500"))


def test_task_managers_that_have_just_been_started_are_waited_for(
    flink: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, answers = flink
    monkeypatch.setattr(room, "_SECONDS_TO_REGISTER", 60.0)
    more = {"taskmanagers": 3, "slots-total": 6}
    monkeypatch.setattr(room.time, "sleep", lambda _: answers.update({"/overview": more}))
    check_slots(on_flink(address, "6"))


def test_without_a_limit_nothing_is_refused(flink: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    address, _ = flink
    options = [f"--flink_master={address}", "--parallelism=5"]
    for limit in (0.0, 300.0):
        watch = WorkerWatch(Folder(str(tmp_path)), "FlinkRunner", options, "lrm-1", limit)
        if limit:
            with pytest.raises(UserError, match="asks for 5 slots"):
                watch.before()
        else:
            watch.before()


def test_slots_that_others_have(flink: tuple[str, dict[str, Any]]) -> None:
    address, answers = flink
    engine = on_flink(address, "4")
    said = "it waits for slots: 1 of 4 are free"
    assert waits_for_slots(engine) == said
    error = silence(engine, None, 300.0)
    assert error.what == f"no worker answered within 300 s, and Flink says RUNNING: {said}"
    assert "wait until other jobs end" in str(error.fix)
    for counts in ({"SCHEDULED": 1, "RUNNING": 1}, {"CREATED": 2}, {"FINISHED": 3}):
        answers["/jobs/aaa"] = {"state": "RUNNING", "status-counts": counts}
        assert waits_for_slots(engine) == ""
    assert waits_for_slots(Engine.of("FlinkRunner", [f"--flink_master={address}"], "other")) == ""


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What its driver and its master answer."""
    answers = dict(SPARK)
    with served(answers) as (port, _):
        monkeypatch.setattr(room, "_DRIVER_PORT", port)
        monkeypatch.setattr(room, "_MASTER_PORT", port)
        monkeypatch.setattr(room, "_SECONDS_TO_REGISTER", 0.0)
        yield answers


def on_spark() -> Engine:
    return Engine("Spark", "", "lrm-1", ["--job_endpoint=127.0.0.1:8099"])


def test_executors_that_no_worker_has_the_memory_for(spark: dict[str, Any]) -> None:
    found = stopped(on_spark(), None)
    assert found is not None
    assert (
        found.what == "an executor asks for 2048 MB of memory, and no worker of Spark has more than 1024 MB"
    )
    assert "-Dspark.executor.memory=1024m" in str(found.fix)
    assert str(found.where).startswith(f"http://127.0.0.1:{room._MASTER_PORT}")


def test_executors_that_no_worker_has_the_cores_for(spark: dict[str, Any]) -> None:
    [_, ours] = spark["/json/"]["activeapps"]
    workers = [{"state": "ALIVE", "cores": 2, "memory": 4096}]
    spark["/json/"] = {"workers": workers, "activeapps": [ours]}
    found = no_executor(on_spark())
    assert found is not None
    assert found.what == "an executor asks for 4 cores, and no worker of Spark has more than 2"
    workers[0]["cores"] = 4
    assert no_executor(on_spark()) is None  # others may have it just now


def test_spark_without_workers_and_a_job_that_runs(spark: dict[str, Any]) -> None:
    master = dict(spark["/json/"])
    spark["/json/"] = master | {"workers": []}
    found = no_executor(on_spark())
    assert found is not None
    assert found.what == "Spark's master has no worker that is alive"
    spark["/json/"] = master | {"activeapps": [{"name": "lrm-1", "state": "RUNNING"}]}
    assert no_executor(on_spark()) is None


def test_workers_that_have_just_been_started_are_waited_for(
    spark: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    came = {"state": "ALIVE", "cores": 4, "memory": 2048}
    monkeypatch.setattr(room.time, "sleep", lambda _: spark["/json/"]["workers"].append(came))
    try:
        assert no_executor(on_spark()) is None
    finally:
        SPARK["/json/"]["workers"].remove(came)


def test_a_spark_that_cannot_be_asked(spark: dict[str, Any]) -> None:
    spark.clear()
    assert no_executor(on_spark()) is None
    error = silence(Engine("Spark", "", "lrm-1", ["--environment_type=LOOPBACK"]), None, 300.0)
    assert "-Dspark.executor.memory" in str(error.fix)
