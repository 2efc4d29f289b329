"""Llama (arXiv 2302.13971): the pre-norm Transformer with RMSNorm, RoPE and SwiGLU, and no biases at all.

`a = x + softmax(R(Q) R(K)^T / sqrt(d)) V Wo` with `Q, K, V` from `rms(x)` and R the rotation by position;
then `y = a + W2 (SiLU(W1 n) * W3 n)` with `n = rms(a)`, 8/3 times as wide inside; a final norm; no learned
positions. Weights start normal(0, 0.02). Llama is trained without dropout; here it is applied to what is
added to the residual path (`dropout: 0` is Llama's).
"""

from __future__ import annotations

from models.backbones.preset import Preset

LLAMA = Preset(
    bias="rope",
    activation="softmax",
    residual="pre_norm",
    norm="rms",
    final_norm=True,
    feed_forward="swiglu",
    dropout=frozenset({"hidden"}),
    learned_positions=False,
    scale_input=False,
    norm_eps=1e-5,
    projection_std=0.02,
    feed_forward_std=0.02,
    output_std=0.02,
)
