"""Runs of tiles that find no bucket pair by pair, between tiles that do, against the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.attention import Causal, LocalWindow, RelativeBias, RelativeTime, Sequences, TimeDecay, attention
from models.attention.bias import NUM_BUCKETS
from tests.models.interpreted import DEVICE, on_gpu

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")

_LENGTHS = (300, 40, 0, 170)


@pytest.fixture
def short_looks(interpreted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few tiles are looked at at once, so that runs of short sequences are cut, and spans are found again."""
    from models.attention.silu import simple_tiles

    if not on_gpu:  # A compiled kernel keeps what it was compiled with.
        monkeypatch.setattr(simple_tiles, "_TILES", type(simple_tiles._TILES)(4))
        monkeypatch.setattr(simple_tiles, "_WARP", type(simple_tiles._WARP)(2))


def _gaps(kind: str) -> Tensor:
    """[tokens] seconds from each event to the next."""
    tokens = sum(_LENGTHS)
    gaps = torch.randint(1, 60, (tokens,), generator=torch.Generator().manual_seed(1))
    if kind == "sessions":  # Long gaps within tiles, near and far: runs begin and stop many times.
        gaps[20::47] = 5 * 10**6
    elif kind == "hourly":
        gaps[:] = 3600
    elif kind == "at once":
        gaps[:] = 0
    elif kind == "lifetimes":  # Farther apart than 32-bit seconds reach.
        gaps[150] = 2 * 10**9
    return gaps


def _solve(kernel: str, kind: str, window: int | None, decay: bool) -> list[Tensor]:
    """The output, and the gradients of q, k and v."""
    torch.manual_seed(0)
    sequences = Sequences.from_lengths(_LENGTHS, DEVICE)
    timestamp = _gaps(kind).cumsum(0).to(DEVICE)
    times = RelativeTime(torch.cat([timestamp[1:], timestamp[-1:]]), timestamp, sequences)
    tables = [torch.randn(count, device=DEVICE) for count in (max(_LENGTHS), NUM_BUCKETS)]
    amount, rate = torch.full((1,), 0.7, device=DEVICE), torch.full((1,), 1e-5, device=DEVICE)
    bias = RelativeBias(*tables, times, TimeDecay(amount, rate, "exponential") if decay else None)
    q, k, v, given = torch.randn(4, sum(_LENGTHS), 1, 16, device=DEVICE)
    for tensor in (q, k, v):
        tensor.requires_grad_()
    mask = Causal() if window is None else LocalWindow(window)
    scales = {"qk_scale": 0.25, "output_scale": 0.01}
    out = attention(q, k, v, sequences, activation="silu", mask=mask, bias=bias, kernel=kernel, **scales)
    return [out, *torch.autograd.grad(out, [q, k, v], given)]


@pytest.mark.parametrize("kind", ["sessions", "hourly", "at once", "lifetimes"])
def test_times_of_every_kind(kind: str) -> None:
    found, expected = (_solve(kernel, kind, None, False) for kernel in ("triton", "reference"))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("window", "decay"), [(None, False), (140, True)])
@pytest.mark.usefixtures("short_looks")
def test_runs_longer_than_a_look(window: int | None, decay: bool) -> None:
    found, expected = (_solve(kernel, "sessions", window, decay) for kernel in ("triton", "reference"))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
