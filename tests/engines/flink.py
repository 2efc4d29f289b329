"""A Flink cluster: a job manager, task managers, and Beam's job server for it."""

from __future__ import annotations

import http.client
import json
import random
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.engines.installed import EXAMPLES, FLINK, WORKER, as_process, job_server_jar
from tests.engines.processes import Processes, answers, free_ports, wait_for

_ENTRY = "org.apache.flink.runtime"
_OPENED = [
    *("lang", "lang.reflect", "net", "io", "nio", "text", "time"),
    *("util", "util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
]
"""Packages of Java that Flink looks into."""
_TIMED = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


class FlinkCluster:
    """Starts, and runs until `end`.

    Attributes:
        runner: Beam's own for this engine.
        known_there: options of Beam that only the job server knows.
        outlives_kills: options of jobs whose processes are killed.

    Args:
        folder: for logs and files.
        task_managers: how many.
        settings: of Flink, beside those of examples/engines/flink/conf.
        heap, direct: megabytes a task manager has of each.
        parallelism: of jobs.
        java: options of all Java processes.
    """

    runner = "FlinkRunner"
    known_there = ("--number_of_execution_retries=1",)
    outlives_kills = ()

    def __init__(
        self,
        folder: Path,
        task_managers: int = 2,
        settings: dict[str, str] | None = None,
        heap: int = 384,
        direct: int = 256,
        parallelism: int = 4,
        java: Sequence[str] = (),
    ) -> None:
        self.java = java
        self.parallelism = parallelism
        self.processes = Processes(folder)
        self.folder, self.heap, self.direct = folder, heap, direct
        self.rest, rpc, self.job, artifact, expansion = free_ports(5)
        self.settings = {
            "rest.port": str(self.rest),
            "jobmanager.rpc.port": str(rpc),
            "io.tmp.dirs": str(folder / "tmp"),
            "taskmanager.log.path": str(folder / "task.log"),
            **(settings or {}),
        }
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.task_managers = task_managers
        self.ports = artifact, expansion
        self.start()

    def start(self) -> None:
        """Start all processes."""
        artifact, expansion = self.ports
        self._java("job-manager", f"{_ENTRY}.entrypoint.StandaloneSessionClusterEntrypoint", ["-Xmx384m"])
        for number in range(self.task_managers):
            self.start_task_manager(number)
        server = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        self.processes.start(
            "job-server",
            [
                *("java", *self.java, "-Xmx512m", *_TIMED, "-cp", f"{FLINK}/*", *_opened(), server),
                f"--flink-master=localhost:{self.rest}",
                *("--job-host=localhost", f"--job-port={self.job}", f"--artifact-port={artifact}"),
                *(f"--expansion-port={expansion}", f"--artifacts-dir={self.folder / 'artifacts'}"),
            ],
        )

    def wait(self) -> None:
        """Until jobs can be sent."""
        wait_for(lambda: self._registered() == self.task_managers, "the task managers")
        wait_for(lambda: answers(self.job), "the job server")

    def mend(self) -> None:
        """Start again what has been killed, and wait until jobs can be sent and none is left."""
        self.processes.mend()
        self.wait()
        wait_for(self.is_idle, "the end of what runs", 900)

    def is_idle(self) -> bool:
        """Whether no job runs or waits to be tried again."""
        return set(self.states()) <= {"FINISHED", "FAILED", "CANCELED"}

    def victims(self, is_over: Callable[[], bool]) -> dict[str, Callable[[], None]]:
        """What can be killed while a job runs."""
        manager = f"task-manager-{random.randrange(self.task_managers)}"
        return {
            "SDK worker": lambda: self.processes.kill_like("pipelines.boot", is_over),
            "task manager": lambda: self.processes.lose(manager),
            "job manager": lambda: self.processes.lose("job-manager"),
            "job server": lambda: self.processes.lose("job-server"),
        }

    def start_task_manager(self, number: int) -> None:
        memory = [f"-Xmx{self.heap}m", f"-XX:MaxDirectMemorySize={self.direct}m", "-XX:MaxMetaspaceSize=160m"]
        self._java(
            f"task-manager-{number}",
            f"{_ENTRY}.taskexecutor.TaskManagerRunner",
            [*memory, f"-Xlog:gc*:file={self.folder}/gc-{number}.txt"],
        )

    def options(self) -> list[str]:
        """Options of Beam that run a job here."""
        return [
            f"--job_endpoint=localhost:{self.job}",
            f"--parallelism={self.parallelism}",
            *as_process(WORKER),
        ]

    def by_path(self, folder: Path) -> list[str]:
        """The same with a job server that is started from its JAR, which is made in a folder."""
        jar = job_server_jar("flink", folder, FLINK)
        given = [f"--flink_job_server_jar={jar}", f"--flink_master=localhost:{self.rest}"]
        return [*given, *self.options()[1:]]

    def ask(self, path: str) -> Any:
        """What the job manager's REST interface answers."""
        with urllib.request.urlopen(f"http://localhost:{self.rest}{path}", timeout=10) as answer:
            return json.load(answer)

    def states(self) -> list[str]:
        """The state of each job that there was."""
        return [job["state"] for job in self.ask("/jobs/overview")["jobs"]]

    def newest_state(self) -> str:
        """The state of the newest job."""
        return self._newest()["state"]

    def restarts(self) -> int:
        """How often something failed in the newest job."""
        return sum("exceptionName" in entry for entry in self.failures(self._newest()["jid"]))

    def _newest(self) -> dict[str, Any]:
        return max(self.ask("/jobs/overview")["jobs"], key=lambda job: job["start-time"])

    def failures(self, job: str) -> list[dict[str, Any]]:
        """What went wrong in a job."""
        return self.ask(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]

    def sent(self) -> int:
        """How many files task managers have fetched for jobs, of which jars would be most."""
        logs = self.folder.glob("task-manager-*.log")
        return sum(log.read_text(errors="replace").count("BlobClient - Downloading") for log in logs)

    def end(self) -> None:
        """End all processes."""
        self.processes.end()

    def _registered(self) -> int:
        try:
            return len(self.ask("/taskmanagers")["taskmanagers"])
        except (OSError, ValueError, http.client.HTTPException):
            return 0

    def _java(self, name: str, main: str, options: list[str]) -> None:
        settings = [part for key, value in self.settings.items() for part in ("-D", f"{key}={value}")]
        self.processes.start(
            name,
            [
                *("java", *self.java, *options, *_TIMED, *_opened(), "-cp", f"{FLINK}/*", main),
                *("--configDir", str(EXAMPLES / "flink" / "conf"), *settings),
            ],
        )


def _opened() -> list[str]:
    return [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED]
