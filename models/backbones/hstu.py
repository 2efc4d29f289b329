"""HSTU: hierarchical sequential transduction units (arXiv 2402.17152, section 3).

`U, V, Q, K = split(SiLU(f1(norm(x))))`; `y = f2(dropout(norm(A V) * U)) + x` (eqs. 1 to 3), where
`A = SiLU(Q K^T + rab) / N` under a causal mask, without softmax; N is `max_length`, a constant, whatever the
lengths in the batch. Both norms are without affine parameters, the second one over all heads together. f1 has
no bias, f2 has one. No feed-forward: gate and pointwise transform do its work.
"""

from __future__ import annotations

from models.backbones.preset import Preset

HSTU = Preset(
    bias="both",
    activation="silu",
    gate=True,
    pointwise=True,
    residual="hstu",
    norm="layer_without_affine",
    attention_norm="layer_without_affine",
    feed_forward="none",
    dropout=frozenset({"attention", "feed_forward"}),
    norm_eps=1e-6,
    output_bias=True,
    projection_std=0.02,
)
