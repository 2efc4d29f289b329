"""Which keys a query may look at: small objects that know rules, not tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.attention.sequences import Sequences


class Mask(Protocol):
    """What a query at one place of its sequence may see; never another sequence."""

    @property
    def window(self) -> int | None:
        """A query sees itself and the `window - 1` events before it; None: all events before it."""

    def materialize(self, sequences: Sequences) -> Tensor:
        """[sequences, max_length, max_length] bool (query, key): the slow truth, quadratic in length."""


@dataclass(frozen=True)
class Causal:
    """Each query sees itself and everything before it in its sequence."""

    @property
    def window(self) -> int | None:
        return None

    def materialize(self, sequences: Sequences) -> Tensor:
        return _visible(sequences, self.window)


@dataclass(frozen=True)
class LocalWindow:
    """Each query sees itself and the `size - 1` events before it."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("a window holds at least the query itself")

    @property
    def window(self) -> int | None:
        return self.size

    def materialize(self, sequences: Sequences) -> Tensor:
        return _visible(sequences, self.window)


def _visible(sequences: Sequences, window: int | None) -> Tensor:
    _, present = sequences.padded_index()
    place = torch.arange(sequences.max_length, device=present.device)
    distance = place[:, None] - place[None, :]
    seen = distance >= 0
    if window is not None:
        seen &= distance < window
    return seen & present[:, :, None] & present[:, None, :]
