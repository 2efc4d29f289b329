"""A second task, as a program that uses the package would add it: which behavior comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from behavior.shards.folder import ShardFolder
from models.data.about import about_sequences
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.loading import SequenceSource
from models.data.windows import gather, history_windows
from models.distributed.processes import SINGLE, Processes
from models.evaluation.config import EvaluationConfig
from models.evaluation.targets import Split
from models.tasks import Metric, TaskKind
from models.tasks.config import ModelConfig, TaskSettings
from models.tasks.flops import TrainingFlops, backbone_flops
from models.tasks.loss_batch import LossBatch
from models.tasks.parts import embedding_and_backbone, side_information
from models.tasks.task import Evaluator, Task


class BehaviorModel(nn.Module):
    """Logits of all behaviors for the event after each event."""

    def __init__(self, settings: TaskSettings, shards: ShardFolder) -> None:
        super().__init__()
        about = about_sequences(shards)
        self.embedding, self.backbone = embedding_and_backbone(
            settings,
            ItemCatalog.from_shards(shards),
            num_behaviors=about.num_behaviors,
            has_time=about.has_time,
            side=side_information(settings, shards),
        )
        self.head = nn.Linear(settings.model.dim, about.num_behaviors)

    def forward(self, batch: PackedBatch) -> Tensor:
        """[events, behaviors] float32."""
        x, tokens = self.embedding(batch)
        logits: Tensor = self.head(tokens.queries(self.backbone(x, tokens)))
        return logits.float()


class BehaviorObjective(nn.Module):
    """Cross-entropy."""

    def __init__(self, model: BehaviorModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, step: LossBatch, denominator: Tensor | float | None = None) -> Tensor:
        logits = self.model(step.batch).index_select(0, step.positions)
        target = (step.batch.target_behavior[step.positions] - 1).clamp(min=0)
        losses = F.cross_entropy(logits, target, reduction="none")
        if step.mask is not None:
            losses = losses.masked_fill(~step.mask, 0.0)
        if denominator is None:
            denominator = len(step.positions) if step.mask is None else step.mask.sum()
        return losses.sum() / denominator


class BehaviorEvaluator(Evaluator):
    """Judges the first event of each user's part of a split, given all before it."""

    def __init__(
        self, model: BehaviorModel, shown: ModelConfig, source: SequenceSource, config: EvaluationConfig
    ) -> None:
        self.model, self.shown, self.source, self.config = model, shown, source, config
        self.protocol = {"time": shown.time, "first_events": True}

    def evaluate(self, split: Split, processes: Processes = SINGLE) -> dict[str, Any]:
        own = [
            found
            for number, found in enumerate(self._log_probabilities(split))
            if number % processes.count == processes.rank
        ]
        joined = np.concatenate([found for theirs in processes.all_gather_object(own) for found in theirs])
        return {
            "accuracy": float(joined[:, 1].mean()),
            "log_loss": float(-joined[:, 0].mean()),
            "targets": len(joined),
            **self.protocol,
        }

    def _log_probabilities(self, split: Split) -> Iterator[np.ndarray]:
        """[targets, (log probability of what came, whether it was the likeliest)] of each batch."""
        for data in self.source:
            cut = data.train_end if split == "valid" else data.valid_end
            sequence = np.flatnonzero((cut > 0) & (cut < data.lengths))
            stop = data.offsets[sequence] + cut[sequence]
            for first in range(0, len(sequence), self.config.batch_size):
                rows = slice(first, first + self.config.batch_size)
                windows = history_windows(data, sequence[rows], stop[rows], stop[rows], self.shown.max_length)
                batch = gather(data, windows, time=self.shown.time)
                with evaluating(self.model):
                    logits = self.model(batch.to(next(self.model.parameters()).device)).cpu()
                asked, came = logits[batch.offsets[1:] - 1], torch.from_numpy(data.behavior[stop[rows]]) - 1
                chosen = F.log_softmax(asked, -1).gather(1, came[:, None].long()).squeeze(1)
                yield torch.stack([chosen, (asked.argmax(-1) == came).float()], 1).double().numpy()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(training)


class BehaviorTask(Task):
    """Holds them together."""

    def __init__(self, config: ModelConfig, objective: BehaviorObjective) -> None:
        self.config, self.objective, self.model = config, objective, objective.model

    def prepare(self, batch: PackedBatch) -> LossBatch:
        return LossBatch(batch, batch.target_behavior.nonzero().squeeze(1))

    def evaluator(self, source: SequenceSource, config: EvaluationConfig) -> BehaviorEvaluator:
        return BehaviorEvaluator(self.model, self.config, source, config)

    def flops(self) -> TrainingFlops:
        return backbone_flops(self.model, self.config, position=0.0)  # the head is applied to all tokens


def build(settings: TaskSettings, shards: ShardFolder, make_items: Callable[..., Any]) -> BehaviorTask:
    return BehaviorTask(settings.model, BehaviorObjective(BehaviorModel(settings, shards)))


NEXT_BEHAVIOR = TaskKind(
    "next_behavior",
    lambda config: [Metric("accuracy"), Metric("log_loss", higher_is_better=False)],
    build,
)
