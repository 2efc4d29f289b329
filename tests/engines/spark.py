"""A Spark cluster: a master, workers, and Beam's job server for it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.engines.installed import PYTHON, SPARK, as_process
from tests.engines.processes import Processes, answers, free_ports, wait_for

_HOME = PYTHON / "pyspark"
_OPENED = [
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs"),
    *("sun.security.action", "sun.util.calendar"),
]
"""Packages of Java that Spark looks into."""


class SparkCluster:
    """Starts, and runs until `end`.

    Args:
        folder: for logs and files.
        workers: how many, of two cores each.
        memory: megabytes of heap that each executor has.
        collector: whether an executor says what its garbage collector does (`gc-executor.txt`).
    """

    def __init__(self, folder: Path, workers: int = 2, memory: int = 512, collector: bool = False) -> None:
        self.processes = Processes(folder)
        self.workers = workers
        self.master, self.job, artifact, expansion, *pages = free_ports(5 + workers)
        start = [str(_HOME / "bin" / "spark-class"), "org.apache.spark.deploy"]
        env = {"SPARK_HOME": str(_HOME), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
        address = ["--host", "localhost", "--port", str(self.master), "--webui-port", str(pages[0])]
        self.processes.start("master", [start[0], f"{start[1]}.master.Master", *address], env)
        url = f"spark://localhost:{self.master}"
        wait_for(lambda: answers(self.master), "the master")
        for number in range(workers):
            place = ["--work-dir", str(folder / f"work-{number}"), "--webui-port", str(pages[number])]
            size = ["--cores", "2", "--memory", f"{memory}m", "--host", "localhost"]
            command = [start[0], f"{start[1]}.worker.Worker", *size, *place, url]
            self.processes.start(f"worker-{number}", command, env)
        ours = [str(jar) for jar in sorted(SPARK.glob("*.jar")) if not _of_spark(jar.name)]
        settings = {
            "spark.executor.extraClassPath": os.pathsep.join(ours),
            "spark.executor.memory": f"{memory}m",
            "spark.executor.extraJavaOptions": "-Xlog:gc:file=gc-executor.txt" if collector else "",
            "spark.driver.host": "localhost",
            "spark.ui.enabled": "false",
        }
        self.processes.start(
            "job-server",
            [
                *("java", "-Xmx512m", *(f"-D{name}={value}" for name, value in settings.items())),
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

    def options(self) -> list[str]:
        """Options of Beam that run a job here."""
        return [f"--job_endpoint=localhost:{self.job}", *as_process()]

    def end(self) -> None:
        """End all processes."""
        self.processes.end()


def _of_spark(name: str) -> bool:
    """Whether a jar of Beam's must give way to Spark's own."""
    return name.startswith(("slf4j-", "jackson-"))
