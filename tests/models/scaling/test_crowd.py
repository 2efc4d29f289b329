"""Runs that do not fit into memory together: none fails that fits alone, and nothing is run twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.experiments.results import RunRecord
from models.experiments.runs import PlannedRun
from models.scaling.claims import Claims
from models.scaling.crowd import Crowd, is_out_of_memory
from models.scaling.grid import ScaleGrid, Size
from models.scaling.lines import crowded_lines
from models.scaling.rates import Asked
from models.scaling.scale import Scale
from models.scaling.store import Store
from models.scaling.worker import Orders, work
from tests.models.training.training_runs import circle

FULL = "CUDA out of memory. Tried to allocate 20.00 MiB."


def asked(blocks: int = 2) -> Asked:
    return Asked(Size("A", blocks, 8, None, 1.0, 0), None, searches=False)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


def test_half_as_many_each_time_and_alone_is_the_last(tmp_path: Path) -> None:
    store, todo = Store(tmp_path), [f"run{number}" for number in range(8)]
    others = {name: Claims(store.claims).claim(name) for name in todo[1:]}
    crowd = Crowd(store, Claims(store.claims))
    assert crowd.may_begin("run0", todo)
    for at_once in (4, 2, 1):
        assert crowd.give_way(asked(), "run0", todo)
        assert store.read_crowded()["run0"].at_once == at_once
        assert not crowd.may_begin("run0", todo)
        assert crowd.may_begin("run9", [*todo, "run9"])  # it does not wait for one that is not going on
    told = crowded_lines(store.read_crowded())
    assert told == ["A, blocks 2, width 8: memory ran out beside other runs; run again with 0 beside it"]
    for claim in others.values():
        assert claim is not None
        assert not crowd.may_begin("run0", todo)
        claim.release()
    assert crowd.may_begin("run0", todo)
    own = Claims(store.claims).claim("run0")
    assert own is not None
    assert not crowd.may_begin("run1", todo)  # which was to be alone
    assert not crowd.give_way(asked(), "run0", todo)
    store.forget_failures()
    assert crowd.may_begin("run1", todo)


def test_what_cuda_says_when_memory_runs_out() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError(FULL))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(ValueError("out of memory"))


class Device:
    """What runs go on at one time; more than fit run out of memory, and some do not fit at all."""

    def __init__(self, room: dict[int, int]) -> None:
        self.room, self.on, self.lock = room, [], threading.Lock()
        self.on: list[int]
        self.begun: list[str] = []

    def run_one(self, run: PlannedRun, *_: Any) -> RunRecord:
        blocks = run.config.model.blocks
        with self.lock:
            self.on.append(blocks)
            self.begun.append(run.digest)
        try:
            for _look in range(4):
                time.sleep(0.05)
                if len(self.on) > min(self.room[each] for each in self.on if each == blocks):
                    raise torch.OutOfMemoryError(FULL)
        finally:
            with self.lock:
                self.on.remove(blocks)
        return RunRecord(
            table="t", line=run.line, seed=0, settings={}, recipe="default", digest=run.digest, data=run.data,
            time="none", test={}, valid={}, best_epoch=1, epochs=1, steps=1, parameters=1, minutes=0.0,
            device="cpu", version="0",
        )  # fmt: skip


def drive(
    shards: Path, out: Path, device: Device, monkeypatch: pytest.MonkeyPatch, blocks: Sequence[int]
) -> Store:
    monkeypatch.setattr("models.scaling.worker.run_one", device.run_one)
    made = ScaleGrid(
        title="t",
        set={"train.device": "cpu"},
        backbones={"HSTU": None},
        blocks=[*blocks],
        widths=[8],
    )
    store = Scale(made, shards, out).store
    store.begin_call(made, str(shards))
    orders = Orders(grid=made, data=str(shards), out=out, sharing=4)
    workers = [threading.Thread(target=lambda: list(work(orders))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60.0)
    return store


def test_workers_run_what_does_not_fit_with_fewer_others(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small runs fit beside three others, one with four blocks alone only, and one with five not even so."""
    device = Device({1: 4, 2: 4, 3: 4, 4: 1, 5: 0})
    store = drive(shards, tmp_path / "out", device, monkeypatch, [1, 2, 3, 4, 5])
    assert {each.size.blocks for each in store.read_results().values()} == {1, 2, 3, 4}
    assert [each.error for each in store.read_failures().values()] == [FULL]
    for digest in [*store.read_results(), *store.read_failures()]:
        assert device.begun.count(digest) <= 3 + 1  # beside three others, one, none; once more where it ends


def test_a_failure_of_a_run_that_was_done_later_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_failure(asked(), "ab", "broken", "")
    assert store.read_failures()["ab"].error == "broken"
    store.results.mkdir()
    (store.results / "ab.json").write_text("{}")
    assert not store.read_failures()
