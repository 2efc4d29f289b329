"""Kernels of losses on the GPU: scores of drawn rows, read where they lie, and the sampled softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from models.gpu import availability
from models.losses.columns import Columns

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_DRAWS = 1 << 30  # places of draws are int32


def fits(rows: Tensor, *vectors: Tensor) -> bool:
    """Whether the kernels take such rows, or ranks, and numbers of such types, here."""
    return _takes(rows, *vectors) and availability.runs_on(rows)


def _takes(rows: Tensor, *vectors: Tensor) -> bool:
    """Whether they take them on a device that kernels run on."""
    if torch.compiler.is_compiling() or rows.numel() > _MAX_DRAWS:
        return False
    return all(vector.dtype in _DTYPES for vector in vectors)


def scores_of_rows(query: Tensor, table: Tensor, rows: Tensor) -> Tensor:
    """Dot products of each query with its own rows of a table, for tensors that `fits`.

    Products are summed in float32, whatever the tensors are in, and gradients in a fixed order: two runs give
    the same bits. Nothing waits for the device. Can be differentiated once.

    Args:
        query: [positions, dim] float32, float16 or bfloat16.
        table: [items, dim], likewise.
        rows: [positions, count] int64.

    Returns:
        [positions, count], of the more precise of both types (torch's promotion).
    """
    # Not at the top of the file: without a GPU there need be no triton.
    from models.losses.kernels.scores_function import ScoresOfRows

    scores: Tensor = ScoresOfRows.apply(query, table, rows)
    return scores


def sampled_softmax(
    positive: Tensor, negative: Tensor, ranks: Tensor, target: Tensor, correction: Tensor | None = None
) -> Tensor:
    """`models.losses.formulas.sampled_softmax` without smoothing, for tensors that `fits`.

    Scores are read once forward, and read and written once backward. A negative that is the target itself
    does not count. Can be differentiated once.

    Args:
        positive: [positions] scores, divided by the temperature.
        negative: [positions, count] scores, divided by the temperature.
        ranks: [positions, count] or [1, count] int64 ranks of the negatives.
        target: [positions] int64 ranks of the positives.
        correction: [positions, count] or [1, count], taken off the negatives' scores; without gradients.

    Returns:
        [positions].
    """
    from models.losses.kernels.softmax_function import SampledSoftmax

    losses: Tensor = SampledSoftmax.apply(positive, negative, ranks, target, correction)
    return losses


MOST_COLUMNS = 1 << 31
"""Numbers of the queries, and of the vectors, that the kernels of shared columns find."""
WIDEST = 256


def fits_shared(query: Tensor, vectors: Tensor) -> bool:
    """Whether `shared_softmax` takes such queries and vectors, here."""
    sizes = (max(len(query), len(vectors)) + 256) * WIDEST < MOST_COLUMNS
    filled = len(query) > 0 and len(vectors) > 0
    fitting = query.shape[1] <= WIDEST and sizes and filled and _takes(query, vectors)
    return fitting and availability.runs_on(query)


def shared_softmax(
    query: Tensor,
    positive: Tensor,
    vectors: Tensor,
    target: Tensor,
    columns: Columns,
    products: torch.dtype = torch.float16,
    scale: float = 1.0,
) -> Tensor:
    """The sampled softmax among candidates that all positions share, whose scores are never in memory.

    `log(1 + sum_j exp(scale * q . v_j + bias_j - positive))`, less the columns that are the target itself.
    Products are of half precision, with sums in float32; gradients are summed in a fixed order: two runs give
    the same bits. Half precision has the digits of TF32; queries, scaled, above 45,000 and vectors above
    65,504 are cut off there. Nothing waits for the device. Can be differentiated once.

    Args:
        query: [positions, dim] float32, for tensors that `fits_shared`.
        positive: [positions] float32 scores of the targets, scaled.
        vectors: [n, dim] float32.
        target: [positions] ranks of the targets.
        columns: candidates, which have their vectors from `vectors`.
        products: type of what is multiplied.
        scale: of scores, one over the temperature.

    Returns:
        [positions] float32.
    """
    from models.losses.kernels.shared_function import SharedSoftmax

    losses: Tensor = SharedSoftmax.apply(query, positive, vectors, target, columns, products, scale)
    return losses


def pair_scores(query: Tensor, vectors: Tensor, scale: float) -> Tensor:
    """[positions] `scale * (query . vectors)`: of each position, with a vector of its own.

    On a GPU in one pass over both, and in another for the gradients. Can be differentiated once.

    Args:
        query, vectors: [positions, dim] float32.
        scale: one over the temperature.
    """
    float32 = query.dtype == vectors.dtype == torch.float32
    if not (float32 and fits(query, vectors)):
        return (query * vectors).sum(-1) * scale
    from models.losses.kernels.pair_function import PairScores

    scores: Tensor = PairScores.apply(query, vectors, scale)
    return scores
