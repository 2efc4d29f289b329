"""Settings that are left to the machine: decided once, when a run begins, and written down with it."""

from __future__ import annotations

from pathlib import Path

from models.config import RunConfig
from models.gpu.device import pick_device
from models.gpu.precision import pick_precision
from models.runs.files import has_file
from models.runs.run_folder import Resume, RunFolder


def decided(config: RunConfig, out: Path, resume: Resume) -> RunConfig:
    """The same settings with the precision that `auto` stands for here.

    A run that goes on keeps its own, wherever that is: what is learned must not change on the way.

    Args:
        config: all settings.
        out: the run's folder.
        resume: whether a run in there goes on.

    Raises:
        UserError: there is no GPU, and one is asked for; or the settings of the run cannot be read.
    """
    if config.train.precision != "auto":
        return config
    run = RunFolder(out)
    kept = None
    if resume and has_file(run.marker) and has_file(run.config_file):
        kept = (run.settings().get("train") or {}).get("precision")
    if kept not in ("32-true", "bf16-mixed"):
        kept = pick_precision("auto", pick_device(config.train.device))
    train = config.train.model_copy(update={"precision": kept})
    return config.model_copy(update={"train": train})
