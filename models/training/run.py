"""Training a model, from settings and data to a run folder."""

from __future__ import annotations

from contextlib import ExitStack
from os import PathLike
from pathlib import Path

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.storage import FolderLike, as_folder
from models.config import RunConfig
from models.data.tables_only import keep_tables
from models.distributed.join import launched_by_torchrun
from models.distributed.processes import Processes
from models.gpu.device import repeatable
from models.runs.curves import draw_curves
from models.runs.metrics_log import MetricsLog, read_metrics
from models.runs.run_folder import Resume, RunFolder, hold_run, open_run
from models.tasks.registry import check_known_elsewhere
from models.training.ahead import compile_ahead
from models.training.defaults import decided
from models.training.launch import TrainArguments, count_devices, processes_for
from models.training.loop import Training
from models.training.observer import Silent, TrainObserver, TrainResult
from models.training.summary import write_summary


def train(
    config: RunConfig,
    data: FolderLike,
    out: str | PathLike[str],
    resume: Resume = False,
    observer: TrainObserver | None = None,
    init: str | PathLike[str] | None = None,
    refit: str | PathLike[str] | None = None,
) -> TrainResult:
    """Train a model on a shard folder.

    Stops after `train.epochs`, after `train.max_minutes`, or after `train.patience` validations without
    improvement, whichever comes first. With `resume` a run that exists goes on from its last checkpoint, to
    the same losses as if it had never stopped. The run's folder is held for this training from the first
    moment: another one is refused there, before anything is read or written.

    With `train.devices` above 1 this process starts the others, and is the first of them; under `torchrun` it
    is one of those that were started.

    Args:
        config: all settings.
        data: the shard folder; urls too.
        out: the run's folder; see `models.runs.run_folder.RunFolder` for what it holds.
        resume: go on with the run in `out`, which has to be there; `auto`: where there is none, begin one.
        observer: told about the progress, in the first process.
        init: the folder of another run, whose weights a new one begins with. Rows of tables are found again
            by ids of items, names of behaviors and values of features; new ones are fresh.
        refit: the folder of the run whose settings these are, to be written down; see
            `models.training.refitting.refit`.

    Returns:
        What came of it, the same in every process.

    Raises:
        UserError: the data, the devices or the run's folder cannot be used, another training holds the
            folder, the checkpoint is damaged or of another run, the disk is full, or the loss stopped being a
            number.
    """
    start = None if init is None else Path(init)
    if start is not None:
        if resume is True:
            raise UserError(
                "a run that is resumed has weights of its own",
                where="--init",
                fix="leave --init or --resume out",
            )
        open_run(start)
    origin = None if refit is None else Path(refit)
    compile_ahead(config.train.device)
    config = decided(config, Path(out), resume)
    arguments = TrainArguments(config, as_folder(data).url, Path(out), resume, start, origin)
    if count_devices(config.train) > 1 and not launched_by_torchrun():
        # What is wrong is said at once, not after the other processes have started.
        check_known_elsewhere(config.task.kind)
        open_shards(arguments.data)
        with hold_run(arguments.out, resume=resume):
            pass
    with processes_for(arguments) as processes:
        return train_in(arguments, processes, observer or Silent())


def train_in(arguments: TrainArguments, processes: Processes, observer: TrainObserver) -> TrainResult:
    """This process's part of a training; see `train`."""
    with ExitStack() as held:
        run = processes.on_first(lambda: held.enter_context(hold_run(arguments.out, resume=arguments.resume)))
        return _train_held(arguments, run, processes, observer)


def _train_held(
    arguments: TrainArguments, run: RunFolder, processes: Processes, observer: TrainObserver
) -> TrainResult:
    shards = open_shards(arguments.data)
    init = arguments.init or processes.on_first(run.init)
    training = Training(arguments.config, shards, run, observer, processes, init)
    try:
        with repeatable(training.device):
            if processes.is_first:
                result = _recorded(training, arguments, run, shards, init)
            else:
                result = training.run_epochs()
    finally:
        training.loader.close()
    training.stepper.close()
    if not processes.is_first:
        return result
    write_summary(training, result)
    drawn = [metric.name for metric in arguments.config.metrics() if metric.in_curves]
    draw_curves(read_metrics(run.metrics), drawn, run.curves)
    observer.finished(result)
    return result


def _recorded(
    training: Training, arguments: TrainArguments, run: RunFolder, shards: ShardFolder, init: Path | None
) -> TrainResult:
    """Train as the first process, which writes the run's folder."""
    kept = training.state.metrics_bytes
    read_metrics(run.metrics, kept)  # before anything is changed
    if training.loader.epoch < arguments.config.train.epochs_to_train or training.on_later_version:
        settings = arguments.config.model_dump(mode="json")
        run.write(settings, shards.folder, training.dataset, init, arguments.refit or run.refit())
        keep_tables(shards, run.dataset, {"protocol": training.evaluator.protocol})
    with MetricsLog(run.metrics, run.tensorboard, keep_bytes=kept) as log:
        return training.run_epochs(log)
