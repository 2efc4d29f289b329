"""The settings of each member of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass

from behavior.config import parse_config
from models.data.config import DataConfig
from models.data.loading.config import LoaderConfig
from models.evaluation.config import EvaluationConfig
from models.inputs.config import EmbeddingConfig
from models.losses.config import LossConfig
from models.tasks.config import ModelConfig, TaskConfig, TaskSettings


@dataclass(frozen=True)
class MemberSettings:
    """`TaskSettings` of one member."""

    task: TaskConfig
    model: ModelConfig
    embedding: EmbeddingConfig
    loss: LossConfig
    data: DataConfig
    loader: LoaderConfig
    evaluation: EvaluationConfig


def members_of(settings: TaskSettings) -> list[MemberSettings]:
    """Those of an ensemble: all settings but the kind of the backbone are the same.

    Raises:
        UserError: there is no such backbone.
    """
    return [
        MemberSettings(
            settings.task,
            parse_config(ModelConfig, {**settings.model.model_dump(), "kind": kind}, where="task.members"),
            settings.embedding,
            settings.loss,
            settings.data,
            settings.loader,
            settings.evaluation,
        )
        for kind in settings.task.members
    ]
