"""Starting the processes of a training, one a device."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from behavior.errors import UserError
from behavior.runtime.imports import python_of_our_own
from behavior.wording import number_of
from models.config import RunConfig
from models.distributed.join import join_store, join_torchrun, launched_by_torchrun
from models.distributed.processes import SINGLE, Processes
from models.distributed.torch_processes import TorchProcesses
from models.gpu.device import pick_device
from models.runs.run_folder import Resume
from models.training.config import TrainConfig
from models.training.watch import raise_for_exit_codes, watched

_HOST = "127.0.0.1"
_ARRIVED = "arrived"
# Seconds that a failing process may take to save its batches, to write its stack trace and to end.
_GRACE = 5.0


@dataclass(frozen=True)
class TrainArguments:
    """Of `models.training.train`, as every process of a training gets them."""

    config: RunConfig
    data: str
    """Path or url of the shard folder."""
    out: Path
    resume: Resume
    init: Path | None = None
    """A run whose weights a new one begins with."""
    refit: Path | None = None
    """The run that a new one refits; only the first process, which writes it down, is told."""


@contextmanager
def processes_for(arguments: TrainArguments) -> Iterator[Processes]:
    """The processes that `train.devices` asks for, of which this is the first; or those of `torchrun`.

    Started processes end with the block: at once where it is left by an error.

    Raises:
        UserError: there are fewer devices, or `torchrun` started another number of processes.
    """
    config = arguments.config.train
    backend = "nccl" if pick_device(config.device).type == "cuda" else "gloo"
    count = count_devices(config)
    if launched_by_torchrun():
        joined = join_torchrun(backend)
        try:
            _check_torchrun(config, joined)
            yield joined
        except BaseException:
            joined.leave()
            raise
        joined.close()
    elif count == 1:
        yield SINGLE
    else:
        with _started(arguments, count, backend) as processes:
            yield processes


def count_devices(config: TrainConfig) -> int:
    """Devices of this machine that the settings ask for; `auto` is every GPU, or one CPU.

    Raises:
        UserError: there are not so many GPUs.
    """
    on_gpu = pick_device(config.device).type == "cuda"
    there = torch.cuda.device_count() if on_gpu else 1
    wanted = there if config.devices == "auto" else config.devices
    if on_gpu and wanted > there:
        raise UserError(
            f"{number_of(wanted, 'GPU')} requested, {there} available",
            where=f"train.devices = {wanted}",
            fix=f"--devices {there}, or auto",
        )
    return wanted


def join_as_told(told: dict[str, Any]) -> tuple[TrainArguments, TorchProcesses]:
    """In a started process: join the others, as the first process told it to."""
    torch.set_num_threads(told.get("threads", torch.get_num_threads()))
    store = TCPStore(_HOST, told["port"], told["count"], is_master=False)
    store.add(_ARRIVED, 1)
    config, out = RunConfig(**told["config"]), Path(told["out"])
    init = None if told["init"] is None else Path(told["init"])
    arguments = TrainArguments(config, told["data"], out, told["resume"], init)
    return arguments, join_store(store, told["rank"], told["count"], told["backend"])


@contextmanager
def _started(arguments: TrainArguments, count: int, backend: str) -> Iterator[Processes]:
    if TorchProcesses.stuck:
        raise UserError(
            "a training of this program failed on several GPUs, and one of them may still be at it",
            where=f"train.devices = {count}",
            fix="start the program anew",
        )
    # Port 0: the system picks a free one.
    store = TCPStore(_HOST, 0, count, is_master=True, wait_for_workers=False)
    told: dict[str, Any] = {
        "config": arguments.config.model_dump(mode="json"),
        "data": arguments.data,
        "out": str(arguments.out),
        "resume": arguments.resume,
        "init": None if arguments.init is None else str(arguments.init),
        "count": count,
        "backend": backend,
        "port": store.port,
        # All processes together compute with as many as this one would alone.
        "threads": max(1, torch.get_num_threads() // count),
    }
    others: list[subprocess.Popen[str]] = []
    before = torch.get_num_threads()
    torch.set_num_threads(told["threads"])
    try:
        for rank in range(1, count):
            others.append(_start(json.dumps(told | {"rank": rank})))
        _wait_for_arrival(store, others)
        processes = join_store(store, 0, count, backend)
        try:
            with watched(others, processes):
                yield processes
        except UserError:
            _wait_for_exit(others)  # they have met it, too, and may be saving their batches
            processes.leave()
            raise
        except RuntimeError as error:  # what torch raises when a connection breaks, among other things
            _wait_for_exit(others)
            processes.leave()
            raise_for_exit_codes(others, error)
            raise
        except BaseException:
            processes.leave()
            raise
        processes.close()
        for other in others:
            other.wait()
    finally:
        torch.set_num_threads(before)
        for other in others:
            other.kill()
            other.wait()
            if other.stdin is not None:
                with suppress(BrokenPipeError):
                    other.stdin.close()


def _start(told: str) -> subprocess.Popen[str]:
    # In a session of its own, so that Ctrl-C reaches the first process alone, which ends the others. The pipe
    # stays open: it breaks when the first process ends, however that happens, and ends the others, too.
    command, environment = python_of_our_own("models.training.worker")
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it ended at once, which is found out when it is waited for
        process.stdin.write(told + "\n")
        process.stdin.flush()
    return process


def _wait_for_arrival(store: TCPStore, others: list[subprocess.Popen[str]]) -> None:
    """Wait until all processes have connected to the store; joining would also wait for those that ended."""
    while store.add(_ARRIVED, 0) < len(others):
        raise_for_exit_codes(others)
        time.sleep(0.02)


def _wait_for_exit(others: list[subprocess.Popen[str]]) -> None:
    until = time.monotonic() + _GRACE
    for other in others:
        with suppress(subprocess.TimeoutExpired):
            other.wait(max(0.0, until - time.monotonic()))


def _check_torchrun(config: TrainConfig, processes: TorchProcesses) -> None:
    if config.devices not in ("auto", 1, processes.local_count):
        raise UserError(
            f"torchrun started {number_of(processes.local_count, 'process', 'processes')} on this machine, "
            "and the settings ask for "
            f"{config.devices}",
            where=f"train.devices = {config.devices}",
            fix="leave train.devices out: torchrun decides",
        )
