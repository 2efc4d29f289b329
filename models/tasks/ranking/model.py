"""The model of ranking: logits of what is done with each item of a sequence, given all before it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from models.data.batch import PackedBatch
from models.evaluation.actions.labels import Label
from models.inputs.ranking_embedding import RankingEmbedding
from models.inputs.tokens import Tokens
from models.layers.norm import make_norm
from models.tasks.ranking.counter_head import CounterHead
from models.tasks.ranking.counters import Counters
from models.tasks.ranking.told import Told

_EPS = 1e-6


class RankingModel(nn.Module):
    """Embedding, backbone, and a head over `[norm(output), candidate's vector, context]`.

    The action of an item, and whatever else becomes known with it, is in no token up to the item's own
    (`models.inputs.layouts.ranked`), and not in what the head is given besides.

    Args:
        embedding: turns events into items and actions.
        backbone: [tokens, dim] to [tokens, dim].
        head: of `models.tasks.ranking.heads.HEADS`.
        told: the labels, and how batches tell them.
        counters: numbers beside the sequence, for the head alone.
        counter_head: logits of counters, which are added to those of a head that is told none; None: the
            head is told them.
        judged: how many of the labels are judged, the first ones; None: all.
    """

    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        embedding: RankingEmbedding,
        backbone: nn.Module,
        head: nn.Module,
        told: Told,
        counters: Counters,
        judged: int | None = None,
        counter_head: CounterHead | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.backbone, self.head = embedding, backbone, head
        self.told, self.counters, self.counter_head = told, counters, counter_head
        self.labels: tuple[Label, ...] = told.labels[:judged]
        self.told_head = counters.width if counter_head is None else 0
        self.norm = make_norm("layer_without_affine", embedding.item.embedding_dim, _EPS)
        # Learned of the training part before the first step, so that a fresh head predicts the mean.
        self.register_buffer("offset", torch.zeros(len(told.labels)))
        self.register_buffer("scale", torch.ones(len(told.labels)))

    def forward(self, batch: PackedBatch, rows: Tensor | None = None) -> Tensor:
        """[rows, labels] float32: logits of actions, and predicted values of others; those of `labels`, then
        of auxiliary ones.

        Args:
            batch: its sequences.
            rows: [rows] int64: i for the item after event i, and `events + s` for the first item of sequence
                s, before which nothing is known; by default all, [events + sequences].
        """
        return self.judged(*self.passed(batch), batch, rows)

    def judged(self, tokens: Tokens, out: Tensor, batch: PackedBatch, rows: Tensor | None = None) -> Tensor:
        """The same of what `passed` gives."""
        outputs = tokens.queries(out)
        ids, context = self.embedding.asked_ids(batch), self.counters(batch, self.offset.sigmoid())
        if rows is not None:
            outputs, ids, context = (each.index_select(0, rows) for each in (outputs, ids, context))
        return self.judge(outputs, ids, context)

    def passed(self, batch: PackedBatch) -> tuple[Tokens, Tensor]:
        """The tokens of a batch, and [tokens, dim] what the backbone says of them: `tokens.queries` are those
        of the item after each event, and of the first item of each sequence."""
        x, tokens = self.embedding(batch)
        return tokens, self.backbone(x, tokens)

    def judge(self, outputs: Tensor, items: Tensor, context: Tensor) -> Tensor:
        """[n, labels] float32, as `forward`.

        Args:
            outputs: [n, dim] of the backbone, at candidates.
            items: [n] int64 their ids.
            context: [n, numbers] of `counters`.
        """
        with torch.autocast(outputs.device.type, enabled=False):
            precise = torch.promote_types(outputs.dtype, torch.float32)
            vectors = self.embedding.item_vectors(items).to(precise) * self.embedding.scale
            beside = context.to(precise)
            found: Tensor = self.head(self.norm(outputs.to(precise)), vectors, beside[:, : self.told_head])
            if self.counter_head is not None:
                found = found + self.counter_head(beside)
            return found * self.scale + self.offset

    def heads(self) -> Iterator[nn.Module]:
        """All parts of what makes logits of outputs, vectors and counters."""
        yield from self.head.modules()
        if self.counter_head is not None:
            yield from self.counter_head.modules()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
