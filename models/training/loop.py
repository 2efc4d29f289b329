"""The course of a training: epochs of steps, reports, validations, checkpoints, and when it ends."""

from __future__ import annotations

from typing import Any

from behavior.shards.folder import ShardFolder
from models.build import build_objective, dataset_of, make_loader, time_setting
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.data.loading import ShardSource
from models.distributed.processes import SINGLE, Processes
from models.evaluate_run import model_scorer
from models.evaluation.ranking import evaluate_scorer, excludes_seen
from models.optim import build_optimizer
from models.optim.schedule import learning_rate_factor
from models.runs.metrics_log import MetricsLog
from models.runs.run_folder import RunFolder
from models.tasks.retrieval import RetrievalObjective
from models.training.clock import Clock
from models.training.compile import compile_blocks
from models.training.cuda_graph import CudaGraphs
from models.training.fabric import make_fabric
from models.training.flops import training_flops
from models.training.losses import StepLosses
from models.training.observer import TrainObserver, TrainResult, TrainStart, Validation
from models.training.recorded_step import RecordedStepper, records_steps
from models.training.report import Reporter
from models.training.state import Learned, TrainState
from models.training.step import Stepper, steps_of


class Training:
    """One process's part in a training.

    Args:
        config: all settings.
        shards: the data.
        run: the run's folder; a checkpoint in it is gone on from.
        observer: told about the progress, on the first process.
        processes: this one and the others.
    """

    def __init__(
        self,
        config: RunConfig,
        shards: ShardFolder,
        run: RunFolder,
        observer: TrainObserver,
        processes: Processes,
    ) -> None:
        self.config, self.run, self.observer, self.processes = config, run, observer, processes
        self.dataset = dataset_of(shards)
        self.sequences = ShardSource(shards, cache_bytes=config.loader.cache_mib << 20)
        self.exclude_seen = excludes_seen(self.sequences, config.evaluation.exclude_seen)
        self.fabric = make_fabric(config.train, processes)
        self.device = self.fabric.device
        recorded = records_steps(config, self.device, processes)
        self.loader = make_loader(
            config,
            self.sequences,
            shards.manifest.behaviors,
            rank=processes.rank,
            num_replicas=processes.count,
            pin=self.device.type == "cuda",
        )
        self.fabric.seed_everything(config.train.seed, verbose=False)
        owners = processes if config.train.item_table == "sharded" else SINGLE
        objective = build_objective(config, shards, owners).to(self.device)
        self.model = objective.model
        if processes.rank:  # weights are alike everywhere, dropout and negatives are not
            self.fabric.seed_everything(config.train.seed + processes.rank, verbose=False)
        self.optimizer = build_optimizer(config.optimizer, objective)
        if config.train.compile:
            compile_blocks(self.model.backbone, self.device)
        self.stepper = self._make_stepper(objective, recorded)
        self.learned = Learned(config, self.dataset, self.model, self.optimizer, processes, self.device)
        self.state = TrainState()
        if processes.broadcast_object(run.last.exists()):
            self.state = self.learned.restore(run.last)
            self.loader.load_state_dict(self.state.loader)
        self.flops = training_flops(self.model, config)
        self.losses = StepLosses(processes, run.failed)
        self.clock = Clock(self.state.minutes, self.state.step)

    def _make_stepper(self, objective: RetrievalObjective, recorded: bool) -> Stepper:
        clip_norm = self.config.optimizer.clip_norm
        if not recorded:
            return Stepper(self.fabric, self.processes, objective, self.optimizer, clip_norm)
        graphs, longest = CudaGraphs(self.device, self.optimizer), self.config.model.max_length
        return RecordedStepper(self.fabric, objective, self.optimizer, clip_norm, longest, graphs)

    def run_epochs(self, log: MetricsLog | None) -> TrainResult:
        """Train until something ends it.

        Args:
            log: where records go; only the first process has one.
        """
        self._tell_start()
        reporter = Reporter(
            self.config, self.loader, self.losses, self.clock, self.device, self.processes, log, self.observer
        )
        while (ended := self._ended()) is None:
            epoch = self.loader.epoch
            finished = self._run_epoch(reporter)
            every = self.config.train.validate_every_epochs
            due = (epoch + 1) % every == 0 or epoch + 1 == self.config.train.epochs
            if due or not finished or self._time_is_up():
                self._validate(log, epoch, counts=finished and due)
            self._save(log)
        if self.state.best is None and self.state.step:
            # Gone on with where a limit, lowered since, had been reached: there is nothing to judge by yet.
            self._validate(log, max(self.loader.epoch - 1, 0), counts=False)
            self._save(log)
        return TrainResult(
            run=self.run.path,
            stopped_by=ended,
            epochs=self.loader.epoch,
            step=self.state.step,
            minutes=self.state.minutes,
            loss=reporter.loss,
            best_epoch=self.state.best_epoch,
            best_metrics=self.state.best_metrics,
        )

    def _ended(self) -> str | None:
        """What ends the training before its next epoch, as `TrainResult.stopped_by`."""
        config, state = self.config.train, self.state
        if self.loader.epoch >= config.epochs:
            return "epochs"
        if config.patience is not None and state.without_improvement >= config.patience:
            return "patience"
        return "max_minutes" if self._time_is_up() else None

    def _run_epoch(self, reporter: Reporter) -> bool:
        """Train to the end of the epoch; false where time ran out before."""
        config, state = self.config.train, self.state
        self.stepper.module.train()
        reporter.start_epoch()
        for parts in steps_of(self.loader, config.accumulate):
            self._step(parts, reporter.epoch)
            if state.step % config.log_every_steps == 0 or self.loader.at_end:
                reporter.report(state, self.optimizer)
            if self.loader.at_end:
                continue
            if self._time_is_up():
                reporter.report(state, self.optimizer)
                return False
            if state.step % config.checkpoint_every_steps == 0:
                reporter.report(state, self.optimizer)
                self._save(reporter.log)
        return True

    def _step(self, parts: list[PackedBatch], epoch: int) -> None:
        config, loader = self.config.optimizer, self.loader
        done = (epoch + loader.seen / loader.samples) / self.config.train.epochs
        self.optimizer.scale_learning_rates(
            learning_rate_factor(config.schedule, config.warmup_steps, self.state.step, done)
        )
        self.state.step += 1
        taken = self.stepper.take(parts, self.state.step, epoch)
        if taken is not None:
            self.losses.add(taken, self.flops.of(taken.work))

    def _validate(self, log: MetricsLog | None, epoch: int, *, counts: bool) -> None:
        """Judge the model; all processes do, each by a share of the targets.

        Args:
            log: where the metrics go.
            epoch: from 0.
            counts: for `train.patience`; a look before the epoch is done, or when none is due, does not.
        """
        self.losses.check_weights(self.optimizer.parameters)
        state = self.state
        metrics = self.processes.broadcast_object(self._evaluate())
        value = metrics[self.config.train.select_by]
        is_best = state.best is None or value > state.best
        if is_best:
            state.best, state.best_epoch, state.best_metrics = value, epoch, metrics
        state.without_improvement = 0 if is_best else state.without_improvement + counts
        if log is not None:
            log.write("valid", state.step, {"epoch": epoch, **metrics})
        if is_best:
            # Whole epochs done, as in the last checkpoint.
            progress = {"step": state.step, "epoch": self.loader.epoch, "metrics": metrics}
            self.learned.save_model(self.run.best, progress)
        if log is not None:
            self.observer.validated(Validation(epoch, state.step, metrics, is_best))

    def _evaluate(self) -> dict[str, Any]:
        metrics = evaluate_scorer(
            self.sequences,
            model_scorer(self.model, self.config.model),
            split="valid",
            config=self.config.evaluation,
            exclude_seen=self.exclude_seen,
            processes=self.processes,
        )
        return metrics | {"time": time_setting(self.config, self.sequences.about)}

    def _save(self, log: MetricsLog | None) -> None:
        self.losses.check_weights(self.optimizer.parameters)
        state = self.state
        state.epoch, state.loader = self.loader.epoch, self.loader.state_dict()
        state.minutes = self.clock.minutes()
        state.metrics_bytes = 0 if log is None else log.bytes
        self.learned.save(self.run.last, state)

    def _time_is_up(self) -> bool:
        limit = self.config.train.max_minutes
        return limit is not None and self.processes.broadcast_object(self.clock.minutes() >= limit)

    def _tell_start(self) -> None:
        if not self.processes.is_first:
            return
        several = f"{self.processes.count} x " if self.processes.count > 1 else ""
        self.observer.started(
            TrainStart(
                run=self.run.path,
                device=f"{several}{self.device}",
                parameters=self.model.num_parameters,
                sequences=self.loader.samples,
                skipped_sequences=self.loader.skipped,
                tokens_per_epoch=round(self.loader.tokens_an_epoch),
                epochs=self.config.train.epochs,
                steps_per_epoch=-(-len(self.loader) // self.config.train.accumulate),
                step=self.state.step,
                time=time_setting(self.config, self.sequences.about),
                exclude_seen=self.exclude_seen,
            )
        )
