"""What a finished training was, and what it cost: `summary.json` in its folder, a point of a scaling law."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from behavior.runtime.versions import NOT_INSTALLED, installed_version
from models.runs.files import write_atomically
from models.tasks.sizes import parameters_of
from models.training.observer import TrainResult

if TYPE_CHECKING:
    from models.training.loop import Training

SUMMARY_FORMAT = "lrm-kit summary"
SUMMARY_FORMAT_VERSION = 1


def write_summary(training: Training, result: TrainResult) -> None:
    """Write it, on the first process; of a run that had ended before, what stands there stays.

    Raises:
        UserError: it cannot be written.
    """
    path = training.run.summary
    if not path.exists() or training.state.step != training.first_step:
        text = json.dumps(summary_of(training, result), indent=2)
        write_atomically(path, text.encode() + b"\n")


def summary_of(training: Training, result: TrainResult) -> dict[str, Any]:
    """Plain values: settings that laws are about, sizes, what was seen, spent and reached."""
    config, state, spent = training.config, training.state, training.state.spent
    count, cuda = training.processes.count, training.device.type == "cuda"
    parameters = parameters_of(training.task.model)
    complete = spent.steps == state.step  # a run that an older version began counted nothing
    seconds = 60.0 * state.minutes
    return {
        "format": SUMMARY_FORMAT,
        "format_version": SUMMARY_FORMAT_VERSION,
        "task": config.task.kind,
        "backbone": config.model.kind,
        "blocks": config.model.blocks,
        "width": config.model.dim,
        "length": config.model.max_length,
        "seed": config.train.seed,
        "learning_rate": config.optimizer.learning_rate,
        "data": training.dataset.get("name"),
        "data_fraction": config.data.fraction,
        "data_by": config.data.fraction_by,
        "part": config.loader.part,
        "parameters": {**parameters._asdict(), "total": parameters.total},
        "sequences": training.loader.samples,
        "unique_events": training.loader.distinct_events,
        "inputs_per_epoch": round(training.loader.tokens_an_epoch),
        "epochs": result.epochs,
        "steps": result.step,
        "tokens": spent.tokens if complete else None,
        "positions": spent.positions if complete else None,
        "flops": spent.flops if complete else None,
        "seconds": seconds,
        "device": torch.cuda.get_device_name(training.device) if cuda else training.device.type,
        "devices": count,
        "precision": training.precision,
        "cuda_graphs": training.captured,
        "gpu_seconds": seconds * count if cuda else 0.0,
        "gpu_joules": spent.joules,
        "train_loss": result.loss,
        "best_epoch": result.best_epoch,
        "valid": {key: value for key, value in result.best_metrics.items() if isinstance(value, int | float)},
        "stopped_by": result.stopped_by,
        "version": installed_version() or NOT_INSTALLED,
    }
