"""Recommending as one writes it by hand: batches of users, a product with all items, a top-k, loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.build import sequences_of
from models.data.batch import PackedBatch
from models.serving.load import TrainedModel
from models.serving.recommend.users import DataSetUsers

BATCH = 128


@torch.no_grad()
def plain_loop(model: TrainedModel, k: int, exclude_seen: bool) -> list[tuple[Any, int, Any, float]]:
    """user, rank, item, score of all users of the data set, in lists; of models that read items and times."""
    module, ids, first = model.served.module, model.item_ids.to_pylist(), model.about.first_item
    vectors, longest = module.item_vectors(), model.config.model.max_length
    rows: list[tuple[Any, int, Any, float]] = []
    source = sequences_of(model.shards, model.config, model.task.columns)
    for part in DataSetUsers(model.shards, source):
        data, users = part.data, part.users["user"].to_pylist()
        items = np.split(data.item, data.offsets[1:-1])
        times = np.split(data.timestamp, data.offsets[1:-1])
        for begin in range(0, len(users), BATCH):
            own = [one.tolist() for one in items[begin : begin + BATCH]]
            when = [one.tolist() for one in times[begin : begin + BATCH]]
            batch = PackedBatch.from_lists(
                [one[-longest:] for one in own],
                timestamps=[one[-longest:] for one in when] if model.about.has_time else None,
            ).to(module.device)
            query = module(batch)[batch.offsets[1:] - 1]
            scores = query @ vectors.T
            if exclude_seen:
                for row, seen in enumerate(own):
                    places = torch.tensor([item - first for item in seen if item >= first])
                    scores[row, places.to(scores.device)] = float("-inf")
            best, place = (found.tolist() for found in scores.topk(k, dim=1))
            for row, user in enumerate(users[begin : begin + BATCH]):
                for rank in range(k):
                    rows.append((user, rank + 1, ids[place[row][rank]], best[row][rank]))
    return rows
