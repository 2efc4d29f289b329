"""GPT: the Transformer decoder of language models.

As GPT-2 (Radford et al., 2019): `a = x + softmax(Q K^T / sqrt(d)) V Wo` with `Q, K, V` from `norm(x)`, then
`y = a + W2 gelu(W1 norm(a))`, 4 times as wide inside; a final norm; learned positions; biases everywhere but
on keys, where softmax is invariant to them. Weights start normal(0, 0.02), those that write to the residual
path divided by `sqrt(2 blocks)`.

As GPT-1 (Radford et al., 2018) with `residual: post_norm`: `a = norm(x + attention(x))`,
`y = norm(a + ffn(a))`, and no final norm.

Departures: no dropout on attention weights, which fused kernels never materialize; positions are
drawn as in HSTU's input, with the deviation of item vectors (0.02) where these are not scaled.
"""

from __future__ import annotations

from models.backbones.preset import Preset

GPT = Preset(
    bias="none",
    activation="softmax",
    residual="pre_norm",
    norm="layer",
    final_norm=True,
    feed_forward="gelu",
    dropout=frozenset({"hidden"}),
    scale_input=False,
    norm_eps=1e-5,
    projection_bias=True,
    output_bias=True,
    feed_forward_bias=True,
    projection_std=0.02,
    feed_forward_std=0.02,
    output_std=0.02,
    output_std_by_depth=True,
)
