"""Fabric for one process of a training."""

from __future__ import annotations

from typing import NoReturn

import pytest
from lightning.fabric.plugins import environments

from models.distributed.processes import SINGLE, Processes
from models.training.config import TrainConfig
from models.training.fabric import make_fabric
from tests.models.distributed.threads import one_of


@pytest.mark.parametrize("processes", [SINGLE, one_of(2)])
def test_nobody_looks_for_other_processes(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask MPI starts it, which takes seconds."""

    def looked() -> NoReturn:
        raise AssertionError("looked")

    for name in ("TorchElasticEnvironment", "SLURMEnvironment", "LSFEnvironment", "MPIEnvironment"):
        monkeypatch.setattr(getattr(environments, name), "detect", staticmethod(looked))
    fabric = make_fabric(TrainConfig(device="cpu"), processes, averages=False)
    assert (fabric.world_size, fabric.global_rank) == (1, 0)
