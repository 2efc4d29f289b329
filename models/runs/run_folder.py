"""The folder of a training run, and what may be done with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from behavior.config import read_yaml
from behavior.errors import UserError
from behavior.shards.storage import Folder
from models.runs.files import write_atomically

FORMAT = "lrm-kit run"
FORMAT_VERSION = 1
_CONFIG = "config.yaml"
_MARKER = "run.json"
# What a run killed in its first moments leaves behind.
_LEFTOVERS = {_CONFIG, _CONFIG + ".tmp", _MARKER + ".tmp"}


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    run.json                      marks the folder as a run; the data set's path and digest
    config.yaml                   every setting, as used
    metrics.jsonl                 losses and validation metrics, one JSON object a line
    tensorboard/                  the same for TensorBoard
    checkpoints/last.safetensors  to go on from; best.safetensors: the best validation
    curves/                       pictures, drawn at the end
    failed/                       the batches of a step that went wrong, if one did
    """

    path: Path

    @property
    def marker(self) -> Path:
        return self.path / _MARKER

    @property
    def config_file(self) -> Path:
        return self.path / _CONFIG

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def curves(self) -> Path:
        return self.path / "curves"

    @property
    def failed(self) -> Path:
        return self.path / "failed"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def data(self) -> str:
        """The shard folder this run was trained on, or its url."""
        return str(self._about()["data"])

    def settings(self) -> dict[str, Any]:
        """The settings of the run, as they were written."""
        return read_yaml(self.config_file)

    def write(self, settings: dict[str, Any], data: Folder, dataset: dict[str, Any]) -> None:
        """Write the settings down and mark the folder as a run."""
        about = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "data": data.url,
            "dataset": dataset,
        }
        text = yaml.safe_dump(settings, sort_keys=False)
        write_atomically(self.config_file, text.encode())
        # Last: a folder with a marker always has its settings.
        write_atomically(self.marker, (json.dumps(about, indent=2) + "\n").encode())

    def _about(self) -> dict[str, Any]:
        try:
            about = json.loads(self.marker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            about = None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise UserError(f"'{self.path}' is not a training run", fix="name a folder made by 'lrm train'")
        return about


def open_run(path: Path) -> RunFolder:
    """A run that exists.

    Raises:
        UserError: the folder is not a run.
    """
    run = RunFolder(Path(path))
    run._about()
    return run


def settings_to_resume(path: Path) -> Path | None:
    """The settings of a run that can be resumed, a file that loads as a recipe; None where there is none."""
    run = RunFolder(Path(path))
    return run.config_file if run.marker.exists() and run.config_file.exists() else None


def claim_run(path: Path, *, resume: bool) -> RunFolder:
    """The folder of a run that is to be trained: new, empty, or, with `resume`, one that holds a run.

    Raises:
        UserError: it holds a run and `resume` was not asked for, or it holds something else.
    """
    run = RunFolder(Path(path))
    if run.path.is_file():
        raise UserError(f"'{path}' is a file, not a folder", fix="name another folder for the run")
    if run.marker.exists():
        run._about()
        if not resume:
            raise UserError(
                f"'{path}' already holds a training run",
                fix="add --resume to go on with it, or name another folder",
            )
    elif run.path.is_dir() and any(entry.name not in _LEFTOVERS for entry in run.path.iterdir()):
        raise UserError(
            f"'{path}' holds something that is not a training run", fix="name a new or empty folder"
        )
    run.path.mkdir(parents=True, exist_ok=True)
    return run
