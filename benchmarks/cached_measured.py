"""What is measured of cached histories: the model, what users did, and what is computed anew."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.attention.masks import Causal
from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.inputs.tokens import Tokens
from models.serving.cache.growing import Storage
from models.serving.cache.past import PastInPlace
from models.tasks.retrieval.model import RetrievalModel

CALLS = 9
WARM_UP = 3
"""Of what is recorded, the first call of a shape loads kernels, and the second records it."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What is measured."""

    history: int = 4_096
    new: int = 128
    candidates: int = 256
    blocks: int = 8
    dim: int = 1_024
    items: int = 100_000
    device: str = "cuda"


SMALL = Size(48, 4, 8, 2, 32, 100, "cpu")


def make_model(size: Size) -> RetrievalModel:
    """Positions for candidates, too, so that it can compute them anew."""
    torch.manual_seed(0)
    config = BackboneConfig(kind="hstu", blocks=size.blocks, dim=size.dim, heads=4)
    longest = size.history + size.candidates
    counts = torch.ones(size.items, dtype=torch.int64)
    embedding = InputEmbedding(
        EmbeddingConfig(), ItemCatalog(size.items, 2, counts), 1, size.dim, longest, dropout=0.0
    )
    backbone = build_backbone(config, max_length=longest)
    model = RetrievalModel(embedding, backbone, first_item=2, num_items=size.items - 2, normalize=False)
    if size.device == "cuda":
        for module in model.modules():  # or every call would round them
            if isinstance(module, nn.Linear):
                module.bfloat16()
    return model.eval().to(size.device)


def make_batch(size: Size, users: int, first: int, length: int) -> PackedBatch:
    """Events `first` to `first + length` of as many users, ten minutes apart."""
    generator = np.random.default_rng(first)
    items = generator.integers(2, size.items, (users, length)).tolist()
    times = np.broadcast_to(600 * np.arange(first, first + length), (users, length))
    return PackedBatch.from_lists(items, timestamps=times.tolist(), query_times=(times + 600).tolist())


def joined(parts: list[PackedBatch], users: int) -> PackedBatch:
    """The same users' events, one part after the other."""
    rows: dict[str, list[list[int]]] = {
        name: torch.cat([part[name].view(users, -1) for part in parts], 1).tolist()
        for name in ("item", "timestamp", "query_time")
    }
    return PackedBatch.from_lists(rows["item"], timestamps=rows["timestamp"], query_times=rows["query_time"])


class Anew:
    """All events and candidates in one pass."""

    def __init__(self, model: RetrievalModel, batch: PackedBatch, candidates: int) -> None:
        self.model, self.candidates = model, candidates
        self.batch = batch
        self.x, self.tokens = self.inputs()

    def inputs(self) -> tuple[Tensor, Tokens]:
        batch = self.batch.to(self.model.device)
        users, length = batch.num_sequences, batch.max_length
        counts = torch.full((users,), self.candidates, device=self.model.device)
        last = torch.full_like(batch.position, length - self.candidates)
        batch = batch.with_values(position=torch.minimum(batch.position, last))
        x, tokens = self.model.embedding(batch)
        return x, replace(tokens, mask=Causal(candidates=counts)) if self.candidates else tokens

    def blocks(self) -> Tensor:
        out: Tensor = self.model.backbone(self.x, self.tokens)
        return out

    def outputs(self) -> Tensor:
        """[users, candidates or 1, dim] on the host."""
        out = self.model.backbone(*self.inputs()).view(self.batch.num_sequences, self.batch.max_length, -1)
        return out[:, -max(self.candidates, 1) :].cpu()


class Kept(nn.Module):
    """A backbone that keeps what it was last called with."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.arguments: tuple[Any, ...] = ()

    def forward(self, *arguments: Any) -> Tensor:
        self.arguments = arguments
        return self.again()

    def again(self) -> Tensor:
        x, tokens, past = self.arguments
        if isinstance(past, PastInPlace):  # what is found once a pass is found again
            past = replace(past, paging=replace(past.paging))
        out: Tensor = self.backbone(x, tokens, past)
        return out


def distance(found: Tensor, truth: Tensor) -> float:
    """Of two results, as a share of the second."""
    return float((found.float() - truth.float()).norm() / truth.float().norm())


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(
    call: Callable[[], object], before: Callable[[], object] = lambda: None, calls: int = CALLS
) -> float:
    """Of one call, from one wait for the device to the next; `before` is done before each, and not timed."""
    taken = []
    for number in range(calls + WARM_UP):
        before()
        wait()
        began = time.perf_counter()
        call()
        wait()
        if number >= WARM_UP:
            taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def replayed(call: Callable[[], object]) -> Callable[[], object]:
    """A CUDA graph of it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def make_budget(size: Size, users: int, storage: Storage) -> int:
    """For all users of a measurement, and as much again."""
    event = 2 * size.blocks * size.dim * (2 if storage == "bfloat16" else 4) + 64
    return event * (size.history + 64) * users * 2
