"""Linear layers over all tokens of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.kernels import fits_rows


class Linear(nn.Linear):
    """torch's; on a GPU its bias has its gradient by a kernel, summed in float32 and in a fixed order.

    torch's own sum over rows of half precision reaches a tenth of what the memory of a GPU gives.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Of x, [..., in_features], [..., out_features]."""
        bias = self.bias
        if bias is None or not (bias.requires_grad and torch.is_grad_enabled() and fits_rows(x)):
            return super().forward(x)
        # Not at the top of the file: without a GPU there need be no triton.
        from models.layers.kernels.bias_function import BiasGradient

        found: Tensor = BiasGradient.apply(F.linear(x, self.weight, bias.detach()), bias)
        return found
