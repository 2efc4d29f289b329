"""Mixed precision is on within its block alone, in a training too."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from models.distributed.processes import SINGLE
from models.gpu.precision import mixed_precision
from models.training.config import TrainConfig
from models.training.fabric import make_fabric

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]


class Noting(torch.nn.Linear):
    """Notes in what precision its forward pass runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.autocast = torch.is_autocast_enabled(x.device.type)
        self.matmul = torch.get_float32_matmul_precision()
        return super().forward(x)


def state() -> tuple[bool, str]:
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"), (
        torch.get_float32_matmul_precision()
    )


@pytest.mark.parametrize("device", DEVICES)
def test_it_ends_with_the_block(device: str) -> None:
    before = state()
    with suppress(KeyError), mixed_precision(device):
        assert state() == (True, "high" if device == "cuda" else before[1])
        raise KeyError
    assert state() == before
    with mixed_precision(device, enabled=False):
        assert state() == before


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_training_has_it_in_the_forward_pass(precision: str, device: str) -> None:
    fabric = make_fabric(TrainConfig(device=device, precision=precision), SINGLE)  # type: ignore[arg-type]
    before = state()
    plain = Noting(2, 2)
    module = fabric.setup_module(plain)
    loss = module(torch.ones(1, 2, device=device)).sum()
    assert state() == before
    fabric.backward(loss)
    assert plain.autocast == (precision == "bf16-mixed")
    assert plain.matmul == ("high" if (precision, device) == ("bf16-mixed", "cuda") else before[1])
