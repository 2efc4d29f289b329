"""Whether Triton kernels run on a tensor's device, and turning them off for a block of code."""

from __future__ import annotations

import importlib.util
import threading

import pytest
import torch

from models.gpu import availability
from models.gpu.availability import runs_on, unavailable, without_kernels
from models.layers.kernels import fits
from tests.models.interpreted import DEVICE, on_gpu

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


@pytest.fixture
def kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    if not on_gpu:
        monkeypatch.setenv("TRITON_INTERPRET", "1")


@needs_triton
@pytest.mark.usefixtures("kernels_run")
def test_kernels_are_turned_off_for_a_block_only() -> None:
    x = torch.zeros(3, 4, device=DEVICE)
    assert runs_on(x)
    assert fits(x)
    with without_kernels():
        with without_kernels():
            assert not runs_on(x)
        assert not runs_on(x), "the inner block does not turn them on"
        assert not fits(x)
    assert runs_on(x)
    with pytest.raises(ZeroDivisionError), without_kernels():
        _ = 1 / 0
    assert runs_on(x), "after an error too"


@needs_triton
@pytest.mark.usefixtures("kernels_run")
def test_kernels_are_turned_off_for_a_thread_only() -> None:
    x, found = torch.zeros(3, device=DEVICE), []
    with without_kernels():
        other = threading.Thread(target=lambda: found.append(runs_on(x)))
        other.start()
        other.join()
    assert found == [True]


@pytest.mark.skipif(on_gpu, reason="there is a CUDA device")
def test_without_a_gpu_there_is_a_reason_unless_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "no CUDA device" in unavailable()
    assert not runs_on(torch.zeros(1))
    monkeypatch.setattr(availability, "_INSTALLED", False)
    assert unavailable() == ["triton is not installed", "no CUDA device"]
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert unavailable() == ["triton is not installed"]
