"""The tower of users as a module of padded tensors, which can be exported as a graph; and the scorer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.sequences import Sequences
from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.origins import Next, Own
from models.inputs.layouts.user_context import WithUserContext
from models.inputs.multi_valued import MultiCategoricalEmbedding
from models.tasks.retrieval import RetrievalModel

CORE_INPUTS = ("items", "behaviors", "timestamps", "lengths", "query_time", "behavior")


@dataclass(frozen=True)
class TowerInput:
    """One input of the tower."""

    name: str
    of_events: bool
    """[batch, N], one value an event, padded at the end with anything; else [batch]."""
    dtype: torch.dtype
    meaning: str


class UserTower(nn.Module):
    """The query after the newest event of each history, of padded histories.

    Within, histories are packed as the model wants them, so that nothing of the padding is seen: the result
    does not depend on N. On the CPU, in float32; history logits are a second output.

    Args:
        model: whose item table is whole; it is copied.
        time_known: whether queries know the time of the next event.
        has_time: whether timestamps mean anything.
    """

    def __init__(self, model: RetrievalModel, *, time_known: bool, has_time: bool) -> None:
        super().__init__()
        self.model = _without_bags(copy.deepcopy(model).cpu().eval())
        self.time_known, self.has_time = time_known, has_time
        self.columns = Columns.merged(CORE, model.embedding.columns)
        self.inputs = _inputs(self.model, self.columns)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """`query`, and `history_mass` where the model has history logits.

        Args:
            inputs: those of `self.inputs`, in this order.

        Returns:
            query: [batch, dim] float32; zeros for an empty history.
            history_mass: [batch, N] float32, the logit of each event; minus infinity where it has none.
        """
        given = dict(zip((each.name for each in self.inputs), inputs, strict=True))
        batch, row = self._packed(given)
        outputs = self.model.outputs(batch)
        there, last = batch.lengths > 0, (batch.offsets[1:] - 1).clamp(min=0)
        query = self.model.queries(outputs)[last] * there[:, None]
        if self.model.history is None:
            return (query,)
        logits = self.model.history.last_logits(outputs, batch, self.model._items_of_history(batch))
        place = torch.arange(given["items"].shape[1])
        real = (place < given["lengths"][:, None]) & (given["items"] >= self.model.first_item)
        flat = (batch.offsets[:-1, None] + place).clamp(max=row.shape[0] - 1)
        return query, torch.where(real, logits[flat], -torch.inf)

    def _packed(self, given: Mapping[str, Tensor]) -> tuple[PackedBatch, Tensor]:
        """The histories as a packed batch, and [batch * N] the row of each of its events."""
        rows, longest = given["items"].shape
        offsets = F.pad(given["lengths"].cumsum(0), (1, 0))
        event = torch.arange(rows * longest)
        row = torch.searchsorted(offsets[1:], event, right=True)
        inside, row = row < rows, row.clamp(max=rows - 1)
        position = torch.where(inside, event - offsets[row], 0).clamp(max=longest - 1)
        source, newest = row * longest + position, event == offsets[row + 1] - 1

        def own(values: Tensor) -> Tensor:
            return values.flatten()[source].masked_fill(~inside, 0)

        def following(values: Tensor, asked: Tensor) -> Tensor:
            after = values.flatten()[(source + 1).clamp(max=rows * longest - 1)]
            return torch.where(newest, asked[row], after).masked_fill(~inside, 0)

        times, behaviors = given["timestamps"] * self.has_time, given["behaviors"]
        asked_time = given["query_time"] * self.has_time
        values = {
            "item": own(given["items"]),
            "behavior": own(behaviors),
            "timestamp": own(times),
            "query_time": following(times, asked_time) if self.time_known else own(times),
            "position": position,
            "target": torch.zeros_like(event),
            "target_behavior": following(behaviors, given["behavior"]),
        }
        for column in self.columns:
            if column.name not in values:
                of_events = given[f"event_{_stored(column.origin)}"]
                values[column.name] = (
                    following(of_events, given[f"asked_{_stored(column.origin)}"])
                    if isinstance(column.origin, Next)
                    else own(of_events)
                )
        users = given["user"] if "user" in given else torch.full_like(given["lengths"], -1)
        batch = PackedBatch(self.columns, values, offsets, users, self.has_time)
        # Lengths are the graph's, not those of one batch: as in a step that is recorded and replayed.
        batch.__dict__["sequences"] = Sequences.unread(offsets, tokens=rows * longest, longest=longest)
        return batch, row


class Scorer(nn.Module):
    """Scores of all known items, with the item matrix within.

    Args:
        vectors: [items, dim] float32 of known items.
        first_item: the smallest id of a known item.
        temperature: by which products are divided.
        with_history: whether there is mass of past events.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor, first_item: int, temperature: float, *, with_history: bool) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.first_item, self.temperature, self.with_history = first_item, temperature, with_history

    def forward(self, query: Tensor, *history: Tensor) -> Tensor:
        """[batch, items] float32; column j is the known item at place j.

        Args:
            query: [batch, dim] of the tower.
            history: with history logits, `items` as the tower was given them, and its `history_mass`.
        """
        scores = query @ self.vectors.T
        if not self.with_history:
            return scores
        items, mass = history
        scores = scores / self.temperature
        level = mass.amax(1, keepdim=True)
        level = torch.where(level.isinf(), 0.0, level)
        place = (items - self.first_item).clamp(min=0)
        odds = torch.zeros_like(scores).scatter_add(1, place, (mass - level).exp())
        mass = odds.log() + level  # minus infinity where an item is not in the history
        return torch.maximum(scores, mass) + (-(scores - mass).abs()).exp().log1p()


def _inputs(model: RetrievalModel, columns: Columns) -> list[TowerInput]:
    whole, meanings = (
        torch.int64,
        {
            "items": "ids of items.parquet, oldest event first; 1 is an unknown item",
            "behaviors": "numbered from 1 in the order of the data set",
            "timestamps": "seconds since 1970; zeros where there is no time",
            "lengths": "events of each history, 0 to N",
            "query_time": "when the next event happens, in seconds since 1970",
            "behavior": "the behavior that is wanted",
        },
    )
    found = [
        TowerInput(name, name in ("items", "behaviors", "timestamps"), whole, meanings[name])
        for name in CORE_INPUTS
    ]
    stored = {_stored(c.origin): c.torch_dtype for c in columns if c.name not in CORE.names}
    asked = {_stored(c.origin) for c in columns if c.name not in CORE.names and isinstance(c.origin, Next)}
    for name, dtype in stored.items():
        found.append(TowerInput(f"event_{name}", True, dtype, f"'{name}' of each event, as in the data set"))
        if name in asked:
            found.append(TowerInput(f"asked_{name}", False, dtype, f"'{name}' of the event to predict"))
    if isinstance(model.embedding.layout, WithUserContext):
        found.append(TowerInput("user", False, whole, "row of the user in the data set; -1: unknown"))
    return found


def _stored(origin: object) -> str:
    assert isinstance(origin, Own | Next)
    return origin.stored


class _Table(nn.Module):
    """Vectors by id."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, ids: Tensor) -> Tensor:
        """[n, dim] of [n]."""
        return F.embedding(ids, self.weight)  # type: ignore[arg-type]


def _without_bags(model: RetrievalModel) -> RetrievalModel:
    """With a table of sums in place of each feature of several values, whose number no graph can follow."""
    layout = model.embedding.layout
    lists = [model.embedding.features, *([layout.users] if isinstance(layout, WithUserContext) else [])]
    for features in lists:
        for number, feature in enumerate(features):
            if isinstance(feature, MultiCategoricalEmbedding):
                with torch.no_grad():
                    features[number] = _Table(feature(torch.arange(len(feature.offsets) - 1)))
    return model
