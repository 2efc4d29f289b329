"""Ctrl-C while training writes a checkpoint, from which the run goes on as if it had not been pressed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.runs.checkpoint import load_checkpoint
from models.training import train
from models.training.interrupt import Interruption
from models.training.observer import StepProgress, Validation
from tests.models.training.training_runs import Watcher, circle, records, same_weights, settings, weights

RARELY = ("train.checkpoint_every_steps=500", "train.log_every_steps=1")


class Presses(Watcher):
    """Presses Ctrl-C when a step is reported or a validation made; `times` of them at once."""

    def __init__(self, *, at_step: int | None = None, at_validation: int | None = None, times: int = 1):
        super().__init__()
        self.at, self.moment, self.times = at_step, at_validation, times

    def stepped(self, progress: StepProgress) -> None:
        super().stepped(progress)
        if progress.step == self.at:
            self.press()

    def validated(self, validation: Validation) -> None:
        super().validated(validation)
        if len(self.validations) == self.moment:
            self.press()

    def press(self) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def python_s_own_handler() -> Iterator[None]:
    """Processes of test runners may ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    train(settings(*RARELY), shards, run)
    return run


def stands_at(run: Path) -> int:
    return int(load_checkpoint(run / "checkpoints" / "last.safetensors").progress["step"])


@pytest.mark.parametrize(
    ("watcher", "step"),
    [
        (Presses(at_step=1), 1),
        (Presses(at_step=6), 6),
        (Presses(at_step=4), 4),  # the last of its epoch, which is validated first
        (Presses(at_validation=2), 8),
    ],
)
def test_it_ends_with_a_checkpoint_and_goes_on_alike(
    shards: Path, whole: Path, tmp_path: Path, watcher: Presses, step: int
) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(settings(*RARELY), shards, run, observer=watcher)
    assert stands_at(run) == step
    train(settings(*RARELY), shards, run, resume=True)
    assert records(run) == records(whole)
    assert same_weights(weights(run), weights(whole))


def test_pressed_twice_it_ends_at_once(shards: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(settings(*RARELY), shards, run, observer=Presses(at_step=6, times=2))
    assert stands_at(run) == 4  # where the epoch ended
    train(settings(*RARELY), shards, run, resume=True)
    assert records(run) == records(whole)


def test_a_handler_of_the_program_and_other_threads_are_left_alone() -> None:
    came = []
    mine = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        interruption = Interruption()
        with interruption.awaited():
            os.kill(os.getpid(), signal.SIGINT)
        assert (came, interruption.came) == ([1], False)
    finally:
        signal.signal(signal.SIGINT, mine)

    def elsewhere() -> None:
        with Interruption().awaited():
            came.append(2)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert came == [1, 2]
