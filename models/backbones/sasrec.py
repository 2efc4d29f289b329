"""SASRec: self-attentive sequential recommendation (arXiv 1808.09781), wired as in its authors' code.

`h = norm(x)`; `a = softmax(h Wq (x Wk)^T / sqrt(d)) x Wv + h`; `g = norm(a)`; `y = relu(g W1) W2 + g`; at the
end a final norm. Only queries are normalized, keys and values are not, and both residual paths start after
the norm. No projection after the heads are joined.

Departures: dropout is applied to the attention output instead of the attention weights, which fused kernels
never materialize; keys have no bias, which softmax is invariant to.
"""

from __future__ import annotations

from models.backbones.preset import Preset

SASREC = Preset(
    bias="none",
    activation="softmax",
    residual="sasrec",
    norm="layer",
    final_norm=True,
    feed_forward="relu",
    dropout=frozenset({"hidden", "feed_forward"}),
    norm_eps=1e-8,
    separate_projections=True,
    output_projection=False,
    projection_bias=True,
    feed_forward_bias=True,
)
