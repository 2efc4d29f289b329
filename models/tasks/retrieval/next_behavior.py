"""What is done next, predicted beside the item it is done with."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.initialization import INIT_STD, init_truncated


class NextBehavior(nn.Module):
    """Logits of the next event's behavior, a linear map of what the backbone knows before it is told.

    The first factor of an event's probability in MBGen (arXiv 2405.16871): behavior, then item given it.

    Args:
        dim: width of the backbone's outputs.
        num_behaviors: ids 1 to so many.
    """

    def __init__(self, dim: int, num_behaviors: int) -> None:
        super().__init__()
        # A row for id 0, too, as in tables of behaviors; it is never asked for.
        self.logits = nn.Linear(dim, num_behaviors + 1)
        init_truncated(self.logits.weight, INIT_STD)
        nn.init.zeros_(self.logits.bias)

    def forward(self, outputs: Tensor) -> Tensor:
        """[n, behaviors] float32 logarithms of the probability of each behavior, of outputs [n, dim]."""
        return F.log_softmax(self.logits(outputs).float()[:, 1:], 1)

    def losses(self, outputs: Tensor, behavior: Tensor) -> Tensor:
        """[n] float32 cross-entropies of behaviors that came, [n] ids; of id 0, some number."""
        return -self(outputs).gather(1, (behavior - 1).clamp(min=0)[:, None]).squeeze(1)


def mean_loss(losses: Tensor, mask: Tensor | None, denominator: Tensor | float | None) -> Tensor:
    """The sum of some positions' losses over `denominator`, by default over their number.

    Args:
        losses: [positions].
        mask: [positions] bool, false for those that do not count; None: all do.
        denominator: what the sum is divided by.
    """
    if mask is not None:
        losses = losses.masked_fill(~mask, 0.0)
    if denominator is None:
        denominator = len(losses) if mask is None else mask.sum().clamp(min=1)
    return losses.sum() / denominator
