"""Which kernel is used, and what is said when none fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from behavior.errors import UserError
from models.attention import Causal, Mask, Sequences, attention, kernel_table, xformers
from models.attention.dispatch import ENVIRONMENT_VARIABLE, KERNELS, choose_kernel
from models.attention.inputs import AttentionInputs


@pytest.fixture(autouse=True)
def _no_forced_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


def inputs(
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    activation: str = "silu",
    mask: Mask | None = None,
) -> AttentionInputs:
    q, k, v = torch.zeros(3, 5, 2, 4, dtype=dtype, device=device)
    return AttentionInputs(q, k, v, Sequences.from_lengths([5]), activation, mask or Causal(), None, 1.0, 1.0)  # type: ignore[arg-type]


def test_the_blocked_kernel_is_preferred_on_the_cpu() -> None:
    assert choose_kernel(inputs()).name == "blocked"
    assert choose_kernel(inputs(activation="softmax")).name == "blocked"


def test_other_types_and_devices_fall_back_to_the_reference() -> None:
    assert choose_kernel(inputs(torch.float64)).name == "reference"
    assert choose_kernel(inputs(torch.bfloat16)).name == "reference"
    assert choose_kernel(inputs(device="meta")).name == "reference"


def test_a_named_kernel_is_used() -> None:
    assert choose_kernel(inputs(), "reference").name == "reference"


def test_the_environment_names_a_kernel_and_the_argument_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "reference")
    assert choose_kernel(inputs()).name == "reference"
    assert choose_kernel(inputs(), "blocked").name == "blocked"


def test_a_named_kernel_that_does_not_fit_says_why() -> None:
    q = torch.zeros(5, 2, 4, dtype=torch.float64)
    with pytest.raises(UserError) as caught:
        attention(q, q, q, Sequences.from_lengths([5]), activation="silu", mask=Causal(), kernel="blocked")
    assert "float32 only, not float64" in caught.value.what
    assert "q [5, 2, 4]" in caught.value.what


def test_without_a_fitting_kernel_every_one_gives_its_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    picky = tuple(replace(kernel, unavailable=list) for kernel in KERNELS if kernel.name != "reference")
    monkeypatch.setattr("models.attention.dispatch.KERNELS", picky)
    with pytest.raises(UserError, match="no attention kernel fits") as caught:
        choose_kernel(inputs(torch.float64))
    assert "blocked: float32 only, not float64" in caught.value.what
    assert "xformers: " in caught.value.what


def test_an_unknown_kernel_is_named_with_the_place_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "blokced")
    with pytest.raises(UserError, match="no attention kernel 'blokced'") as caught:
        choose_kernel(inputs())
    assert caught.value.fix == "did you mean 'blocked'?"
    assert ENVIRONMENT_VARIABLE in (caught.value.where or "")


def test_xformers_says_what_it_cannot_do() -> None:
    reasons = xformers.reasons_against(inputs(torch.float64))
    assert any("softmax only" in reason for reason in reasons)
    assert any("CUDA only" in reason for reason in reasons)
    assert any("float64" in reason for reason in reasons)


def test_kernel_table_tells_what_this_machine_can_run() -> None:
    table = kernel_table()
    assert list(table) == ["triton", "xformers", "blocked", "sdpa", "reference"]
    assert table["reference"] == {"usable": True, "reasons": []}
    assert table["blocked"]["usable"]
    assert all(row["usable"] != bool(row["reasons"]) for row in table.values())
    assert table["triton"]["usable"] or "no CUDA device" in table["triton"]["reasons"]
    if not torch.cuda.is_available():
        assert "no CUDA device" in table["xformers"]["reasons"]


@pytest.mark.parametrize("name", ["xformers", "blocked", "reference"])
def test_lengths_that_are_not_known_are_a_reason(name: str) -> None:
    sequences = Sequences.unread(torch.tensor([0, 3]), tokens=5, longest=4)
    given = replace(inputs(activation="softmax"), sequences=sequences)
    (kernel,) = (kernel for kernel in KERNELS if kernel.name == name)
    assert "lengths are known to the device only" in kernel.reasons_against(given)


def test_shapes_that_do_not_go_together_are_an_error() -> None:
    q = torch.zeros(5, 2, 4)
    arguments: dict[str, Any] = {"activation": "silu", "mask": Causal()}
    with pytest.raises(ValueError, match="do not go together"):
        attention(q, torch.zeros(5, 2, 3), q, Sequences.from_lengths([5]), **arguments)
    with pytest.raises(ValueError, match="4 tokens in sequences, 5 in k"):
        attention(q, q, q, Sequences.from_lengths([4]), **arguments)
    with pytest.raises(ValueError, match="not 'relu'"):
        attention(q, q, q, Sequences.from_lengths([5]), activation="relu", mask=Causal())  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dim", [64, 50])
def test_xformers_agrees_with_the_reference(dim: int) -> None:
    pytest.importorskip("xformers", reason="xformers is not installed")
    torch.manual_seed(0)
    sequences = Sequences.from_lengths([7, 1, 130], device="cuda")
    results = {}
    for kernel in ("reference", "xformers"):
        torch.manual_seed(0)
        leaves = [
            torch.randn(138, 2, dim, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3)
        ]
        out = attention(
            *leaves, sequences, activation="softmax", mask=Causal(), qk_scale=dim**-0.5, kernel=kernel
        )
        results[kernel] = [out, *torch.autograd.grad(out.float().square().sum(), leaves)]
    for found, expected in zip(results["xformers"], results["reference"], strict=True):
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
