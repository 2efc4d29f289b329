"""Every setting of a training run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, model_validator

from behavior.config import BadValueError, Config, Unused, apply_overrides, parse_config, unused_settings
from behavior.errors import UsageError, UserError
from models.data.config import DataConfig
from models.data.loading.config import LoaderConfig
from models.evaluation.config import EvaluationConfig
from models.inputs.config import EmbeddingConfig
from models.losses.config import LossConfig
from models.optim.config import OptimizerConfig
from models.recipes import load_recipe
from models.runs.names import is_of_a_run
from models.tasks.config import ModelConfig, TaskConfig
from models.tasks.registry import RANKING, RETRIEVAL, Metric, task_kind
from models.tasks.unused import unused_of_task
from models.training.config import TrainConfig

DEFAULT_RECIPE = "default"


class RunConfig(Config):
    """A training run. `lrm train --set section.key=value` changes any of these."""

    task: TaskConfig = Field(TaskConfig(), description="what the model is trained for")
    model: ModelConfig = Field(ModelConfig(), description="the backbone")
    embedding: EmbeddingConfig = Field(EmbeddingConfig(), description="how events become token vectors")
    loss: LossConfig = Field(LossConfig(), description="the training objective")
    optimizer: OptimizerConfig = Field(
        OptimizerConfig(), description="optimizer, learning rate schedule, gradient clipping"
    )
    data: DataConfig = Field(DataConfig(), description="what of the data set the run is about")
    train: TrainConfig = Field(
        TrainConfig(), description="epochs, batch size, validation, checkpoints, devices, precision"
    )
    loader: LoaderConfig = Field(LoaderConfig(), description="how samples are cut, shuffled and read")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="metrics and evaluation protocol")

    @model_validator(mode="before")
    @classmethod
    def _selects_by_default(cls, data: Any) -> Any:
        """Where nothing says what chooses the checkpoint, the task does."""
        task = data.get("task") if isinstance(data, dict) else None
        train = data.get("train") or {} if isinstance(data, dict) else None
        if not isinstance(task, dict) or not isinstance(train, dict) or "select_by" in train:
            return data
        try:
            kind = task_kind(str(task.get("kind", RETRIEVAL.name)))
        except UserError:  # told below
            return data
        if kind.select_by is None:
            return data
        return {**data, "train": {**train, "select_by": kind.select_by(task.get("label"))}}

    @model_validator(mode="after")
    def _selects_by_a_metric(self) -> RunConfig:
        try:
            known = [metric.name for metric in self.metrics()]
        except UserError as error:  # as part of what is wrong with the settings, with their place
            raise BadValueError(error.what, fix=error.fix or "") from None
        if self.train.select_by not in known:
            raise ValueError(
                f"train.select_by is '{self.train.select_by}'; task {self.task.kind} with these "
                f"evaluation.cutoffs has {', '.join(known)}"
            )
        return self

    @model_validator(mode="after")
    def _knows_one_domain(self) -> RunConfig:
        if self.data.domain is not None and not (
            self.loss.within_domain and self.evaluation.candidates == "domain"
        ):
            raise ValueError(
                "data.domain is set: a model of one domain has negatives and candidates of that domain only; "
                "set loss.negatives.domain=within and evaluation.candidates=domain"
            )
        return self

    @model_validator(mode="after")
    def _has_gradients_by_row(self) -> RunConfig:
        scores_all = self.loss.kind == "full_softmax" and (
            self.task.kind != RANKING.name or self.task.retrieval_weight > 0.0
        )
        if self.optimizer.has_sparse_items and scores_all:
            raise ValueError(
                f"optimizer.item_table is {self.optimizer.item_table}, for steps that look few items up, and "
                "loss.kind=full_softmax gives every item a gradient in every step; set "
                "loss.kind=sampled_softmax, or optimizer.item_table=adamw"
            )
        return self

    @model_validator(mode="after")
    def _copies_nothing_from_copies(self) -> RunConfig:
        repeat, loss = self.loader.sampling.repeat, self.loss
        if repeat is None or repeat.separation == "attention":
            return self
        for name in ("history", "jumps"):
            if getattr(loss, name) != "none":
                raise ValueError(
                    f"loss.{name} is {getattr(loss, name)}: past events compete in the softmax, and in a "
                    "repeated sample what is predicted stands among them; set "
                    "loader.sampling.repeat.separation=attention"
                )
        return self

    def unused(self) -> Iterator[Unused]:
        """See `behavior.config.Config.unused`."""
        return unused_of_task(self)

    def metrics(self) -> list[Metric]:
        """What evaluations of the task give."""
        kind = task_kind(self.task.kind)
        return kind.metrics(self.evaluation) if kind.metrics_of is None else kind.metrics_of(self.task)

    @property
    def selection_metric(self) -> Metric:
        """The metric that chooses the best checkpoint."""
        return next(metric for metric in self.metrics() if metric.name == self.train.select_by)


def load_config(
    recipe: str | Path = DEFAULT_RECIPE,
    overrides: Iterable[str] = (),
    *,
    flags: Mapping[str, str] = MappingProxyType({}),
    shared: Iterable[str] = (),
) -> RunConfig:
    """A recipe with settings changed.

    Args:
        recipe: name of one that ships with the package, or path of a YAML file.
        overrides: `section.key=value` settings.
        flags: which of them a flag gave: `train.epochs`: `--epochs`, for the error.
        shared: such settings before them, of several runs, of which some may make others idle.

    A setting that changes nothing, since what it is of is off, is refused where it is given: in the recipe,
    unless that is what a run wrote down, and among the overrides, which may turn off what a recipe details.

    Raises:
        UserError: the recipe is not known or wrong; names the nearest one.
        UsageError: a setting is wrong; names the nearest key.
    """
    overrides = list(overrides)
    data = load_recipe(recipe)
    own = parse_config(RunConfig, data, where=f"recipe {recipe}")
    if not is_of_a_run(recipe):
        for key, why in unused_settings(own):
            raise UserError(f"'{key.rpartition('.')[0]}': {why}", where=f"recipe {recipe}")
    every = [*shared, *overrides]
    changed = apply_overrides(data, every)
    try:
        config = parse_config(RunConfig, changed, where=lambda key: _given_by(every, flags, key))
    except UserError as error:
        raise UsageError(error.what, where=error.where, fix=error.fix) from None
    given = [setting.partition("=")[0].strip() for setting in overrides]
    for key, why in unused_settings(config):
        if any(f"{key}.".startswith(f"{name}.") for name in given):
            section = key.rpartition(".")[0]
            raise UsageError(f"'{section}': {why}", where=_given_by(overrides, flags, key))
    unsound = config.loss.unsound()
    if unsound is not None and not is_of_a_run(recipe):
        raise UsageError(f"'loss': {unsound}", where=_given_by(every, flags, "loss"))
    return config


def _given_by(overrides: list[str], flags: Mapping[str, str], key: str) -> str:
    """The flags and settings that a key or a section has its values from; all, where it has none of them."""
    names = {setting: setting.partition("=")[0].strip() for setting in overrides}
    own = [
        setting
        for setting, name in names.items()
        if f"{name}.".startswith(f"{key}.") or f"{key}.".startswith(f"{name}.")
    ]
    return " ".join(flags.get(names[setting], f"--set {setting}") for setting in own or overrides)
