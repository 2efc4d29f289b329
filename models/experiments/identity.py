"""Which runs are the same, whatever table or line asked for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from models.config import RunConfig
from models.training import FREE_SETTINGS

# What says where and how fast, and neither what is learned nor which checkpoint is judged.
_NO_PART_OF_A_RUN = FREE_SETTINGS - {
    "train.epochs",
    "train.stop_after_epochs",
    "train.max_minutes",
    "train.patience",
    "train.validate_every_epochs",
}

CAME_LATER: dict[str, Any] = {
    "task.kind": "retrieval",
    "evaluation.known_only": False,
    "task.label": None,
    "task.weights": {},
    "task.actions": "interleaved",
    "task.value_edges": [],
    "task.known_features": [],
    "task.members": [],
    "task.collaboration": 0.0,
    "task.retrieval_weight": 0.0,
    "task.counters": [],
    "task.counter_facts": ["count"],
    "task.rates": [],
    "task.counter_dims": [],
    "task.auxiliary": [],
    "task.negatives.ratio": 0.0,
    "task.negatives.judged": 1.0,
    "task.negatives.drawn": "uniform",
    "task.negatives.power": 1.0,
    "task.negatives.left_out": "user",
    "task.head": "mlp",
    "task.head_dims": [64],
    "task.head_dropout": 0.0,
    "task.experts": 4,
    "embedding.layout": "event",
    "model.input_behaviors": "all",
    "evaluation.target_behavior": None,
    "loss.next_behavior_weight": 0.0,
    "loss.behavior_weights": {},
    "embedding.max_feature_values": None,
    "loss.history": "none",
    "loss.history_terms": None,
    "loss.history_dim": 64,
    "loss.history_keys": "outputs",
    "loss.history_fading": 0.1,
    "embedding.domains": "none",
    "embedding.query_domain": "none",
    "data.domain": None,
    "data.fraction": 1.0,
    "data.fraction_by": "users",
    "evaluation.log_loss": False,
    "evaluation.candidates": "all",
    "loss.jumps": "none",
    "loss.jump_training": "joint",
    "loss.jump_share": 0.2,
    "loss.jump_terms": None,
    "loss.jump_dim": 64,
    "loss.jump_events": 12,
    "loss.jump_dropout": 0.0,
    "loss.jump_window": 12,
    "loss.jump_backward": 0.5,
    "loss.jump_neighbors": 100,
    "loss.jump_folds": 4,
    "loss.item_bias": "none",
    "optimizer.item_weight_decay": None,
    "loss.jump_own": "folds",
    "loss.jump_tables": ["both"],
    "loss.jump_session_seconds": 600,
    "loader.sampling.repeat": None,
    "loss.negatives.domain": "across",
    "model.attention_window": None,
    "model.attention_global": 0,
    "loss.trends": "none",
    "loss.trend_hours": [2.0, 24.0, 168.0],
    "loss.trend_of": "targets",
    "optimizer.logit_learning_rate": None,
    "loader.part": "train",
    "train.stop_after_epochs": None,
    "embedding.features_on": "both",
    "embedding.item_features": "all",
    "embedding.event_features": [],
    "embedding.user_features": [],
    "embedding.positions": "add",
    "embedding.id_dropout": None,
    "embedding.attribute_dim": None,
    "loss.attributes_weight": 0.0,
    "loss.attributes": "all",
    "loss.views.weight": 0.0,
    "loss.views.items": 1024,
    "loss.views.temperature": 0.1,
    "loss.views.dropout": 0.2,
    "loss.views.masking": "correlated",
    "model.transfer.rule": "none",
    "model.transfer.base_dim": 64,
    "model.transfer.base_blocks": 2,
    "model.transfer.base_heads": None,
}
"""Settings that earlier records know nothing of, and the value that stands for how runs were made before."""


def run_digest(config: RunConfig, data: str) -> str:
    """16 hexadecimal digits of the settings and the data set; equal for runs that learn and are judged alike.

    A setting in `CAME_LATER` counts only where it is another than how runs were made before it, so that a run
    keeps the digest it was recorded by. A precision of `auto` is one of its own, whatever it stands for on
    the machine: a folder of runs may be looked at on another one.

    Args:
        config: all settings.
        data: the data set's digest.
    """
    settings = config.model_dump(mode="json")
    for free in _NO_PART_OF_A_RUN:
        _drop(settings, free)
    for later, value in CAME_LATER.items():
        _drop(settings, later, only=value)
    text = json.dumps([settings, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def earlier_digest(config: RunConfig, data: str) -> str | None:
    """The digest that a run of precision `auto` was recorded by while that counted as float32; else None.

    Args:
        config: all settings.
        data: the data set's digest.
    """
    if config.train.precision != "auto":
        return None
    train = config.train.model_copy(update={"precision": "32-true"})
    return run_digest(config.model_copy(update={"train": train}), data)


def names_precision(settings: Mapping[str, Any]) -> bool:
    """Whether the settings that a run was recorded with say in what precision it was to be trained.

    Args:
        settings: those in which it differs from its recipe; `--set` are overrides, `key=value`.
    """
    key = "train.precision"
    return key in settings or any(each.startswith(f"{key}=") for each in settings.get("--set", ()))


_ANY = object()


def _drop(settings: dict[str, Any], key: str, only: Any = _ANY) -> None:
    """Take a setting out; one that came later along with a section it leaves empty."""
    *sections, name = key.split(".")
    path = [settings]
    for section in sections:
        path.append(path[-1].get(section, {}))
    if name in path[-1] and (only is _ANY or path[-1][name] == only):
        del path[-1][name]
    for outer, inner, section in reversed(list(zip(path, path[1:], sections, strict=False))):
        if only is not _ANY and not inner:
            outer.pop(section, None)
