"""What every implementation of the protocol of processes has to give."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import torch

from behavior.errors import UserError
from models.distributed.join import join_store
from models.distributed.processes import SINGLE, Processes, share_of
from tests.models.distributed.threads import one_of, together
from tests.models.warm import start


def check_protocol(processes: Processes) -> None:
    """Against what is counted by hand: rank r has r + 1."""
    rank, count = processes.rank, processes.count
    everything = list(range(1, count + 1))
    own = torch.tensor([rank + 1.0, -rank - 1.0], requires_grad=True)
    assert processes.all_gather_object({"rank": rank}) == [{"rank": other} for other in range(count)]
    assert processes.broadcast_object(f"from {rank}") == "from 0"
    gathered = processes.all_gather(own[:, None])
    assert gathered.tolist() == [[[each], [-each]] for each in everything]
    assert not gathered.requires_grad
    parts = own.detach() + torch.arange(count)[:, None]  # [count, 2]
    total = sum(everything)
    assert processes.reduce_scatter(parts).tolist() == [total + count * rank, -total + count * rank]
    assert processes.all_reduce(own).tolist() == [total, -total]
    assert processes.all_reduce(torch.tensor([rank, -rank]), "max").tolist() == [count - 1, 0]
    assert own.tolist() == [rank + 1.0, -rank - 1.0]
    assert processes.sum([rank + 1, 0.5]) == [total, 0.5 * count]
    assert processes.max(7 * rank) == 7 * (count - 1)
    assert processes.is_first == (rank == 0)
    assert processes.on_first(lambda: f"by {rank}") == "by 0"

    def fail() -> Any:
        raise UserError(f"no, says {rank}")

    with pytest.raises(UserError, match="no, says 0"):
        processes.on_first(fail)


def test_one_process() -> None:
    check_protocol(SINGLE)


@pytest.mark.parametrize("count", [1, 3])
def test_threads(count: int) -> None:
    together(count, check_protocol)


def join_and_check(rank: int, path: str) -> None:
    processes = join_store(torch.distributed.FileStore(path, 2), rank, 2, "gloo")
    check_protocol(processes)
    assert (processes.local_rank, processes.local_count) == (rank, 2)
    processes.close()


def test_torch_distributed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        processes = [start(join_and_check, rank, f"{folder}/store") for rank in range(2)]
        for process in processes:
            process.join(100)
            assert process.exitcode == 0


def test_a_rank_knows_its_place() -> None:
    assert (one_of(4, 2).rank, one_of(4, 2).count, one_of(4, 2).is_first) == (2, 4, False)


@pytest.mark.parametrize("size", [0, 1, 7, 12])
def test_shares_are_alike_and_cover_all(size: int) -> None:
    for count in (1, 2, 5):
        shares = [range(size)[share_of(size, rank, count)] for rank in range(count)]
        assert [number for share in shares for number in share] == list(range(size))
        assert {len(share) for share in shares} <= {size // count, -(-size // count)}
