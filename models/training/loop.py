"""The course of a training: epochs of steps, reports, validations, checkpoints, and when it ends."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from behavior.shards.folder import ShardFolder
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.distributed.processes import Processes
from models.gpu.energy import EnergyMeter
from models.gpu.precision import pick_precision
from models.optim.schedule import learning_rate_factor
from models.runs.metrics_log import NO_LOG, Log
from models.runs.run_folder import RunFolder
from models.tasks.checks import check_metrics
from models.tasks.registry import Metric
from models.training.captured_step import CapturedStepper, why_not_captured
from models.training.clock import Clock
from models.training.flops import peak_flops
from models.training.interrupt import Interruption
from models.training.losses import StepLosses
from models.training.observer import Silent, TrainObserver, TrainResult, TrainStart, Validation
from models.training.report import Pace, Reporter
from models.training.setup import set_up
from models.training.start import Adapter
from models.training.state import Learned, TrainState
from models.training.step import steps_of


class Training:
    """One process's part in a training.

    Args:
        config: all settings.
        shards: the data.
        run: the run's folder; if there is a checkpoint in it, training resumes from there.
        observer: told about the progress, on the first process.
        processes: this one and the others.
        init: a run whose weights this one begins with, where it has no checkpoint of its own.
    """

    def __init__(
        self,
        config: RunConfig,
        shards: ShardFolder,
        run: RunFolder,
        observer: TrainObserver,
        processes: Processes,
        init: Path | None = None,
    ) -> None:
        self.config, self.run, self.processes = config, run, processes
        self.observer = observer if processes.is_first else Silent()
        setup = set_up(config, shards, processes)
        self.device, self.dataset, self.loader = setup.fabric.device, setup.dataset, setup.loader
        self.task, self.evaluator = setup.task, setup.evaluator
        self.optimizer, self.stepper = setup.optimizer, setup.stepper
        self.precision = pick_precision(config.train.precision, self.device)
        adapter = Adapter(config, shards, self.task, self.optimizer)
        model, optimizer = self.task.model, self.optimizer
        self.learned = Learned(config, self.dataset, model, optimizer, processes, self.device, adapter)
        self.state = TrainState()
        self.on_later_version = False
        if processes.on_first(lambda: run.has_last):
            self.state, self.on_later_version = self.learned.restore(run.last)
            if self.on_later_version:
                self.loader.start_epoch(self.state.epoch)
            else:
                self.loader.load_state_dict(self.state.loader, where=str(run.last))
            processes.on_first(lambda: run.check_best(self.state.best_epoch))
        elif init is not None:
            self.learned.start_from(init)
        self.first_step = self.state.step
        """Steps that were taken before."""
        self.validates = config.loader.part == "train"
        """Whether there is anything to validate on: not where validation events are trained on."""
        self.flops = self.task.flops()
        self.losses = StepLosses(processes, run.failed)
        self.clock = Clock(self.state.minutes, self.state.step)
        self.meter, self.joules_before = EnergyMeter(self.device), self._joules_before()
        self.interruption = Interruption()

    def run_epochs(self, log: Log = NO_LOG) -> TrainResult:
        """Train until something ends it.

        Args:
            log: where records go; only the first process has one.

        Raises:
            KeyboardInterrupt: once a checkpoint of the steps so far is written.
            UserError: see `models.training.train`.
        """
        with self.interruption.awaited():
            return self._run_epochs(log)

    def _run_epochs(self, log: Log) -> TrainResult:
        self._tell_start()
        if not self.processes.on_first(lambda: self.run.has_last):
            # A run that has anything to lose has a checkpoint: without one it may begin anew.
            self._save(log)
        pace = Pace(self.config.train, self.loader, self.clock)
        peak = peak_flops(self.device, self.precision)
        reporter = Reporter(
            pace, self.losses, log, self.observer, None if peak is None else peak * self.processes.count
        )
        while (ended := self._ended()) is None:
            epoch = self.loader.epoch
            finished = self._run_epoch(reporter)
            every = self.config.train.validate_every_epochs
            due = (epoch + 1) % every == 0 or epoch + 1 == self.config.train.epochs_to_train
            if due or not finished or self._time_is_up():
                self._validate(log, epoch, counts=finished and due)
            self._save(log)
            self._end_if_interrupted()
        if self.state.best_epoch is None and self.state.step:
            # Resumed where a limit, lowered since, had been reached: there is no validation yet.
            self._validate(log, max(self.loader.epoch - 1, 0), counts=False)
            self._save(log)
        return TrainResult(
            run=self.run.path,
            stopped_by=ended,
            epochs=self.loader.epoch,
            step=self.state.step,
            minutes=self.state.minutes,
            loss=reporter.loss,
            best_epoch=None if self.state.best_epoch is None else self.state.best_epoch + 1,
            best_metrics=self.state.best_metrics,
        )

    def _ended(self) -> str | None:
        """Why training stops before its next epoch, as `TrainResult.stopped_by`; None: it goes on."""
        config, state = self.config.train, self.state
        if self.loader.epoch >= config.epochs_to_train:
            return "epochs"
        if config.patience is not None and state.without_improvement >= config.patience:
            return "patience"
        return "max_minutes" if self._time_is_up() else None

    def _run_epoch(self, reporter: Reporter) -> bool:
        """Train to the end of the epoch; false where time ran out before."""
        config, state = self.config.train, self.state
        self.stepper.module.train()
        reporter.start_epoch()
        done = self._progress(reporter.epoch)
        for parts in steps_of(self.loader, config.accumulate):
            self._step(parts, reporter.epoch, done)
            reporter.settle(state)
            done = self._progress(reporter.epoch)
            if self.loader.at_end:
                reporter.report(state, self.optimizer)
            elif state.step % config.log_every_steps == 0:
                reporter.report_later(state, self.optimizer)
                if self.device.type != "cuda":  # there, nothing is gained by waiting
                    reporter.settle(state)
            if self.loader.at_end:
                continue
            if self._time_is_up():
                reporter.report(state, self.optimizer)
                return False
            interrupted = self._is_interrupted()
            if interrupted or state.step % config.checkpoint_every_steps == 0:
                reporter.report(state, self.optimizer)
                self._save(reporter.log)
            if interrupted:
                raise KeyboardInterrupt
        return True

    def _is_interrupted(self) -> bool:
        """Whether Ctrl-C was pressed; with several processes they agree on it only now and then."""
        if self.processes.count == 1:
            return self.interruption.came
        if self.state.step % self.config.train.log_every_steps:
            return False
        return self.processes.broadcast_object(self.interruption.came)

    def _end_if_interrupted(self) -> None:
        if self.processes.broadcast_object(self.interruption.came):
            raise KeyboardInterrupt

    def _progress(self, epoch: int) -> float:
        """Share of the training that is done, 0 to 1."""
        return (epoch + self.loader.seen / self.loader.samples) / self.config.train.epochs

    def _step(self, parts: list[PackedBatch], epoch: int, done: float) -> None:
        config = self.config.optimizer
        self.optimizer.scale_learning_rates(
            learning_rate_factor(config.schedule, config.warmup_steps, self.state.step, done)
        )
        self.state.step += 1
        taken = self.stepper.take(parts, self.state.step, epoch)
        if taken is not None:
            self.losses.add(taken, self.flops.of(taken.work))
            self.state.spent.add(taken.work, self.flops)

    def _validate(self, log: Log, epoch: int, *, counts: bool) -> None:
        """Evaluate on the validation split; all processes do, each on a share of the targets.

        Args:
            log: where the metrics go.
            epoch: from 0.
            counts: for `train.patience`; one in the middle of an epoch, or when none is due, does not.
        """
        self.losses.check_weights(self.optimizer.parameters)
        state = self.state
        found = self.evaluator.evaluate("valid", self.processes) if self.validates else {}
        if self.processes.is_first:  # the others' is not looked at
            check_metrics(found, self.config.metrics(), self.evaluator.protocol)
        metrics = self.processes.broadcast_object(found)
        metric = self.config.selection_metric
        value = number_of(metrics, metric)
        is_best = value is not None and metric.improves(value, state.best)
        # Where nobody validates, the latest is the best there is.
        chosen = is_best or (value is None and state.best is None)
        if chosen:
            state.best, state.best_epoch, state.best_metrics = value, epoch, metrics
        if value is not None:
            state.without_improvement = 0 if is_best else state.without_improvement + counts
        if self.validates:
            spent = {"tokens": state.spent.tokens, "flops": state.spent.flops}
            clock = {"minutes": round(self.clock.minutes(), 4)}
            log.write("valid", state.step, {"epoch": epoch + 1, **metrics, **spent, **clock})
        if chosen:
            # Whole epochs done, as in the last checkpoint.
            progress = {"step": state.step, "epoch": self.loader.epoch, "metrics": metrics}
            self.learned.save_model(self.run.best, progress)
        if self.validates:
            lacks = metric.name if value is None else None
            self.observer.validated(Validation(epoch + 1, state.step, metrics, is_best, lacks))

    def _save(self, log: Log) -> None:
        self.losses.check_weights(self.optimizer.parameters)
        state = self.state
        state.epoch, state.loader = self.loader.epoch, self.loader.state_dict()
        state.minutes = self.clock.minutes()
        state.spent.joules = self._joules()
        state.metrics_bytes = log.bytes
        self.learned.save(self.run.last, state)

    def _joules_before(self) -> float | None:
        """Of a run that goes on, as far as they are known."""
        return self.state.spent.joules if self.state.step else 0.0

    def _joules(self) -> float | None:
        """Of the devices of all processes, all resumptions together."""
        own = self.meter.joules()
        *found, told = self.processes.sum([own or 0.0, float(own is not None)])
        known = self.joules_before is not None and told == self.processes.count
        return self.joules_before + found[0] if known and self.joules_before is not None else None

    @property
    def captured(self) -> bool:
        """Whether steps are CUDA graphs."""
        return isinstance(self.stepper, CapturedStepper) and self.stepper.captures

    def _time_is_up(self) -> bool:
        limit = self.config.train.max_minutes
        return limit is not None and self.processes.broadcast_object(self.clock.minutes() >= limit)

    def _users_to_validate(self) -> int | None:
        return self.evaluator.users("valid") if self.validates and self.processes.is_first else None

    def _tell_start(self) -> None:
        several = f"{self.processes.count} x " if self.processes.count > 1 else ""
        self.observer.started(
            TrainStart(
                run=self.run.path,
                device=f"{several}{self.device}",
                parameters=self.task.num_parameters,
                sequences=self.loader.samples,
                skipped_sequences=self.loader.skipped,
                tokens_per_epoch=round(self.loader.tokens_an_epoch),
                epochs=self.config.train.epochs_to_train,
                steps_per_epoch=-(-len(self.loader) // self.config.train.accumulate),
                step=self.state.step,
                protocol=self.evaluator.protocol,
                warmup_steps=self.config.optimizer.warmup_steps,
                on_later_version=self.on_later_version,
                validated=self._users_to_validate(),
                part=self.config.loader.part,
                precision=self.precision,
                captured=self.captured,
                not_captured=why_not_captured(self.config, self.device),
                left_out_by=_left_out_by(self.config),
            )
        )


def number_of(metrics: dict[str, Any], metric: Metric) -> float | None:
    """The value of a metric; None where it is no number, as over nobody."""
    value = metrics.get(metric.name)
    return None if value is None or math.isnan(value) else value


def _left_out_by(config: RunConfig) -> tuple[str, ...]:
    """Settings by which users or events are not trained on."""
    settings = {
        "data.fraction": config.data.fraction != 1.0,
        "data.domain": config.data.domain is not None,
        "model.input_behaviors": config.model.input_behaviors != "all",
    }
    return tuple(name for name, is_set in settings.items() if is_set)
