"""What `make engines` has put beside the virtual environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "engines"
HOME = Path(os.environ.get("LRM_ENGINES", ROOT / ".engines"))
BOOT, PRISM = HOME / "bin" / "container", HOME / "bin" / "prism"
STORAGE = HOME / "bin" / "fake-gcs-server"
WORKER = Path(__file__).parent / "worker" / "lrm-worker"
"""What an installation has beside its Python: Beam's boot program in one."""
QUICK_PYTHON = Path(__file__).parent / "worker" / "python"
"""Starts `LRM_PYTHON`, but no pip."""
FLINK, SPARK, PYTHON = HOME / "flink" / "gradle" / "wrapper", HOME / "spark", HOME / "python"
"""Beam's job server sends no jar of a folder `gradle/wrapper` to Flink with each job."""


def missing() -> str:
    """Why engines cannot be started here; empty where they can."""
    if not (HOME / ".installed").exists():
        return "the engines are not installed: make engines (with Java, Maven and Go)"
    if shutil.which("java") is None:
        return "no Java"
    return "" if sys.platform == "linux" else "only on Linux"


def job_server_jar(engine: str, folder: Path, *jars: Path) -> Path:
    """One JAR that starts the job server of an engine, made of folders with many."""
    target = folder / f"{engine}-job-server.jar"
    script = EXAMPLES / "job_server_jar.py"
    patterns = [f"{place}/*.jar" for place in jars]
    subprocess.run([sys.executable, str(script), engine, str(target), *patterns], check=True)
    return target


def as_process(command: Path) -> list[str]:
    """Options of Beam for workers that are processes beside a task manager and import what is here.

    Args:
        command: `BOOT` or `WORKER`, which must do the same.
    """
    shown = ", ".join(f'"{name}": "{value}"' for name, value in worker_variables().items())
    return [
        "--environment_type=PROCESS",
        f'--environment_config={{"command": "{command}", "env": {{{shown}}}}}',
    ]


def worker_variables() -> dict[str, str]:
    """The environment of such a worker."""
    here = os.environ.get("PYTHONPATH", str(ROOT))  # the packages of another checkout than the installed one
    return {
        "PATH": os.pathsep.join([str(QUICK_PYTHON.parent), "/usr/bin", "/bin"]),
        "LRM_PYTHON": sys.executable,
        "PYTHONPATH": here,
        "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
    }
