"""The state of a training, and how checkpoints of it are saved and resumed from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import nn

from behavior.config import parse_config
from behavior.problems import first_problem
from models.config import RunConfig
from models.distributed.processes import Processes
from models.distributed.tables import WholeStates
from models.optim import OptimizerSet
from models.optim.saved import check_groups, expected_state, with_own_settings
from models.runs.checkpoint import (
    Checkpoint,
    check_same,
    check_weights,
    load_checkpoint,
    load_weights,
    random_state,
    save_checkpoint,
    set_random_state,
)
from models.runs.former import optimizer_without_former
from models.runs.records import Count
from models.runs.tensors import DAMAGED, Expected, check_tensors, raise_for_problems
from models.training.spent import Spent
from models.training.start import Adapter

# May change when a run is resumed: they say how long, how often and where, not what is learned.
FREE_SETTINGS = {
    "train.epochs",
    "train.stop_after_epochs",
    "train.max_minutes",
    "train.patience",
    "train.accumulate",
    "train.checkpoint_every_steps",
    "train.log_every_steps",
    "train.validate_every_epochs",
    "train.device",
    "train.devices",
    "train.item_table",
    "train.compile",
    "train.cuda_graphs",
    "evaluation.batch_size",
    "evaluation.bootstrap",
    "evaluation.by",
    "evaluation.new_items",
    "loader.lookahead",
    "loader.threads",
    "loader.prefetch",
    "loader.cache_mib",
}

# What validation chose for a refit: none of it may change on the way.
_CHOSEN = {"train.epochs", "train.stop_after_epochs"}

_PROCESS = "process-"


Number = Annotated[float, Field(strict=True)]
Minutes = Annotated[Number, Field(ge=0.0, allow_inf_nan=False)]


@dataclass
class TrainState:
    """Progress of a training; with the tensors, all that a checkpoint needs."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    step: Count = 0
    epoch: Count = 0
    loader: dict[str, Any] = field(default_factory=dict)
    minutes: Minutes = 0.0
    metrics_bytes: Count = 0
    best: Number | None = None
    best_epoch: Count | None = None
    best_metrics: dict[str, Any] = field(default_factory=dict)
    without_improvement: Count = 0
    """Validations of whole epochs since the best one."""
    spent: Spent = field(default_factory=Spent)


_TRAIN_STATE = TypeAdapter(TrainState)


@dataclass(frozen=True)
class Learned:
    """What training changes: the weights, the optimizer's state, the random generators."""

    config: RunConfig
    dataset: dict[str, Any]
    model: nn.Module
    optimizer: OptimizerSet
    processes: Processes
    device: torch.device
    adapter: Adapter

    def save(self, path: Path, state: TrainState) -> None:
        """Write a checkpoint to resume from. Collective; the first process writes."""
        random = self.processes.all_gather_object(random_state(self.device))
        checkpoint = self._checkpoint(asdict(state))
        optimizer = self._whole_states.whole_optimizer(self.optimizer.state_dict())
        if not self.processes.is_first:
            return
        named = {
            f"{_process(rank)}{name}": value
            for rank, states in enumerate(random)
            for name, value in states.items()
        }
        save_checkpoint(path, replace(checkpoint, optimizer=optimizer, random=named))

    def save_model(self, path: Path, progress: dict[str, Any]) -> None:
        """Write a checkpoint of the weights alone. Collective; the first process writes."""
        checkpoint = self._checkpoint(progress)
        if self.processes.is_first:
            save_checkpoint(path, checkpoint)

    def start_from(self, run: Path) -> None:
        """Take the weights of another run, and nothing else of it.

        Raises:
            UserError: they cannot be read, or do not fit the model; see `Adapter.from_run`.
        """
        saved, path = self.adapter.from_run(run)
        check_weights(self.model, saved.model, path, self._whole_states.rows)
        load_weights(self.model, self._whole_states.own_weights(saved.model), path)

    def restore(self, path: Path) -> tuple[TrainState, bool]:
        """Load everything from a checkpoint, which another number of processes may have written.

        Where it was made on an earlier version of the data set, new rows of tables are fresh, the epoch that
        was not finished begins again, and so does the search for the best validation: its targets are others.

        Returns:
            The state, and whether it is of an earlier version of the data set: it has no loader's state then.

        Raises:
            UserError: it is damaged, or of another run.
        """
        saved = load_checkpoint(path)
        earlier = saved.dataset.get("digest") != self.dataset["digest"]
        checkpoint = self.adapter.to_later_version(saved, self.dataset)
        # Settings that came later have their defaults, which is how the run was trained.
        config = parse_config(RunConfig, checkpoint.config, where=str(path)).model_dump(mode="json")
        saved = replace(checkpoint, config=config)
        is_refit = self.config.loader.part != "train" and config["train"]["stop_after_epochs"] is not None
        free = FREE_SETTINGS - _CHOSEN if is_refit else FREE_SETTINGS
        check_same(saved, self._settings(), self.dataset, free, path)
        state = _state(saved, path)
        check_weights(self.model, saved.model, path, self._whole_states.rows)
        optimizer = self._optimizer_state(saved, path, has_steps=state.step > 0)
        load_weights(self.model, self._whole_states.own_weights(saved.model), path)
        self.optimizer.load_state_dict(self._whole_states.own_optimizer(optimizer))
        random = _of_process(saved.random, self.processes.rank)
        if random or self.processes.is_first:
            set_random_state(random, self.device, path)
        else:  # There were fewer processes: a stream that none of them has had.
            torch.manual_seed(hash((self.config.train.seed, self.processes.rank, state.step)))
        if earlier:
            state = TrainState(
                state.step, state.epoch, {}, state.minutes, state.metrics_bytes, spent=state.spent
            )
        return state, earlier

    def _optimizer_state(self, saved: Checkpoint, path: Path, *, has_steps: bool) -> dict[str, Any]:
        """The optimizer's state in a checkpoint, whole, as it is numbered now.

        Raises:
            UserError: it is not of these parameters, or damaged.
        """
        if saved.optimizer is None or (has_steps and not saved.optimizer["state"]):
            raise_for_problems(["the optimizer's state is missing"], DAMAGED, path)
        state: dict[str, Any] = saved.optimizer or {}
        try:
            check_groups(state, self.optimizer)
            groups = self.optimizer.param_groups
            state = optimizer_without_former(self.model, groups, saved.model, state)
            state = with_own_settings(state, self.optimizer)
        except ValidationError as error:
            raise_for_problems([f"param_groups: {first_problem(error)}"], DAMAGED, path)
        except ValueError as error:
            raise_for_problems([f"of the optimizer's state, {error}"], DAMAGED, path)
        found = {
            f"{number}.{name}": value
            for number, values in state["state"].items()
            for name, value in values.items()
        }
        shapes = expected_state(state, self.optimizer, self._whole_shapes())
        expected = {name: Expected(tuple(shape), torch.float32) for name, shape in shapes.items()}
        check_tensors(found, expected, "the parameter", path, prefix="optimizer.")
        return state

    def _whole_shapes(self) -> list[torch.Size]:
        """Shapes of all parameters as the optimizer numbers them, item tables whole."""
        rows = self._whole_states.rows_by_number
        return [
            torch.Size((rows[number], *parameter.shape[1:])) if number in rows else parameter.shape
            for number, parameter in enumerate(self.optimizer.parameters)
        ]

    def _checkpoint(self, progress: dict[str, Any]) -> Checkpoint:
        weights = self._whole_states.whole_weights(self.model.state_dict())
        return Checkpoint(self._settings(), self.dataset, progress, weights)

    @cached_property
    def _whole_states(self) -> WholeStates:
        return WholeStates(self.model, self.optimizer.parameters)

    def _settings(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")


def _state(saved: Checkpoint, path: Path) -> TrainState:
    try:
        return _TRAIN_STATE.validate_python(saved.progress)
    except ValidationError as error:
        raise_for_problems([f"progress.{first_problem(error)}"], DAMAGED, path)
        raise AssertionError from error


def _process(rank: int) -> str:
    """Prefix of a process's random state in a checkpoint; the first one has none."""
    return f"{_PROCESS}{rank}." if rank else ""


def _of_process(random: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    if rank == 0:
        return {name: value for name, value in random.items() if not name.startswith(_PROCESS)}
    own = _process(rank)
    return {name.removeprefix(own): value for name, value in random.items() if name.startswith(own)}
