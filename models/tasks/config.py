"""Settings of a task: which it is, and what its model is shown of a sequence."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field

from behavior.config import Config
from models.backbones.config import BackboneConfig
from models.data.config import DataConfig
from models.data.loading.config import LoaderConfig
from models.evaluation.config import EvaluationConfig
from models.inputs.config import EmbeddingConfig
from models.losses.config import LossConfig


class TaskConfig(Config):
    """What the model is trained for."""

    kind: str = Field(
        "retrieval",
        description="retrieval: rank all items for what comes next; or a task registered from Python",
    )


class ModelConfig(BackboneConfig):
    """The backbone, and what it is shown of a sequence."""

    max_length: int = Field(200, ge=1, description="maximum history length N, in events")
    input_behaviors: Literal["all", "target"] | list[str] = Field(
        "all",
        description="behaviors of the events that are inputs, in training and evaluation alike: all, target, "
        "or a list of names; events of others are left out before histories are cut to max_length, targets "
        "stay",
    )
    time: Literal["known", "unknown"] = Field(
        "known",
        description="whether a query knows the timestamp of the event to predict, in training and evaluation "
        "alike",
    )


class TaskSettings(Protocol):
    """What a task is built from; `models.config.RunConfig` has all of it."""

    @property
    def task(self) -> TaskConfig: ...

    @property
    def model(self) -> ModelConfig: ...

    @property
    def embedding(self) -> EmbeddingConfig: ...

    @property
    def loss(self) -> LossConfig: ...

    @property
    def data(self) -> DataConfig: ...

    @property
    def loader(self) -> LoaderConfig: ...

    @property
    def evaluation(self) -> EvaluationConfig: ...
