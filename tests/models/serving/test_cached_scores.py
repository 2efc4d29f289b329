"""All that a trained model scores by, out of the cache: against the scores of whole histories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from behavior.shards.folder import open_shards
from models.attention import dispatch
from models.build import build_task, sequences_of
from models.config import load_config
from models.data.sequences import SequenceData
from models.data.windows import gather, history_windows
from models.evaluation.targets import Targets
from models.history.jumps import JumpLogits
from models.serving.cache import HistoryCache
from models.tasks.retrieval import RetrievalModel, model_scorer
from models.tasks.retrieval.task import RetrievalTask
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.history.jumps.test_jump_runs import shards
from tests.models.serving.cached import assert_close, padded

LONGEST = 5
SMALL = ["model.dim=8", f"model.max_length={LONGEST}", "model.blocks=2", "train.device=cpu"]
JUMPS = ["loss.jumps=learned", "loss.jump_neighbors=3", "loss.jump_events=3", "loss.jump_window=4"]
EXTRAS = {
    "inner products": [],
    "history": ["loss.history=learned"],
    "keys of items": ["loss.history=learned", "loss.history_keys=items"],
    "jumps": ["loss.jump_training=joint", *JUMPS],
    "jumps without one's own": ["loss.jump_training=joint", "loss.jump_own=subtract", *JUMPS],
    "jumps apart": [*JUMPS, "loss.jump_training=apart"],
    "trends": ["loss.trends=learned"],
    "of channels": ["loss.history=learned", "embedding.layout=channels"],
    "all": ["loss.history=learned", "loss.trends=learned", "loss.jump_training=joint", *JUMPS],
}


def model_of(folder: Path, changes: list[str]) -> tuple[Any, RetrievalModel, SequenceData]:
    """With weights far from their first values, and all events of the data set."""
    data, config = open_shards(folder), load_config("default", [*SMALL, *changes])
    torch.manual_seed(0)
    task = build_task(config, data)
    assert isinstance(task, RetrievalTask)
    source = sequences_of(data, config, task.columns)
    if isinstance(task.model.jumps, JumpLogits):
        task.model.jumps.count(source)
    for module in task.model.modules():
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.4)
    return config, task.model.eval(), next(iter(source))


@pytest.mark.parametrize("changes", EXTRAS.values(), ids=EXTRAS)
def test_scores_are_those_of_whole_histories(
    changes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histories that grow event by event, past the longest, and are asked about what came next; also in
    passes that are padded as those that are recorded."""
    config, model, data = model_of(shards(tmp_path / "shards"), changes)
    cache = HistoryCache(model, 1 << 20, time=config.model.time, page_events=2)
    score, users = model_scorer(model, config.model), np.arange(len(data.row))
    fixed = HistoryCache(model, 1 << 20, time=config.model.time, page_events=2)
    padded(fixed)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    begin = data.offsets[:-1]
    told = begin
    for length in (2, 3, 4, LONGEST + 1):
        stop = begin + length
        windows = history_windows(data, users, stop, stop, int((stop - told).max()))
        batch = gather(data, windows, time=config.model.time)
        cache.append(users, batch, before=told - begin)
        fixed.append(users, batch, before=told - begin)
        found = cache.scores(users).columns(0, model.num_items)
        expected = score(data, Targets(users, stop, stop)).columns(0, model.num_items)
        assert_close(found, expected)
        assert_close(fixed.scores(users).columns(0, model.num_items), expected)
        told = stop
    assert fixed.counts.replayed == 8
    # Another question than the one they came with.
    if model.is_told_behavior:
        wanted = 3 - data.behavior[stop]
        behavior = data.behavior.copy()
        behavior[stop] = wanted
        other = replace(data, events={**data.events, "behavior": behavior})
        expected = score(other, Targets(users, stop, stop)).columns(0, model.num_items)
        assert_close(cache.scores(users, behavior=wanted).columns(0, model.num_items), expected)
