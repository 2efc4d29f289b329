"""Activations of a tile of scores, and their gradients."""

from __future__ import annotations

import numpy as np

from models.attention.loops.call import QUERIES, inlined, inner


@inlined
def exp32(x):  # type: ignore[no-untyped-def]
    """exp(x) to float32 precision in operations that vectorize, which math.exp does not.

    exp(x) = 2^n * exp(r) with r about -ln(2)/2 to ln(2)/2; ln(2) in two parts keeps r exact (Cody and Waite),
    a Taylor polynomial gives exp(r), and n goes straight into the exponent's bits.
    """
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    n = np.int32(x * np.float32(1.44269504) + np.float32(128.5)) - np.int32(128)
    r = x - np.float32(n) * np.float32(0.693359375) + np.float32(n) * np.float32(2.12194440e-4)
    p = np.float32(1.0 / 5040.0)
    p = p * r + np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    return p * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@inner
def silu(tile, rows):  # type: ignore[no-untyped-def]
    """tile = SiLU(tile)."""
    for j in range(rows):
        for i in range(QUERIES):
            score = tile[j, i]
            tile[j, i] = score / (np.float32(1.0) + exp32(-score))


@inner
def silu_with_slope(tile, rows, gradient):  # type: ignore[no-untyped-def]
    """tile = SiLU(tile), and gradient *= SiLU'(tile)."""
    for j in range(rows):
        for i in range(QUERIES):
            score = tile[j, i]
            gate = np.float32(1.0) / (np.float32(1.0) + exp32(-score))
            tile[j, i] = score * gate
            gradient[j, i] *= gate * (np.float32(1.0) + score * (np.float32(1.0) - gate))


@inner
def softmax_step(tile, rows, peak, total, shrink, columns):  # type: ignore[no-untyped-def]
    """One tile of an online softmax: tile = exp(tile - peak), after `peak` has taken in the tile.

    `peak` and `total` [QUERIES] run along, and `columns`, the result so far, is rescaled to the new peak.
    `shrink` [QUERIES] is scratch.
    """
    # Element by element: compiling the assignment of one array to another takes longer than all of this.
    for i in range(QUERIES):
        shrink[i] = peak[i]
    for j in range(rows):
        for i in range(QUERIES):
            peak[i] = max(peak[i], tile[j, i])
    for i in range(QUERIES):
        shrink[i] = exp32(shrink[i] - peak[i])
        total[i] *= shrink[i]
    for d in range(columns.shape[0]):
        for i in range(QUERIES):
            columns[d, i] *= shrink[i]
    for j in range(rows):
        for i in range(QUERIES):
            tile[j, i] = exp32(tile[j, i] - peak[i])
            total[i] += tile[j, i]


@inner
def softmax_with_slope(tile, rows, normalizer, mean_gradient, gradient):  # type: ignore[no-untyped-def]
    """tile = exp(tile - normalizer), the weights, and gradient = weights * (gradient - mean_gradient)."""
    for j in range(rows):
        for i in range(QUERIES):
            tile[j, i] = exp32(tile[j, i] - normalizer[i])
            gradient[j, i] = tile[j, i] * (gradient[j, i] - mean_gradient[i])
