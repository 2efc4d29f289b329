"""The items nearest to an item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional as F

from behavior.config import nearest
from behavior.errors import UserError
from models.serving.export.scoring import retrieval_model
from models.serving.load import TrainedModel
from models.serving.recommend.ids import Ids
from models.serving.recommend.items import ItemColumns
from models.serving.recommend.values import column_of, plain
from models.tasks.retrieval import RetrievalModel
from models.tasks.retrieval.scoring import scoring

ITEMS_AT_ONCE = 1 << 16
"""Vectors that are made at once."""


def similar(
    trained: TrainedModel, item: str | int, k: int = 10, columns: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The items whose vectors have the largest cosines with an item's; exact, of equal ones the lower index.

    Args:
        trained: a retrieval model.
        item: its id, as in the log.
        k: how many; the item itself is none of them.
        columns: of items, to be shown beside (`models.serving.recommend.items.ItemColumns`).

    Returns:
        `rank` from 1, `item` (id as in the log), `score` (the cosine) and the columns, nearest first.

    Raises:
        UserError: the item is not known (names the nearest), there are not so many others, or there is no
            such column.
    """
    model = retrieval_model(trained)
    place = find_item(trained.item_ids, item)
    others = model.num_items - 1
    if not 1 <= k <= others:
        raise UserError(
            f"{k:,} nearest of {others:,} other items", where="--k", fix=f"ask for 1 to {others:,}"
        )
    cosines = _cosines(model, place)
    cosines[place] = -torch.inf
    found = cosines.sort(descending=True, stable=True).indices[:k]
    places = found.cpu().numpy()
    told = ItemColumns(Ids(trained.shards), trained.shards, columns).of(pa.array(places))
    more = {name: plain(values).to_pylist() for name, values in told.items()}
    ids = trained.item_ids.take(pa.array(places)).to_pylist()
    scores = plain(pa.array(cosines[found].cpu().numpy())).to_pylist()
    return [
        {
            "rank": number + 1,
            "item": ids[number],
            "score": scores[number],
            **{name: values[number] for name, values in more.items()},
        }
        for number in range(k)
    ]


def find_item(ids: pa.Array, item: str | int) -> int:
    """The place of an item among the known ones.

    Args:
        ids: [known items] as in the log.
        item: an id, whatever its type.

    Raises:
        UserError: it is not known, or there are several of that id (in domains of their own).
    """
    names = ids.cast(pa.string())
    wanted = column_of([str(item)], "item", "--item")[0]
    places = np.flatnonzero(pc.equal(names, wanted).to_numpy(zero_copy_only=False))
    if len(places) == 1:
        return int(places[0])
    if len(places):
        raise UserError(f"{len(places)} items have the id '{item}', in domains of their own", where="--item")
    close = nearest(str(item), _alike(names, str(item)))
    raise UserError(
        f"the model knows no item '{item}'",
        where="--item",
        fix=f"did you mean '{close}'?" if close else "ids are those of the log",
    )


def _alike(names: pa.Array, item: str) -> list[str]:
    """Of many ids those that begin alike: to compare all letters of millions would take minutes."""
    if len(names) <= ITEMS_AT_ONCE:
        return list(names.to_pylist())
    begun = pc.starts_with(names, item[: max(1, len(item) - 2)])
    return list(names.filter(begun).slice(0, ITEMS_AT_ONCE).to_pylist())


def item_vectors(model: RetrievalModel, first: int, stop: int) -> Tensor:
    """[stop - first, query_dim] float32 vectors of known items, of the model in evaluation mode.

    Args:
        model: whose item table is whole.
        first: place of the first, from 0.
        stop: of the last, exclusive.
    """
    with scoring(model):
        # Not `item_vectors(ranks)`, which takes another way for all items than for some.
        ids = torch.arange(first, stop, device=model.device) + model.first_item
        vectors = model.embedding.item_vectors(ids).float()
        vectors = F.normalize(vectors, dim=-1) if model.normalize else vectors
        return model.biased(vectors, ids - model.first_item)


def _cosines(model: RetrievalModel, place: int) -> Tensor:
    """[known items] float32."""
    dim = model.embedding.dim  # a bias says nothing of what is alike

    def directions(first: int, stop: int) -> Tensor:
        return F.normalize(item_vectors(model, first, stop)[:, :dim], dim=-1)

    own = directions(place, place + 1)[0]
    parts = [
        directions(first, min(first + ITEMS_AT_ONCE, model.num_items)) @ own
        for first in range(0, model.num_items, ITEMS_AT_ONCE)
    ]
    return torch.cat(parts)
