"""What the files of a run are called that mark it as one: imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

CONFIG = "config.yaml"
MARKER = "run.json"


def is_of_a_run(settings: str | Path) -> bool:
    """Whether a file of settings is what a run wrote down."""
    path = Path(settings)
    return path.name == CONFIG and (path.parent / MARKER).is_file()
