"""The kernels of the sampled softmax: interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from models.gpu.availability import without_kernels
from models.losses import kernels
from models.losses.formulas import sampled_softmax
from tests.models.interpreted import DEVICE
from tests.models.losses.test_losses import lookup, make_loss

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")
ITEMS = 20


def expected(
    positive: Tensor, negative: Tensor, ranks: Tensor, target: Tensor, correction: Tensor | None
) -> list[float]:
    """Losses by plain sums of exponentials, a position at a time."""
    found = []
    for position in range(len(positive)):
        row = position if len(ranks) > 1 else 0
        scores = [positive[position].item()]
        for place in range(negative.shape[1]):
            if ranks[row, place] != target[position]:
                less = 0.0
                if correction is not None:
                    less = correction[position if len(correction) > 1 else 0, place].item()
                scores.append(negative[position, place].item() - less)
        scores_of_all = torch.tensor(scores, dtype=torch.float64)
        found.append((scores_of_all.exp().sum().log() - scores_of_all[0]).item())
    return found


@pytest.mark.parametrize("corrected", ["not", "shared", "own"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("positions", "count"), [(1, 1), (5, 7), (9, 128), (3, 2500)])
def test_equals_sums_of_exponentials(positions: int, count: int, shared: bool, corrected: str) -> None:
    torch.manual_seed(count)
    ranks = torch.randint(ITEMS, (1 if shared else positions, count), device=DEVICE)
    target = torch.randint(ITEMS, (positions,), device=DEVICE)
    positive = 20 * torch.randn(positions, device=DEVICE)
    # Scores of part of a longer row, as a product may leave them.
    negative = 20 * torch.randn(positions, count + 3, device=DEVICE)[:, :count]
    rows = {"not": 0, "shared": 1, "own": positions}[corrected]
    correction = torch.randn(rows, count, device=DEVICE) if rows else None
    leaves = [positive.requires_grad_(), negative.requires_grad_()]
    losses = kernels.sampled_softmax(positive, negative, ranks, target, correction)
    given = torch.rand(positions, device=DEVICE)
    found = torch.autograd.grad(losses, leaves, given)
    oracle = expected(positive, negative, ranks, target, correction)
    torch.testing.assert_close(losses.double().cpu(), torch.tensor(oracle).double(), atol=1e-4, rtol=1e-5)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    plain = sampled_softmax(exact[0], exact[1], (ranks == target[:, None]), correction)
    wanted = torch.autograd.grad(plain, exact, given.double())
    for of_kernel, of_formula in zip(found, wanted, strict=True):
        torch.testing.assert_close(of_kernel.double(), of_formula, atol=1e-5, rtol=1e-4)


def test_a_position_whose_negatives_are_all_the_target_loses_nothing() -> None:
    positive = torch.tensor([3.0, -100.0], device=DEVICE, requires_grad=True)
    negative = torch.full((2, 5), 1e4, device=DEVICE, requires_grad=True)
    target = torch.tensor([4, 7], device=DEVICE)
    losses = kernels.sampled_softmax(positive, negative, target[:, None].expand(2, 5), target)
    assert losses.tolist() == [0.0, 0.0]
    losses.sum().backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert positive.grad.tolist() == [0.0, 0.0]
    assert not negative.grad.any()


def test_scores_far_apart_overflow_nowhere() -> None:
    positive = torch.tensor([-2000.0, 2000.0], device=DEVICE, requires_grad=True)
    negative = torch.tensor([[2000.0, -2000.0], [-2000.0, -2000.0]], device=DEVICE, requires_grad=True)
    ranks = torch.tensor([[1, 2]], device=DEVICE)
    losses = kernels.sampled_softmax(
        positive, negative, ranks, torch.zeros(2, dtype=torch.int64, device=DEVICE)
    )
    assert losses.tolist() == [4000.0, 0.0]
    losses.sum().backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert positive.grad.tolist() == [-1.0, 0.0]
    assert negative.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_small_losses_keep_their_digits_whatever_the_size_of_scores() -> None:
    """Moving all scores by the same number changes nothing."""
    positive = torch.tensor([1000.0, 12.0, 0.0], device=DEVICE, requires_grad=True)
    negative = torch.tensor([[988.0, 987.0], [0.0, -1.0], [-12.0, -13.0]], device=DEVICE, requires_grad=True)
    ranks = torch.tensor([[1, 2]], device=DEVICE)
    losses = kernels.sampled_softmax(
        positive, negative, ranks, torch.zeros(3, dtype=torch.int64, device=DEVICE)
    )
    expected = math.log1p(math.exp(-12) + math.exp(-13))
    torch.testing.assert_close(losses.cpu(), torch.full((3,), expected), rtol=1e-5, atol=0)
    of_positive, of_negative = torch.autograd.grad(losses.sum(), [positive, negative])
    torch.testing.assert_close(of_positive, -of_negative.sum(1), rtol=1e-5, atol=0)
    share = 1 - math.exp(-expected)
    torch.testing.assert_close(of_positive.cpu(), torch.full((3,), -share), rtol=1e-5, atol=0)


def test_strided_positives_and_targets() -> None:
    torch.manual_seed(0)
    positive, negative = torch.randn(8, device=DEVICE), torch.randn(4, 6, device=DEVICE)
    target, ranks = torch.randint(3, (8,), device=DEVICE), torch.randint(3, (1, 6), device=DEVICE)
    found = kernels.sampled_softmax(positive[::2], negative, ranks, target[::2])
    wanted = sampled_softmax(positive[::2], negative, ranks == target[::2, None])
    torch.testing.assert_close(found, wanted)


def test_numbers_that_differ_from_batch_to_batch_need_no_launcher_each() -> None:
    from models.gpu import launcher

    def launchers(counts: list[int]) -> int:
        for count in counts:
            target = torch.arange(count, device=DEVICE)
            kernels.sampled_softmax(
                torch.randn(count, device=DEVICE),
                target.new_zeros(count, count).float(),
                target[None],
                target,
            )
        return len(launcher._launchers)

    before = launchers([5, 33])
    assert launchers([6, 7, 9, 21, 35]) == before


@pytest.mark.parametrize("sharing", ["batch", "position", "in_batch"])
@pytest.mark.parametrize("logq", [False, True])
def test_the_whole_loss_is_the_same(sharing: str, logq: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of positions that a mask leaves out are no negatives, in the kernels too."""
    negatives = {"source": "in_batch"} if sharing == "in_batch" else {"count": 30, "sharing": sharing}
    loss = make_loss(negatives={**negatives, "logq": logq}).to(DEVICE)
    asked, own = [], kernels.sampled_softmax
    monkeypatch.setattr(kernels, "sampled_softmax", lambda *given: (asked.append(1), own(*given))[1])
    found = []
    for switch in (nullcontext(), without_kernels()):
        torch.manual_seed(1)
        items = torch.randn(loss.sampler.num_items, 8, device=DEVICE, requires_grad=True)
        query = torch.randn(40, 8, device=DEVICE, requires_grad=True)
        target = torch.randint(loss.sampler.num_items, (40,), device=DEVICE)
        mask = torch.arange(40, device=DEVICE) % 7 > 0
        torch.manual_seed(2)
        with switch:
            value = loss(query, target, lookup(items), mask=mask)
        found.append([value.detach(), *torch.autograd.grad(value, [query, items])])
    assert len(asked) == 1
    for of_kernel, of_formula in zip(*found, strict=True):
        torch.testing.assert_close(of_kernel, of_formula, atol=1e-5, rtol=1e-4)
