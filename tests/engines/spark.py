"""A Spark cluster: a master, workers, and Beam's job server for it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.engines.installed import BOOT, EXAMPLES, FLINK, PYTHON, SPARK, as_process, job_server_jar
from tests.engines.processes import Processes, answers, free_ports, wait_for

_HOME = PYTHON / "pyspark"
_EXECUTOR = "CoarseGrainedExecutorBackend"
# Otherwise the job server sends its whole class path, 400 MB, to each executor for each job.
_NOTHING_MORE = EXAMPLES / "spark" / "pom.xml"
_ELSEWHERE = {
    "spark.excludeOnFailure.enabled": "true",
    "spark.excludeOnFailure.timeout": "10s",
}
"""A task whose worker died is tried again in another executor: else all four attempts meet the dead one."""
_OPENED = [
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs"),
    *("sun.security.action", "sun.util.calendar"),
]
"""Packages of Java that Spark looks into."""


class SparkCluster:
    """Starts, and runs until `end`.

    Attributes:
        runner: Beam's own for this engine.
        known_there: options of Beam that only the job server knows.
        kept: how long a worker process is that nothing is asked of.
        page: port of the master's page.
        outlives_kills: options of jobs whose processes are killed.

    Args:
        folder: for logs and files.
        workers: how many, of two cores each.
        memory: megabytes of heap that each executor has.
        collector: whether an executor says what its garbage collector does (`gc-executor.txt`).
        java: options of all Java processes.
        settings: of Spark's, beside those of its examples.
    """

    runner = "SparkRunner"
    kept = ("--environment_cache_millis=5000",)
    outlives_kills = ()
    known_there = ("--storage_level=MEMORY_AND_DISK",)

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        memory: int = 512,
        collector: bool = False,
        java: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.processes = Processes(folder)
        self.workers = workers
        self.master, self.job, artifact, expansion, *pages = free_ports(5 + workers)
        start = [str(_HOME / "bin" / "spark-class"), "org.apache.spark.deploy"]
        env = {"SPARK_HOME": str(_HOME), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
        env["SPARK_DAEMON_JAVA_OPTS"] = " ".join(java)
        self.page = pages.pop()
        address = ["--host", "localhost", "--port", str(self.master), "--webui-port", str(self.page)]
        self.processes.start("master", [start[0], f"{start[1]}.master.Master", *address], env)
        self.url = url = f"spark://localhost:{self.master}"
        wait_for(lambda: answers(self.master), "the master")
        for number in range(workers):
            place = ["--work-dir", str(folder / f"work-{number}"), "--webui-port", str(pages[number])]
            size = ["--cores", "2", "--memory", f"{memory}m", "--host", "localhost"]
            command = [start[0], f"{start[1]}.worker.Worker", *size, *place, url]
            self.processes.start(f"worker-{number}", command, env)
        # Beam's jars bring an older slf4j along, by their manifests, than Spark's logging is for.
        ours = [str(FLINK / "slf4j-simple-1.7.30.jar")] + [
            str(jar) for jar in sorted(SPARK.glob("*.jar")) if not _of_spark(jar.name)
        ]
        options = [*java, "-Xlog:gc:file=gc-executor.txt"] if collector else java
        self.settings = {
            "spark.executor.extraClassPath": os.pathsep.join(ours),
            "spark.executor.memory": f"{memory}m",
            "spark.executor.extraJavaOptions": " ".join(options),
            "spark.driver.host": "localhost",
            "spark.ui.enabled": "false",
            **_ELSEWHERE,
            **(settings or {}),
        }
        self.processes.start(
            "job-server",
            [
                *("java", *java, "-Xmx512m", *(f"-D{name}={value}" for name, value in self.settings.items())),
                *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
                *("-cp", os.pathsep.join([*ours, f"{_HOME}/jars/*"])),
                "org.apache.beam.runners.spark.SparkJobServerDriver",
                *(f"--spark-master-url={url}", "--job-host=localhost", f"--job-port={self.job}"),
                *(f"--artifact-port={artifact}", f"--expansion-port={expansion}"),
                f"--artifacts-dir={folder / 'artifacts'}",
            ],
            env,
        )

    def wait(self) -> None:
        """Until jobs can be sent."""
        wait_for(lambda: answers(self.job), "the job server")

    def mend(self) -> None:
        """Start again what has been killed, and wait until jobs can be sent and none is left."""
        self.processes.mend()
        self.wait()
        wait_for(lambda: not self._executors(), "the end of what runs", 900)

    def victims(self, is_over: Callable[[], bool]) -> dict[str, Callable[[], None]]:
        """What can be killed while a job runs. The job server is Spark's driver, too."""
        worker = f"worker-{random.randrange(self.workers)}"
        return {
            "SDK worker": lambda: self.processes.kill_like("sdk_worker_main", is_over),
            "executor": lambda: self.processes.kill_like(_EXECUTOR, is_over),
            "worker machine": lambda: self.processes.lose(worker),
            "driver": lambda: self.processes.lose("job-server"),
        }

    def _executors(self) -> list[int]:
        return self.processes.like(_EXECUTOR)

    def options(self) -> list[str]:
        """Options of Beam that run a job here."""
        endpoint = f"--job_endpoint=localhost:{self.job}"
        return [endpoint, *self.kept, f"--files_to_stage={_NOTHING_MORE}", *as_process(BOOT)]

    def by_path(self, folder: Path) -> list[str]:
        """The same with a job server that is started from its JAR, which is made in a folder."""
        jar = job_server_jar("spark", folder, SPARK, _HOME / "jars")
        given = [f"--spark_job_server_jar={jar}", f"--spark_master_url={self.url}"]
        given += [f"--job_server_jvm_properties=-D{name}={value}" for name, value in self.settings.items()]
        return [*given, *self.options()[1:]]

    def end(self) -> None:
        """End all processes."""
        self.processes.end()


def _of_spark(name: str) -> bool:
    """Whether a jar of Beam's must give way to Spark's own."""
    return name.startswith(("slf4j-", "jackson-"))
