"""LiGR, the gated Transformer of eSASRec (arXiv 2508.06450; layer from LinkedIn's LiGR, arXiv 2502.03417).

`a = x + sigmoid(G1 x) * (softmax(Q K^T / sqrt(d)) V Wo)` with `Q, K, V` from `norm(x)`; then
`y = a + sigmoid(G2 a) * (W2 (SiLU(W1 n) * W3 n))` with `n = norm(a)`, 4 times as wide inside. The gates read
the residual path before the norm. LayerNorm, biases but for the feed-forward, learned positions, no last
norm, items not scaled.

Checked against the authors' code (RecTools). Departures: no dropout on attention weights, which fused kernels
never materialize; Xavier uniform for Xavier normal; positions count from the oldest event of the window,
theirs from the newest.
"""

from __future__ import annotations

from models.backbones.preset import Preset

LIGR = Preset(
    bias="none",
    activation="softmax",
    residual="gated",
    norm="layer",
    feed_forward="swiglu",
    feed_forward_multiple=4,
    dropout=frozenset({"hidden", "feed_forward"}),
    scale_input=False,
    norm_eps=1e-5,
    projection_bias=True,
    output_bias=True,
)
