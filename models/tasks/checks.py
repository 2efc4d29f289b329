"""Whether the parts of a task are what `models.tasks.task` says; a task's author reads these errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from models.evaluation.config import EvaluationConfig
from models.tasks.registry import Metric
from models.tasks.task import Evaluator


def check_evaluator(evaluator: Evaluator) -> None:
    """Check that an evaluator has the attributes that are read, before anything is trained.

    Raises:
        TypeError: `config` or `protocol` is missing, or something else.
    """
    for name, wanted in (("config", EvaluationConfig), ("protocol", dict)):
        if not isinstance(getattr(evaluator, name, None), wanted):
            kind = type(evaluator).__name__
            raise TypeError(f"{kind}.{name} must be of the type {wanted.__name__}: set it in __init__")
    _check_plain(f"{type(evaluator).__name__}.protocol", evaluator.protocol)


def check_metrics(found: Any, metrics: Sequence[Metric], protocol: dict[str, Any]) -> None:
    """Check what an evaluation gave.

    Args:
        found: of `Evaluator.evaluate`.
        metrics: those that the task's kind names.
        protocol: of the evaluator.

    Raises:
        TypeError: it is no dict of plain values, a metric is no number, or has another name than its kind
            gives it. Without anybody to evaluate all metrics may be missing, but not some of them.
    """
    if not isinstance(found, dict):
        raise TypeError(f"Evaluator.evaluate must give a dict of metrics, and gave {type(found).__name__}")
    names = [metric.name for metric in metrics]
    for name in names:
        value = found.get(name, 0.0)
        if not isinstance(value, int | float):
            raise TypeError(f"metric '{name}' must be a float, and is {type(value).__name__}: float(value)")
    missing = [metric.name for metric in metrics if metric.always and metric.name not in found]
    others = [name for name, value in found.items() if isinstance(value, float) and name not in protocol]
    if missing and others:
        raise TypeError(
            f"the task's kind names {', '.join(names)}, and Evaluator.evaluate gave {', '.join(others)}, "
            f"without {', '.join(missing)}: use the same names"
        )
    _check_plain("Evaluator.evaluate", found)


def check_loss(loss: Any) -> None:
    """Check what an objective gave; its value is not looked at.

    Raises:
        TypeError: it is no scalar of a floating-point type.
    """
    if isinstance(loss, torch.Tensor) and loss.dim() == 0 and loss.is_floating_point():
        return
    shape = f"{list(loss.shape)} {loss.dtype}" if isinstance(loss, torch.Tensor) else type(loss).__name__
    raise TypeError(
        f"Task.objective must give a scalar, the sum of all losses over the denominator, and gave {shape}"
    )


def _check_plain(whose: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        try:
            json.dumps(value)
        except TypeError:
            kind = type(value).__name__
            raise TypeError(
                f"{whose}: '{name}' is {kind}, and must be a plain value (float, int, str, list, dict)"
            ) from None
