"""One JAR that starts Beam's job server for Flink or Spark, from the many that Maven fetches.

    python job_server_jar.py flink flink-job-server.jar 'flink/gradle/wrapper/*.jar'
    python job_server_jar.py spark spark-job-server.jar 'spark/*.jar' '.../pyspark/jars/*.jar'

It only names the others, which must stay where they are, in the order of the class path. `java -jar` runs it,
and so do `--runner FlinkRunner -- --flink_job_server_jar=...` and Spark's counterpart.
"""

from __future__ import annotations

import glob
import sys
import zipfile
from pathlib import Path

MAIN = {
    "flink": "org.apache.beam.runners.flink.FlinkJobServerDriver",
    "spark": "org.apache.beam.runners.spark.SparkJobServerDriver",
}
OPENED = (
    [f"java.{name}" for name in ("lang", "lang.invoke", "lang.reflect", "net", "io", "nio", "text", "time")]
    + [f"java.util{name}" for name in ("", ".concurrent", ".concurrent.atomic", ".concurrent.locks")]
    + ["sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"]
)
"""Packages of Java that Flink or Spark look into."""
GIVES_WAY = ("slf4j-", "jackson-")
"""Jars that Beam has in other versions than Spark, whose own must be found."""


def class_path(engine: str, patterns: list[str]) -> list[Path]:
    """The jars of some patterns; of Spark's, Beam's come first, without those that Spark has itself."""
    found = []
    for place, pattern in enumerate(patterns):
        jars = [Path(name).absolute() for name in sorted(glob.glob(pattern))]
        if engine == "spark" and place == 0:
            jars = [jar for jar in jars if not jar.name.startswith(GIVES_WAY)]
        found += jars
    return found


def manifest(engine: str, jars: list[Path]) -> bytes:
    """The text of META-INF/MANIFEST.MF, in which a line has at most 72 bytes."""
    fields = {
        "Manifest-Version": "1.0",
        "Main-Class": MAIN[engine],
        "Add-Opens": " ".join(f"java.base/{package}" for package in OPENED),
        "Class-Path": " ".join(jar.as_uri() for jar in jars),
    }
    lines = []
    for name, value in fields.items():
        line = f"{name}: {value}".encode()
        lines.append(line[:72])
        lines += [b" " + line[at : at + 71] for at in range(72, len(line), 71)]
    return b"\r\n".join([*lines, b""])


def main() -> None:
    engine, target, *patterns = sys.argv[1:]
    jars = class_path(engine, patterns)
    if not jars:
        sys.exit(f"no jar matches {patterns}")
    with zipfile.ZipFile(target, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", manifest(engine, jars))


if __name__ == "__main__":
    main()
