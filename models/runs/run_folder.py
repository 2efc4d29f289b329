"""The folder of a training run, and what may be done with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from behavior.config import read_yaml
from behavior.errors import UserError
from behavior.shards.lock import exclusive
from behavior.shards.storage import Folder
from models.runs.files import has_file, read_file, write_together
from models.runs.names import CONFIG, MARKER
from models.runs.records import RunMark, read_mark

Resume: TypeAlias = bool | Literal["auto"]
"""Whether a training goes on with a run: it has to, it must not, or it does where there is one."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    run.json                      marks the folder as a run; the data set's path and digest
    config.yaml                   every setting, as used
    metrics.jsonl                 losses and validation metrics, one JSON object a line
    tensorboard/                  the same for TensorBoard
    checkpoints/last.safetensors  to go on from; best.safetensors: the best validation
    curves/                       pictures, drawn at the end
    summary.json                  sizes, what was seen and spent, and what was reached, written at the end
    dataset/                      items, vocabularies and manifest of the data set, to serve without it
    failed/                       the batches of a step that went wrong, if one did
    """

    path: Path

    @property
    def marker(self) -> Path:
        return self.path / MARKER

    @property
    def config_file(self) -> Path:
        return self.path / CONFIG

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
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

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
        return self.about().data

    @property
    def has_last(self) -> bool:
        """Whether there is a checkpoint to go on from.

        Raises:
            UserError: it may not be looked at, or is no file.
        """
        return has_file(self.last)

    def settings(self) -> dict[str, Any]:
        """The settings of the run, as they were written."""
        return read_yaml(self.config_file)

    def init(self) -> Path | None:
        """The run whose weights this one began with; None where there is none, or no run yet."""
        begun = self.about().init if has_file(self.marker) else None
        return None if begun is None else Path(begun)

    def refit(self) -> Path | None:
        """The run that this one refits; None where there is none, or no run yet."""
        chosen = self.about().refit if has_file(self.marker) else None
        return None if chosen is None else Path(chosen)

    def write(
        self,
        settings: dict[str, Any],
        data: Folder,
        dataset: dict[str, Any],
        init: Path | None = None,
        refit: Path | None = None,
    ) -> None:
        """Write the settings down and mark the folder as a run.

        Raises:
            UserError: they cannot be written.
        """
        others = {
            name: None if run is None else str(run.absolute())
            for name, run in (("init", init), ("refit", refit))
        }
        about = RunMark(data=data.url, dataset=dataset, **others).model_dump(exclude_none=True)
        text = yaml.safe_dump(settings, sort_keys=False)
        # The mark comes last: a folder with it always has its settings. Both are there under temporary names
        # before one has its own, so that what a run killed in between leaves can be told from a user's file.
        mark = (json.dumps(about, indent=2) + "\n").encode()
        write_together({self.config_file: text.encode(), self.marker: mark})

    def check_best(self, epoch: int | None) -> None:
        """Check that the checkpoint of the best validation is there.

        Args:
            epoch: the epoch of that validation, from 0, as the last checkpoint has it; None: there was none.

        Raises:
            UserError: it is missing.
        """
        if epoch is not None and not has_file(self.best):
            raise UserError(
                f"{_name(self.best)} is missing, and the best validation was that of epoch {epoch + 1}",
                where=str(self.best),
                fix="bring it back from a copy, or copy last.safetensors to it, which then is the best",
            )

    def about(self) -> RunMark:
        """What marks the folder as a run.

        Raises:
            UserError: it is no run, its mark is damaged, or a later version of lrm-kit made it.
        """
        content = read_file(self.marker)
        if content is None:
            raise UserError(f"'{self.path}' is not a training run", fix="name a folder made by 'lrm train'")
        return read_mark(content, self.marker)


def open_run(path: Path) -> RunFolder:
    """A run that exists.

    Raises:
        UserError: the folder is not a run, or its mark is damaged or of a newer format.
    """
    run = RunFolder(Path(path))
    run.about()
    return run


def settings_to_resume(path: Path) -> Path:
    """The settings of a run that is to be resumed, a file that loads as a recipe.

    Raises:
        UserError: there is no run, or it has lost its settings.
    """
    run = RunFolder(Path(path))
    if not has_file(run.marker):
        raise _no_run(run.path)
    run.about()
    if not has_file(run.config_file):
        raise UserError(
            f"{CONFIG} is missing, which has the settings of the run",
            where=str(run.config_file),
            fix="bring it back from a copy, or name the run's recipe with --recipe",
        )
    return run.config_file


@contextmanager
def hold_run(path: Path, *, resume: Resume) -> Iterator[RunFolder]:
    """The folder of a run that is to be trained, held for this job alone; see `claim_run`.

    Raises:
        UserError: another job is writing there, or it cannot be claimed.
    """
    path = Path(path)
    if resume is True and not path.exists():
        raise _no_run(path)
    with exclusive(Folder(str(path))):
        yield claim_run(path, resume=resume)


def claim_run(path: Path, *, resume: Resume) -> RunFolder:
    """The folder of a run that is to be trained, and that this job holds.

    Args:
        path: of the folder.
        resume: False for a new run: the folder is new or empty. True: it holds a run that can go on. `auto`:
            either of them.

    Raises:
        UserError: it holds a run and `resume` was not asked for, or none and it was; it holds something else;
            or it holds a run that cannot go on, because its last checkpoint is missing, or something is not
            what a run has there. Nothing has been changed then.
    """
    run = RunFolder(path)
    names = {entry.name for entry in path.iterdir()}
    if MARKER in names:
        run.about()
        if not resume:
            raise UserError(
                f"'{path}' already holds a training run",
                fix="add --resume to go on with it (models.train: resume=True), or name another folder",
            )
        _check_kinds(run)
        _check_goes_on(run)
    elif not _are_leftovers(names):
        raise UserError(
            f"'{path}' holds something that is not a training run: {MARKER} is missing, and there is "
            f"{', '.join(sorted(names)[:3])}",
            fix="name a new or empty folder",
        )
    elif resume is True:
        raise _no_run(path)
    return run


def _no_run(path: Path) -> UserError:
    return UserError(
        f"there is no training run in '{path}' to go on with",
        where="--resume",
        fix="check --out, or leave --resume out to begin a run there",
    )


def _are_leftovers(names: set[str]) -> bool:
    """Whether these are what a run killed in its first moments leaves; a user's own config.yaml is not."""
    own = {CONFIG + ".tmp", MARKER + ".tmp"}
    return names <= (own | {CONFIG} if MARKER + ".tmp" in names else own)


def _check_kinds(run: RunFolder) -> None:
    """Check that nothing in the folder leads elsewhere, or would be waited for."""
    for folder in (run.last.parent, run.tensorboard, run.curves, run.dataset, run.failed):
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            raise _odd(folder, "a folder")
    for file in (run.config_file, run.metrics, run.last, run.best):
        has_file(file)
    if run.metrics.is_symlink():  # it is written in place, others are replaced
        raise _odd(run.metrics, "a file")


def _odd(path: Path, wanted: str) -> UserError:
    found = "a link" if path.is_symlink() else "a file" if path.is_file() else "something else"
    return UserError(
        f"'{path.name}' in the run is {found}, not {wanted}",
        where=str(path),
        fix="put the run's own in its place, or train into another folder",
    )


def _check_goes_on(run: RunFolder) -> None:
    """Check that a run without a last checkpoint has not begun: its first is written before anything else."""
    if run.has_last:
        return
    left = [_name(file) for file in (run.best, run.metrics) if file.exists() and file.stat().st_size]
    if left:
        raise UserError(
            f"{_name(run.last)} is missing, and the run has {' and '.join(left)}: it cannot go on",
            where=str(run.path),
            fix="bring the checkpoint back from a copy, or train into another folder",
        )


def _name(file: Path) -> str:
    """How messages name a file of a run: with its folder in there."""
    return f"{file.parent.name}/{file.name}" if file.parent.name == "checkpoints" else file.name
