"""torch's scaled_dot_product_attention on padded batches, against the dense reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from torch._subclasses.fake_tensor import FakeTensorMode

from models.attention import Sequences, reference, sdpa
from models.attention.inputs import AttentionInputs
from models.attention.padded import score_bias, to_flat, to_rows
from tests.models.attention.softmax_cases import MASKS, SoftmaxCase, assert_agrees, relaxed, softmax_cases


@relaxed
@given(softmax_cases)
def test_sdpa_agrees_with_the_reference(case: SoftmaxCase) -> None:
    assert_agrees(case.solve(sdpa.run), case.solve(reference.run), 1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)]
)
@pytest.mark.parametrize("bias", ["none", "all"])
@pytest.mark.parametrize("mask", ["causal", "semi-local"])
def test_sdpa_in_lower_precision(dtype: torch.dtype, tolerance: float, bias: str, mask: str) -> None:
    case = SoftmaxCase((30, 0, 1, 17), mask=mask, bias=bias, rounded=dtype)
    assert_agrees(replace(case, dtype=dtype).solve(sdpa.run), case.solve(reference.run), tolerance)


def test_only_a_causal_mask_of_whole_sequences_needs_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AttentionInputs] = []
    monkeypatch.setattr(sdpa, "score_bias", lambda inputs: asked.append(inputs) or score_bias(inputs))
    for case in (SoftmaxCase((3, 2)), SoftmaxCase((3, 1), mask="window")):
        sdpa.run(case.inputs()[1])
    assert not asked
    for case in (
        SoftmaxCase((4, 2), mask="window"),
        SoftmaxCase((4, 2), bias="position"),
        SoftmaxCase((4, 2), last_queries=1),
        SoftmaxCase((4, 2), mask="candidates"),
    ):
        sdpa.run(case.inputs()[1])
    assert len(asked) == 4


def test_sdpa_says_what_it_cannot_do() -> None:
    _, inputs = SoftmaxCase((3,)).inputs()
    assert sdpa.reasons_against(inputs) == []
    assert sdpa.reasons_against(replace(inputs, activation="silu")) == ["softmax only, not silu"]
    assert sdpa.reasons_against(replace(inputs, activation="identity")) == ["softmax only, not identity"]
    mixed = sdpa.reasons_against(replace(inputs, v=inputs.v.float()))
    assert mixed == ["q, k and v must all be of one floating-point type, not float32, float64"]
    assert sdpa.reasons_against(SoftmaxCase((0, 0)).inputs()[1]) == ["there are no queries"]


@pytest.mark.parametrize(
    ("lengths", "changed", "expected"),
    [
        ((8, 8), {}, True),
        ((8, 5, 7), {}, True),
        ((8, 4), {}, False),
        ((8, 8), {"bias": "position"}, False),
        ((8, 8), {"mask": "window"}, False),
        ((8, 8), {"last_queries": 1}, False),
        ((8, 8), {"dtype": torch.float32}, False),
    ],
)
def test_it_is_preferred_for_causal_half_precision_with_little_padding(
    lengths: tuple[int, ...], changed: dict[str, Any], expected: bool
) -> None:
    _, inputs = SoftmaxCase(lengths, **{"dtype": torch.bfloat16, **changed}).inputs()
    assert not sdpa.is_fastest(inputs)  # on the CPU
    with FakeTensorMode(allow_non_fake_inputs=True):
        moved = {name: torch.empty_like(getattr(inputs, name), device="cuda") for name in "qkv"}
        assert sdpa.is_fastest(replace(inputs, **moved)) == expected
        assert not sdpa.is_fastest(replace(inputs, activation="silu", **moved))


@pytest.mark.parametrize("lengths", [[2, 0, 3], [2, 2], [1]])
def test_rows_hold_the_tokens_and_zeros(lengths: list[int]) -> None:
    sequences = Sequences.from_lengths(lengths)
    flat = torch.arange(1.0, sequences.num_tokens + 1)[:, None]
    rows = to_rows(flat, sequences)
    expected = torch.zeros(len(lengths), max(lengths), 1)
    for row, part in zip(expected, flat.split(lengths), strict=True):
        row[: len(part)] = part
    assert torch.equal(rows, expected)
    assert torch.equal(to_flat(rows, sequences), flat)


@pytest.mark.parametrize("bias", ["none", "position", "all a head"])
@pytest.mark.parametrize("longest", [1, 7, 8, 13])
def test_the_bias_tensor_is_aligned_and_hides_what_the_mask_hides(longest: int, bias: str) -> None:
    _, inputs = SoftmaxCase((longest, 1), heads=3, bias=bias, mask="window", dtype=torch.float32).inputs()
    tensor = score_bias(inputs)
    assert tensor.shape == (2, 3, longest, longest)
    assert all(stride % 8 == 0 for stride in tensor.stride()[:3])
    assert tensor.stride(3) == 1
    visible = inputs.mask.materialize(inputs.sequences)[:, None].expand_as(tensor)
    assert torch.isfinite(tensor).all()
    assert (tensor[~visible] < -1e37).all()
    if inputs.bias is None:
        assert (tensor[visible] == 0).all()
    else:
        dense = inputs.bias.materialize(inputs.sequences, inputs.mask).expand_as(tensor)
        assert torch.equal(tensor[visible], dense[visible])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    # The gradient of a decay's rate is a small sum of large terms that cancel, each of them rounded.
    ("dtype", "tolerance"),
    [(torch.float32, 1e-3), (torch.float16, 3e-2), (torch.bfloat16, 8e-2)],
)
@pytest.mark.parametrize("bias", ["none", "all", "all a head"])
@pytest.mark.parametrize("mask", MASKS)
def test_sdpa_on_the_device(dtype: torch.dtype, tolerance: float, bias: str, mask: str) -> None:
    case = SoftmaxCase((70, 0, 1, 133), qk_dim=25, v_dim=50, mask=mask, bias=bias, rounded=dtype)
    found = replace(case, dtype=dtype, device="cuda").solve(sdpa.run)
    assert_agrees(
        {name: tensor.cpu() for name, tensor in found.items()}, case.solve(reference.run), tolerance
    )
