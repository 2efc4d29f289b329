"""FuXi-alpha (arXiv 2502.03036): attention in several channels, and a feed-forward in two stages.

Adaptive multi-channel self-attention: `U, V, Q, K = split(SiLU(W rms(x)))`; semantic channel
`SiLU(Q K^T) V / N`, temporal channel `T V` and positional channel `P V`, where T and P are the bias tables
themselves (shared by all heads, not divided by N) under the causal mask. The three results stand side by
side: `z = rms([P V, T V, semantic]) * U`, U three times as wide as V.

Multi-stage feed-forward: `a = W0 z + b0 + x` (stage 1), `y = a + W2 (SiLU(W1 n) * W3 n)` with `n = rms(a)`,
as wide inside as outside (stage 2). Norms have no affine parameters. Dropout falls on z and on n.

Checked against the authors' code, not against the text of the paper. There, biases are looked up with the
time known, as here. Departure: b0 starts at zero.
"""

from __future__ import annotations

from models.backbones.preset import Preset

FUXI = Preset(
    bias="both",
    activation="silu",
    gate=True,
    pointwise=True,
    residual="pre_norm",
    norm="rms_without_affine",
    attention_norm="rms_without_affine",
    feed_forward="multi_stage",
    dropout=frozenset({"attention", "feed_forward"}),
    norm_eps=1e-6,
    channels=True,
    output_bias=True,
    projection_std=0.02,
)
