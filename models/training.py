"""Training: one loop that can be read from top to bottom, and taken up again where it was cut off."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from lightning.fabric import Fabric

from behavior.shards import ShardFolder, open_shards
from behavior.storage import FolderLike
from models.batch import PackedBatch
from models.build import build_objective, dataset_of, make_loader, time_setting
from models.checkpoint import (
    Checkpoint,
    check_same,
    load_checkpoint,
    load_weights,
    random_state,
    save_checkpoint,
    set_random_state,
)
from models.config import RunConfig
from models.curves import draw_curves
from models.device import pick_device, repeatable
from models.evaluation import model_scorer
from models.loading import Replica, ShardSource
from models.metrics_log import MetricsLog, read_metrics
from models.observer import Silent, StepProgress, TrainObserver, TrainResult, TrainStart, Validation
from models.optimizer import build_optimizer, learning_rate
from models.ranking import evaluate_scorer, excludes_seen
from models.run_folder import RunFolder, claim_run
from models.step_losses import StepLosses
from models.tasks.retrieval import LossBatch

# May change when a run is taken up again: they say how long and how often, not what is learned.
FREE_SETTINGS = {
    "train.epochs",
    "train.max_minutes",
    "train.checkpoint_every_steps",
    "train.log_every_steps",
    "train.validate_every_epochs",
    "train.device",
    "evaluation.batch_size",
    "loader.lookahead",
    "loader.threads",
    "loader.prefetch",
    "loader.cache_mib",
}


def train(
    config: RunConfig,
    data: FolderLike,
    out: Path,
    resume: bool = False,
    observer: TrainObserver | None = None,
) -> TrainResult:
    """Train a model on a shard folder.

    Stops after `train.epochs`, or after `train.max_minutes`, whichever comes first. With `resume` a run that
    exists goes on from its last checkpoint, to the same losses as if it had never stopped; where there is
    none yet, it begins.

    Args:
        config: all settings.
        data: the shard folder; urls too.
        out: the run's folder; see `models.run_folder.RunFolder` for what it holds.
        resume: go on with the run in `out`.
        observer: told about the progress.

    Raises:
        UserError: the data or the run's folder cannot be used, the checkpoint is of another run, or the loss
            stopped being a number.
    """
    shards = open_shards(data)
    run = claim_run(out, resume=resume)
    training = _Training(config, shards, run, observer or Silent())
    if training.loader.epoch < config.train.epochs:
        run.write(config, shards.folder, training.dataset)
    with (
        MetricsLog(run.metrics, run.tensorboard, keep_bytes=training.state.metrics_bytes) as log,
        repeatable(training.fabric.device),
    ):
        try:
            result = training.run_epochs(log)
        finally:
            training.loader.close()
    draw_curves(read_metrics(run.metrics), run.curves)
    training.observer.finished(result)
    return result


@dataclass
class _State:
    """Where a training stands; with the tensors, all that a checkpoint needs."""

    step: int = 0
    epoch: int = 0
    loader: dict[str, Any] = field(default_factory=dict)
    minutes: float = 0.0
    metrics_bytes: int = 0
    best: float | None = None
    best_epoch: int | None = None
    best_metrics: dict[str, Any] = field(default_factory=dict)


class _Training:
    def __init__(
        self, config: RunConfig, shards: ShardFolder, run: RunFolder, observer: TrainObserver
    ) -> None:
        self.config, self.run, self.observer = config, run, observer
        self.settings = config.model_dump(mode="json")
        self.dataset = dataset_of(shards)
        self.state = _State()
        self.sequences = ShardSource(shards, cache_bytes=config.loader.cache_mib << 20)
        self.exclude_seen = excludes_seen(self.sequences, config.evaluation.exclude_seen)
        device = pick_device(config.train.device)
        self.fabric = Fabric(accelerator=device.type, devices=1, precision=config.train.precision)
        self.loader = make_loader(
            config,
            self.sequences,
            shards.manifest.behaviors,
            replica=Replica(self.fabric.global_rank, self.fabric.world_size),
            pin=device.type == "cuda",
        )
        self.fabric.seed_everything(config.train.seed, verbose=False)
        self.objective = build_objective(config, shards)
        self.model = self.objective.model
        self.optimizer = build_optimizer(config.optimizer, self.objective.to(self.fabric.device))
        self.step_module, self.step_optimizer = self.fabric.setup(self.objective, self.optimizer)
        if run.last.exists():
            self._restore(load_checkpoint(run.last))
        self.started = monotonic() - 60.0 * self.state.minutes
        self.losses = StepLosses()
        self.waited = 0.0
        self.last_loss: float | None = None

    def run_epochs(self, log: MetricsLog) -> TrainResult:
        config, state = self.config.train, self.state
        self._tell_start()
        stopped_by = "epochs"
        while self.loader.epoch < config.epochs:
            if self._time_is_up():
                stopped_by = "max_minutes"
                break
            epoch = self.loader.epoch
            finished = self._run_epoch(log)
            due = (epoch + 1) % config.validate_every_epochs == 0 or epoch + 1 == config.epochs
            if due or self._time_is_up():
                self._validate(log, epoch)
            self._save(log)
            if not finished:
                stopped_by = "max_minutes"
                break
        return TrainResult(
            run=self.run.path,
            stopped_by=stopped_by,
            epochs=self.loader.epoch,
            step=state.step,
            minutes=state.minutes,
            loss=self.last_loss,
            best_epoch=state.best_epoch,
            best_metrics=state.best_metrics,
        )

    def _run_epoch(self, log: MetricsLog) -> bool:
        """Train to the end of the epoch; false where time ran out before."""
        config, state = self.config.train, self.state
        self.step_module.train()
        epoch = self.loader.epoch
        self.losses.restart()
        self.waited = self.loader.waited
        for batch in self.loader:
            self._step(batch)
            if state.step % config.log_every_steps == 0 or self.loader.at_end:
                self._report(log, epoch)
            if self.loader.at_end:
                continue
            if self._time_is_up():
                self._report(log, epoch)
                return False
            if state.step % config.checkpoint_every_steps == 0:
                self._report(log, epoch)
                self._save(log)
        return True

    def _step(self, batch: PackedBatch) -> None:
        step = LossBatch(batch)
        state, config = self.state, self.config.optimizer
        done = (self.loader.epoch + self.loader.seen / self.loader.samples) / self.config.train.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.step, done)
        state.step += 1
        if len(step.positions) > 0:
            loss = self.step_module(step.to(self.fabric.device))
            self.step_optimizer.zero_grad()
            self.fabric.backward(loss)
            if config.clip_norm is not None:
                self.fabric.clip_gradients(self.step_module, self.step_optimizer, max_norm=config.clip_norm)
            self.step_optimizer.step()
            self.losses.add(state.step, loss, batch.num_tokens)

    def _report(self, log: MetricsLog, epoch: int) -> None:
        if not self.losses:
            return
        stretch = self.losses.take()
        waiting = (self.loader.waited - self.waited) / stretch.seconds
        self.last_loss, self.waited = stretch.loss, self.loader.waited
        self.state.minutes = self._minutes()
        learning = self.optimizer.param_groups[0]["lr"]
        record = {"epoch": epoch, "loss": self.last_loss, "learning_rate": learning}
        speed = {
            "tokens_per_second": round(stretch.tokens_per_second),
            "waiting": round(waiting, 4),
            "minutes": round(self.state.minutes, 4),
        }
        log.write("train", self.state.step, record | speed)
        left = self.config.train.epochs - epoch - 1
        remaining = len(self.loader) * left + self.loader.batches_left
        self.observer.stepped(
            StepProgress(
                epoch=epoch,
                step=self.state.step,
                total_steps=self.state.step + remaining,
                loss=self.last_loss,
                tokens_per_second=stretch.tokens_per_second,
                learning_rate=learning,
                waiting=waiting,
                minutes=self.state.minutes,
            )
        )

    def _validate(self, log: MetricsLog, epoch: int) -> None:
        state = self.state
        scorer = model_scorer(self.model, self.config.model)
        metrics = evaluate_scorer(
            self.sequences,
            scorer,
            split="valid",
            config=self.config.evaluation,
            exclude_seen=self.exclude_seen,
        )
        metrics["time"] = time_setting(self.config, self.sequences.about)
        log.write("valid", state.step, {"epoch": epoch, **metrics})
        value = metrics[self.config.train.select_by]
        is_best = state.best is None or value > state.best
        if is_best:
            state.best, state.best_epoch, state.best_metrics = value, epoch, metrics
            # Whole epochs done, as in the last checkpoint.
            progress = {"step": state.step, "epoch": self.loader.epoch, "metrics": metrics}
            save_checkpoint(
                self.run.best, Checkpoint(self.settings, self.dataset, progress, self.model.state_dict())
            )
        self.observer.validated(Validation(epoch, state.step, metrics, is_best))

    def _save(self, log: MetricsLog) -> None:
        state = self.state
        state.epoch, state.loader = self.loader.epoch, self.loader.state_dict()
        state.minutes = self._minutes()
        state.metrics_bytes = log.bytes
        save_checkpoint(
            self.run.last,
            Checkpoint(
                config=self.settings,
                dataset=self.dataset,
                progress=asdict(state),
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                random=random_state(),
            ),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        check_same(checkpoint, self.settings, self.dataset, FREE_SETTINGS, self.run.last)
        load_weights(self.model, checkpoint.model, self.run.last)
        assert checkpoint.optimizer is not None
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.state = _State(**checkpoint.progress)
        self.loader.load_state_dict(self.state.loader)
        set_random_state(checkpoint.random)

    def _time_is_up(self) -> bool:
        limit = self.config.train.max_minutes
        return limit is not None and self._minutes() >= limit

    def _minutes(self) -> float:
        return (monotonic() - self.started) / 60.0

    def _tell_start(self) -> None:
        self.observer.started(
            TrainStart(
                run=self.run.path,
                device=str(self.fabric.device),
                parameters=sum(parameter.numel() for parameter in self.model.parameters()),
                sequences=self.loader.samples,
                skipped_sequences=self.loader.skipped,
                tokens_per_epoch=round(self.loader.tokens_an_epoch),
                epochs=self.config.train.epochs,
                steps_per_epoch=len(self.loader),
                step=self.state.step,
                time=time_setting(self.config, self.sequences.about),
                exclude_seen=self.exclude_seen,
            )
        )
