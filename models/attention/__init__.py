"""The attention room: attention on flat tokens, its masks and biases, and the kernels that compute it.

In come q, k and v `[tokens, heads, dim]`, `Sequences` (where each begins), a `Mask` and a `RelativeBias`,
which are small objects and not tensors of pairs; out comes `[tokens, heads, dim]`, with gradients for all of
them. `dispatch` picks the first kernel that fits: `silu` (Triton), `xformers`, `blocked` (Numba, on the CPU),
`sdpa` (torch's own) or `reference`, the oracle. The room imports `models.gpu` and `behavior` (for errors);
whoever wants attention imports from here, and tests and benchmarks from the kernels too.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.attention.bias import RelativeBias, RelativeTime, time_bucket
    from models.attention.decay import TimeDecay
    from models.attention.dispatch import attention, find_kernel, kernel_table
    from models.attention.masks import Causal, LocalWindow, Mask, SemiLocal
    from models.attention.sequences import Sequences
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Causal": "masks",
            "LocalWindow": "masks",
            "Mask": "masks",
            "RelativeBias": "bias",
            "RelativeTime": "bias",
            "SemiLocal": "masks",
            "Sequences": "sequences",
            "TimeDecay": "decay",
            "attention": "dispatch",
            "find_kernel": "dispatch",
            "kernel_table": "dispatch",
            "time_bucket": "bias",
        },
    )

__all__ = [
    "Causal",
    "LocalWindow",
    "Mask",
    "RelativeBias",
    "RelativeTime",
    "SemiLocal",
    "Sequences",
    "TimeDecay",
    "attention",
    "find_kernel",
    "kernel_table",
    "time_bucket",
]
