"""The protocol of a task: all that differs between, say, retrieval and ranking.

Training, checkpoints, FLOPs and evaluation work through a `Task` and name none. To add one, write a class for
the model with its objective, an `Evaluator`, and a `Task` that holds both together; then register its kind
(`models.tasks.registry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.loading import SequenceSource, TrainLoader
from models.data.versions import RowMaps
from models.distributed.processes import SINGLE, Processes
from models.distributed.tables import count_parameters
from models.evaluation.config import EvaluationConfig
from models.evaluation.targets import Split
from models.inputs.embedding import InputEmbedding
from models.tasks.flops import TrainingFlops, attended
from models.tasks.loss_batch import LossBatch


class Evaluation(Protocol):
    """What came of judging a model on one split; `models.evaluation.report.RankingEvaluation` is one."""

    @property
    def split(self) -> Split: ...

    @property
    def config(self) -> EvaluationConfig: ...

    @property
    def shards(self) -> ShardFolder: ...

    def report(self) -> dict[str, Any]:
        """Metrics, and under which protocol, as plain values."""


@dataclass(frozen=True)
class PlainEvaluation:
    """An `Evaluation` whose report is made already."""

    split: Split
    config: EvaluationConfig
    shards: ShardFolder
    metrics: dict[str, Any]

    def report(self) -> dict[str, Any]:
        """See `Evaluation.report`."""
        return self.metrics


class Evaluator(Protocol):
    """Judges a task's model on the sequences of one data set, as often as asked, by the weights of then."""

    config: EvaluationConfig
    protocol: dict[str, Any]
    """What decides the numbers besides the model, such as `time` and `exclude_seen`, as plain values."""

    def evaluate(self, split: Split, processes: Processes = SINGLE) -> dict[str, Any]:
        """The metrics that the task's kind names, and whatever else is to be logged, protocol included.

        Metrics over nobody are left out.

        All processes call it together; each may judge a share, and the first one's result counts. The model
        is left in the mode that it was in, and torch's random generators in their state.
        """
        ...

    def users(self, split: Split) -> int | None:
        """How many users, or whatever metrics are means over, a split evaluates; None: not known before."""
        return None

    def averaged(self, others: Sequence[Evaluator]) -> Evaluator:
        """Judges the mean of the probabilities of its model and those of others, an ensemble.

        Each model is shown what its own settings say; the rest is this evaluator's.

        Args:
            others: of the other models, on the same data set.

        Raises:
            UserError: the models have no probabilities that can be averaged.
        """
        raise UserError(
            "only runs that rank items have probabilities of items to average",
            where="--average",
            fix="leave it out; --stack judges ranking runs together",
        )

    def judge(self, split: Split, shards: ShardFolder, about: dict[str, Any]) -> Evaluation:
        """The same in one process, for a trained model, with all that `lrm evaluate` shows.

        Args:
            split: valid or test.
            shards: the data set.
            about: what is judged; part of the report.
        """
        return PlainEvaluation(split, self.config, shards, self.evaluate(split) | about)


class Task(Protocol):
    """What a model is trained for, with fresh or trained weights, on one data set.

    A checkpoint remembers the settings, among them the task's kind, and the state of `model`.
    """

    objective: nn.Module
    """`objective(step: LossBatch, denominator) -> loss`: the sum of the losses of the step's positions over
    `denominator` (a float; by default their number), a float32 scalar. A step without positions gives zero
    with zero gradients for every parameter, so that a process that has none still takes part."""
    model: nn.Module
    """The part of the objective that checkpoints hold and that is evaluated and served."""

    def look_at(self, loader: TrainLoader) -> None:
        """Learn of the training samples what the objective needs to know, once, before the first step.

        Every process has a loader of the same samples. A trained model that is only evaluated sees none.
        """

    def table_rows(self, maps: RowMaps) -> dict[str, Tensor]:
        """The tables of `model` that have a row an item, a behavior or a value of a feature.

        By them a model goes over to a later version of its data set, or to another one, whose new rows are
        drawn afresh. A task without such tables cannot.

        Returns:
            For each, by the name of its weight in the model, its rows out of `maps`.
        """
        return {}

    looks_up_targets: bool = False
    """Whether the objective looks the items of targets up, with those of the inputs where `LossBatch.places`
    says how. Several processes send each other less then."""

    def prepare(self, batch: PackedBatch) -> LossBatch:
        """Which positions of a batch have a loss; on the host."""
        return LossBatch(batch)

    def evaluator(self, source: SequenceSource, config: EvaluationConfig) -> Evaluator:
        """Judges `model`.

        Args:
            source: the sequences, read at every evaluation.
            config: how.
        """
        ...

    def flops(self) -> TrainingFlops:
        """What a step costs."""
        ...

    @property
    def columns(self) -> Columns:
        """Columns of the batches that are read: the core ones, and those of the model's input embedding.

        A task that reads more (a label, say) adds them: `Columns.merged(super().columns, [label])`.
        """
        embedding = self._embedding
        return CORE if embedding is None else Columns.merged(CORE, embedding.columns)

    def token_lengths(self, batch: PackedBatch) -> tuple[int, ...]:
        """Tokens that a backbone sees of each sequence of a batch, on the host: what a step costs follows.

        By default those of the layout of the model's input embedding, where it has one.
        """
        embedding = self._embedding
        sequences = batch.sequences if embedding is None else embedding.layout.tokens(batch).sequences
        return sequences.lengths

    def squared_lengths(self, lengths: Sequence[int]) -> int:
        """What attention costs for sequences of so many tokens, in squared lengths (`StepWork`)."""
        local = getattr(getattr(self.model, "backbone", None), "local", None)
        return sum(attended(length, local) for length in lengths)

    @property
    def num_parameters(self) -> int:
        """Parameters of the model, those that other processes hold included."""
        return count_parameters(self.model)

    @property
    def _embedding(self) -> InputEmbedding | None:
        found = getattr(self.model, "embedding", None)
        return found if isinstance(found, InputEmbedding) else None
