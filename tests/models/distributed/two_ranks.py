"""What two processes find that have joined each other and nothing else: collective operations within CUDA
graphs, and copies of a model that stay equal to the bit."""

from __future__ import annotations

import faulthandler
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from behavior.shards.folder import open_shards
from models.distributed.join import join_store
from models.distributed.tables import ItemTable, item_tables
from models.distributed.torch_processes import TorchProcesses
from models.gpu.cuda_graph import CudaGraphs
from models.gpu.device import DeviceName
from models.training.setup import Setup, set_up
from models.training.step import steps_of
from tests.models.distributed.several_processes import BY_ROWS, SAMPLED, on
from tests.models.training.training_runs import settings

TWO = 2
LIMIT = 100.0
"""Seconds after which a process says where it hangs, and ends."""


def as_two(work: Callable[..., None], device: DeviceName, *arguments: Any) -> None:
    """Have two processes do the same work, each with its `TorchProcesses` before the arguments.

    Raises:
        AssertionError: one of them failed; its traceback is on standard error.
    """
    store = TCPStore("127.0.0.1", 0, TWO, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=_joined, args=(work, store.port, rank, device, arguments), daemon=True)
        for rank in range(TWO)
    ]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join()
    assert [one.exitcode for one in ranks] == [0, 0], f"{work.__name__} failed"


def _joined(
    work: Callable[..., None], port: int, rank: int, device: DeviceName, arguments: Sequence[Any]
) -> None:
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    torch.set_num_threads(1)
    if device == "cuda":
        torch.cuda.set_device(rank)
    store = TCPStore("127.0.0.1", port, TWO, is_master=False)
    processes = join_store(store, rank, TWO, "nccl" if device == "cuda" else "gloo")
    work(processes, device, *arguments)
    processes.close()


def collectives(processes: TorchProcesses, device: DeviceName) -> None:
    """All operations, captured at two sizes that take turns, with others between that are not captured."""
    graphs = CudaGraphs(torch.device("cuda", processes.rank)) if device == "cuda" else None
    inputs = [torch.zeros(size, device=device) for size in (3, 3 << 21)]
    works = [graphs(_all_of(one, processes)) if graphs else _all_of(one, processes) for one in inputs]
    other = torch.full((5,), 10.0 * (processes.rank + 1), device=device)
    for round_ in range(1, 9):
        for one, work in zip(inputs, works, strict=True):
            one.fill_(round_ * (processes.rank + 1.0))  # round, and twice that
            reduced, largest, gathered, scattered, *averaged = work()
            assert torch.equal(reduced, torch.full_like(one, 3.0 * round_))
            assert torch.equal(largest, torch.full_like(one, 2.0 * round_))
            for rank, part in enumerate(gathered, 1):
                assert torch.equal(part, torch.full_like(one, 1.0 * rank * round_))
            assert torch.equal(scattered, torch.full_like(one, (1 + processes.rank) * 3.0 * round_))
            for mean in averaged:
                assert torch.equal(mean, torch.full_like(mean, 1.5 * round_))
            assert processes.all_reduce(other).tolist() == [30.0] * 5
            assert processes.max(processes.rank) == 1
    for work in works:
        free = getattr(work, "free", None)  # nothing to free where nothing is captured
        if free is not None:
            free()


def _all_of(one: Tensor, processes: TorchProcesses) -> Callable[[], Sequence[Tensor]]:
    def work() -> Sequence[Tensor]:
        averaged = [one.clone(), one[:2].clone(), one[:3].clone()]
        processes.average(averaged)
        return [
            processes.all_reduce(one),
            processes.all_reduce(one, "max"),
            processes.all_gather(one),
            processes.reduce_scatter(torch.stack([one, 2 * one])),
            *averaged,
        ]

    return work


def same_bits(processes: TorchProcesses, device: DeviceName, shards: Path) -> None:
    """Copies of weights are equal to the bit after two epochs with dropout and drawn negatives, of which each
    process has its own; a step of one of them is smaller than the other's, or has nothing in it."""
    for changes in ((), BY_ROWS, ("train.item_table=sharded",), (*BY_ROWS, "train.item_table=sharded")):
        for captured in ("false", "true") if device == "cuda" else ("false",):
            config = settings(
                *SAMPLED, *changes, on(device), "model.dropout=0.2", "train.epochs=2", "train.devices=2",
                "train.batch_sequences=6", "optimizer.clip_norm=1", f"train.cuda_graphs={captured}",
            )  # fmt: skip
            made = set_up(config, open_shards(shards), processes)
            _train(made, epochs=2)
            _check_same(made, processes, f"{changes}, captured: {captured}")
            made.loader.close()
            made.stepper.close()


def _train(made: Setup, epochs: int) -> None:
    made.stepper.module.train()
    number = 0
    for epoch in range(epochs):
        for parts in steps_of(made.loader, 1):
            number += 1
            assert made.stepper.take(parts, number, epoch) is not None
    assert number == 6 * epochs


def _check_same(made: Setup, processes: TorchProcesses, what: str) -> None:
    divided = {id(table.weight) for table in _divided(item_tables(made.task.objective))}
    compared = 0
    for name, weight in made.task.objective.named_parameters():
        first, second = processes.all_gather(weight.detach())
        assert first.isfinite().all(), f"{what}: {name}"
        if id(weight) in divided:
            continue
        assert torch.equal(first, second), f"{what}: {name} differs by {(first - second).abs().max()}"
        compared += 1
    assert compared > 5


def _divided(tables: Sequence[ItemTable]) -> list[ItemTable]:
    return [table for table in tables if table.is_divided]
