"""An index of item vectors, for catalogs too large to score every item: inverted lists, by faiss."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from behavior.errors import UserError
from models.data.sequences import BoolArray
from models.history.jumps import ExactJumpLogits
from models.serving.recommend.top import NONE
from models.tasks.retrieval import RetrievalModel
from models.tasks.retrieval.scoring import scoring

IndexName = Literal["exact", "ann"]
INDEXES = get_args(IndexName)
_POINTS = 39  # vectors a list, at least: faiss asks for so many to find its center
_PROBED, _LEAST = 8, 32  # one list of so many is searched, and no fewer lists than this


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Inverted lists of all known items by inner product (IVF, arXiv 1702.08734; `IndexIVFFlat` of faiss).

    Vectors are clustered; a query looks at those of the clusters whose centers it likes best. So it may miss
    items, but gets no score wrong. It holds one version of the weights.
    """

    lists: Any
    """The index of faiss."""
    items: int
    """Known items."""
    cells: int
    """Clusters."""
    probed: int
    """Clusters that a query looks at."""

    @classmethod
    def build(cls, model: RetrievalModel, probed: int | None = None) -> ItemIndex:
        """Of the model's item vectors as they are now; the same for the same vectors.

        Args:
            model: whose item table is whole.
            probed: clusters that a query looks at; more find more, and take longer. By default an eighth of
                them, at least 32.

        Raises:
            UserError: faiss is not installed, or the model ranks by what an index of vectors cannot hold.
        """
        check_indexable(model)
        faiss = _faiss()
        with scoring(model):
            vectors = np.ascontiguousarray(model.item_vectors().cpu().numpy(), np.float32)
        items, dim = vectors.shape
        cells = max(1, min(round(4 * math.sqrt(items)), items // _POINTS))
        lists = faiss.index_factory(dim, f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
        lists.train(vectors)
        lists.add(vectors)
        probed = max(_LEAST, -(-cells // _PROBED)) if probed is None else probed
        return cls(lists, items, cells, max(1, min(probed, cells)))

    def nearest(self, queries: Tensor, count: int, allowed: BoolArray | None = None) -> Tensor:
        """Items of large inner products with queries.

        Args:
            queries: [queries, dim].
            count: items a query.
            allowed: [known items] whether an item may be found; None: all may.

        Returns:
            [queries, count] int64 on the CPU, numbered from the first known item; `NONE` where the searched
            clusters have no more.
        """
        faiss = _faiss()
        chosen = None
        if allowed is not None:
            chosen = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        how = faiss.SearchParametersIVF(nprobe=self.probed, sel=chosen)
        asked = np.ascontiguousarray(queries.float().cpu().numpy())
        found = self.lists.search(asked, count, params=how)[1]
        return torch.from_numpy(np.where(found < 0, NONE, found))

    @property
    def in_words(self) -> str:
        """What it is."""
        return f"an index of {self.cells:,} clusters, of which {self.probed:,} are searched"


def check_indexable(model: RetrievalModel) -> None:
    """Say why a model's ranking cannot be found by an index of vectors.

    Raises:
        UserError: it cannot.
    """
    reason = None
    if model.trends is not None:
        reason = "trend logits are of all items, and other ones at every moment (loss.trends)"
    elif isinstance(model.jumps, ExactJumpLogits):
        reason = "votes go to all that ever was near the last items (loss.jump_own)"
    elif model.jump_share is not None:
        reason = "votes are mixed with the softmax over all items, which needs the score of each (loss.jumps)"
    elif model.held_items.is_divided:
        reason = "items are divided over processes"
    if reason is not None:
        raise UserError(
            f"an index of vectors cannot find what the model ranks highest: {reason}",
            where="--index ann",
            fix="leave --index out: all items are scored then",
        )


def _faiss() -> ModuleType:
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise UserError(
            "an index of items needs faiss, which is not installed",
            where="--index ann",
            fix='pip install "lrm-kit[ann]"',
        ) from None
