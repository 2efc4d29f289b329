"""Candidates of a ranking model: histories are computed once, candidates in micro-batches (M-FALCON)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from behavior.errors import UserError
from models.attention.masks import Mask
from models.attention.sequences import Sequences
from models.backbones.backbone import Backbone
from models.data.batch import PackedBatch
from models.inputs.tokens import Tokens
from models.serving.cache.ragged import Ints, counted_up, offsets_of, on_device, sequences_of
from models.tasks.ranking.model import RankingModel
from models.tasks.retrieval.scoring import scoring


@dataclass
class _Memory:
    """Keys and values of the tokens of histories, a layer after the other."""

    sequences: Sequences
    timestamp: Tensor
    """[tokens] int64 seconds."""
    layers: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)
    candidates: int = 0
    in_place: ClassVar[bool] = False

    def extend(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the histories themselves, which are remembered."""
        self.layers[layer] = key, value
        return key, value

    def attend(
        self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Mask, activate: bool
    ) -> Tensor:
        """Nobody asks."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Before:
    """`models.layers.context.Past` of candidates: what is remembered stands before them."""

    memory: _Memory
    sequences: Sequences
    """Of histories with their candidates."""
    timestamp: Tensor
    source: Tensor
    """[all tokens] where each is in the histories' tokens, followed by the candidates'."""
    candidates: int
    in_place: ClassVar[bool] = False

    def extend(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """[all tokens, heads, width] each."""
        keys, values = self.memory.layers[layer]
        return torch.cat([keys, key])[self.source], torch.cat([values, value])[self.source]

    def attend(
        self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Mask, activate: bool
    ) -> Tensor:
        """Nobody asks."""
        raise NotImplementedError


class RankingCache:
    """The histories of a batch, about whose next items a ranking model is asked again and again.

    Items and actions of histories do not depend on what is asked, so that their keys and values are computed
    once. Candidates of a user stand side by side after the history, at one position; each sees the history
    and itself (arXiv 2402.17152, algorithm 1). Their logits are those of the model with the candidate as the
    item after the last event.

    Args:
        model: what ranks; used without dropout and gradients.
        batch: the histories, [users] sequences, on any device; a sequence may have no event. What it says of
            the items after the last events is not looked at.

    Raises:
        UserError: the model is an ensemble.
    """

    def __init__(self, model: RankingModel, batch: PackedBatch) -> None:
        if not isinstance(model, RankingModel) or not isinstance(model.backbone, Backbone):
            raise UserError(
                "an ensemble is several models, each with histories of its own: they are not remembered",
                fix="compute its histories anew: `model(batch)`",
            )
        self.model, self.backbone = model, model.backbone
        self.batch = batch = batch.to(model.device)
        with scoring(model):
            x, tokens = model.embedding(batch)
            lengths = np.array(tokens.sequences.lengths, np.int64)
            # The last token of each is the candidate.
            self._length = lengths - 1
            ends = offsets_of(lengths)[1:] - 1
            self._last = on_device(ends, model.device)
            chosen = on_device(counted_up(offsets_of(lengths)[:-1], self._length), model.device)
            sequences = sequences_of(self._length, model.device)
            history = _taken(tokens, chosen, sequences)
            self._tokens = tokens
            self._memory = _Memory(sequences, history.timestamp)
            self.backbone(x[chosen], history, self._memory)

    def logits(
        self,
        items: Tensor | Sequence[int],
        counts: Sequence[int] | Ints,
        at: Sequence[int] | Ints | None = None,
        *,
        known: dict[str, Tensor] | None = None,
        context: Tensor | None = None,
        at_once: int = 256,
    ) -> Tensor:
        """[candidates, labels] float32 logits of actions, and predicted values of others.

        Args:
            items: [candidates] ids, those of the first user first.
            counts: [users] candidates of each; may be 0.
            at: [users] seconds, when they are asked about; by default as the batch says. Models that do not
                know the time are not told.
            known: [candidates] each: features that are known beforehand (`task.known_features`), by name; all
                of them where the model has any.
            context: [candidates, numbers] of the model's counters (`task.counters`), where it has any.
            at_once: most candidates of a user in one pass.

        Raises:
            ValueError: counts do not go together with items, or numbers of counters are missing.
        """
        number = np.asarray(counts, np.int64)
        items = torch.as_tensor(items, dtype=torch.int64).to(self.model.device)
        if len(number) != len(self._length) or number.sum() != len(items) or (number < 0).any():
            raise ValueError(f"{len(items)} items, and counts of {len(number)} users that add up to others")
        width = self.model.counters.width
        if context is None:
            context = items.new_zeros(len(items), 0, dtype=torch.float32)
        if context.shape != (len(items), width):
            raise ValueError(f"the model has counters: {width} numbers of each of {len(items)} candidates")
        context = context.to(items.device)
        found = items.new_zeros(len(items), len(self.model.labels), dtype=torch.float32)
        starts = offsets_of(number)[:-1]
        with scoring(self.model):
            for first in range(0, int(number.max(initial=0)), at_once):
                some = np.clip(number - first, 0, at_once)
                place = on_device(counted_up(starts + first, some), items.device)
                picked = {name: values.to(items.device)[place] for name, values in (known or {}).items()}
                outputs = self._pass(items[place], some, at, picked)
                judged = self.model.judge(outputs, items[place], context[place])
                found.index_copy_(0, place, judged[:, : found.shape[1]])
        return found

    def _pass(
        self, items: Tensor, counts: Ints, at: Sequence[int] | Ints | None, known: dict[str, Tensor]
    ) -> Tensor:
        """[candidates, dim] of the backbone."""
        device, tokens = items.device, self._tokens
        user = on_device(np.repeat(np.arange(len(counts)), counts), device)
        last = self._last[user]
        candidates = _taken(tokens, last, sequences_of(counts, device))
        when = candidates.query_time
        if at is not None:
            when = on_device(np.asarray(at, np.int64), device)[user]
        candidates = Tokens(
            sequences=candidates.sequences,
            position=candidates.position,
            timestamp=when,
            query_time=when,
            mask=Mask(tokens.mask.window, tokens.mask.prefix, tokens.mask.context, on_device(counts, device)),
            attributes=self.model.embedding.place_attributes(candidates),
        )
        x = self.model.embedding.candidates(items, self.batch, user, candidates, known)
        remembered, total = self._length, self._length + counts
        old, new = offsets_of(remembered)[:-1], offsets_of(counts)[:-1] + remembered.sum()
        starts = np.stack([old, new], 1).ravel()
        source = on_device(counted_up(starts, np.stack([remembered, counts], 1).ravel()), device)
        past = _Before(
            self._memory,
            sequences_of(total, device),
            torch.cat([self._memory.timestamp, when])[source],
            source,
            int(counts.max(initial=0)),
        )
        return self.backbone(x, candidates, past)


def _taken(tokens: Tokens, chosen: Tensor, sequences: Sequences) -> Tokens:
    """Some tokens, of these sequences."""
    return Tokens(
        sequences=sequences,
        position=tokens.position[chosen],
        timestamp=tokens.timestamp[chosen],
        query_time=tokens.query_time[chosen],
        mask=tokens.mask,
        attributes=tuple(each[chosen] for each in tokens.attributes),
    )
