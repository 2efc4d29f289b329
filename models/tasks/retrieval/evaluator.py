"""Judges a retrieval model: it ranks every known item for every target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.batch import PackedBatch
from models.data.item_domains import ItemDomains
from models.data.kept import KeptEvents
from models.data.loading import SequenceSource
from models.data.sequences import Int32Array, SequenceData
from models.data.windows import gather, history_windows
from models.distributed.processes import SINGLE, Processes
from models.evaluation.breakdown import check_attributes
from models.evaluation.config import EvaluationConfig
from models.evaluation.dense import DenseMasses
from models.evaluation.held_scores import HeldScores
from models.evaluation.judged import judged_sequences
from models.evaluation.log_loss import mean_log_loss
from models.evaluation.ranking import Scorer, evaluate_scorer, rank_split
from models.evaluation.report import RankingEvaluation
from models.evaluation.scores import Scores
from models.evaluation.seen import SeenItems
from models.evaluation.targets import Split, Targets, evaluated_users, targets_without_inputs
from models.tasks.config import ModelConfig
from models.tasks.retrieval.averaged import mean_scorer
from models.tasks.retrieval.behaviors import judge_behaviors
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.scoring import scoring
from models.tasks.task import Evaluator


class RetrievalEvaluator(Evaluator):
    """Ranks every known item for the targets of a split.

    Args:
        model: what ranks.
        shown: what the model is shown of a history.
        source: the sequences; gone through once now where `exclude_seen` is `auto`.
        config: how.
        new_items: known items that the model was not trained with, the last ones.
    """

    def __init__(
        self,
        model: RetrievalModel,
        shown: ModelConfig,
        source: SequenceSource,
        config: EvaluationConfig,
        new_items: int = 0,
    ) -> None:
        self.new_items = new_items
        source = judged_sequences(source, config.target_behavior)
        self.model, self.shown, self.source, self.config = model, shown, source, config
        self.seen = SeenItems.resolve(source, config.exclude_seen)
        self._without_inputs: dict[Split, int] = {}
        self.scorer: Scorer | None = None
        """What ranks in `judge` instead of the model alone."""
        if config.candidates == "domain" and model.held_items.is_divided:
            raise UserError(
                "items of a domain can only be ranked where all items are on one device",
                where="evaluation.candidates = domain",
                fix="train with train.item_table=replicated, or validate with evaluation.candidates=all and "
                "rank within domains by 'lrm evaluate --candidates domain'",
            )
        if config.log_loss and (config.candidates == "domain" or model.held_items.is_divided):
            raise UserError(
                "the log loss is that of a softmax over all items, on one device",
                where="evaluation.log_loss = true",
                fix="set evaluation.candidates=all and train.item_table=replicated, or leave log_loss out",
            )
        self.domains = ItemDomains.of_sequences(source) if config.candidates == "domain" else None
        self.time = shown.time if source.about.has_time else "none"
        self.protocol = {
            "time": self.time,
            "exclude_seen": self.seen.excluded,
            "exclude_seen_reason": self.seen.reason,
            **({"candidates_of": "domain"} if self.domains is not None else {}),
        }

    def users(self, split: Split) -> int:
        """Users with a target that has a history; goes through the sequences."""
        return sum(evaluated_users(part, split) for part in self.source)

    def evaluate(self, split: Split, processes: Processes = SINGLE) -> dict[str, Any]:
        """As `models.evaluation.ranking.evaluate_scorer`, and `time`."""
        metrics = evaluate_scorer(
            self.source,
            model_scorer(self.model, self.shown),
            split=split,
            config=self.config,
            seen=self.seen,
            domains=self.domains,
            processes=processes,
        )
        shown = {"time": self.time} | self._about_behaviors(split, processes)
        return metrics | shown | self._log_loss(split, processes)

    def averaged(self, others: Sequence[Evaluator]) -> RetrievalEvaluator:
        """See `Evaluator.averaged`.

        Raises:
            UserError: one ranks no items, or is not shown the time that another one is shown.
        """
        every = [one for one in (self, *others) if isinstance(one, RetrievalEvaluator)]
        if len(every) <= len(others):
            raise UserError(
                "only runs that rank items have probabilities of items to average",
                where="--average",
                fix="leave it out; --stack judges ranking runs together",
            )
        if len({one.time for one in every}) > 1:
            raise UserError(
                "one of the runs knows when the next event happens, and another one does not",
                where="--average",
                fix="average runs of one setting of model.time",
            )
        self.scorer = mean_scorer([model_scorer(one.model, one.shown, as_logits=True) for one in every])
        return self

    def judge(self, split: Split, shards: ShardFolder, about: dict[str, Any]) -> RankingEvaluation:
        """The rank of every target.

        Raises:
            UserError: the data set cannot be broken down as asked.
        """
        check_attributes(self.config.by, shards)
        rankings = rank_split(
            self.source,
            self.scorer or model_scorer(self.model, self.shown),
            split=split,
            config=self.config,
            seen=self.seen,
            candidates=self._candidates,
            domains=self.domains,
        )
        new = self._about_new(rankings.item) if self.new_items else {}
        shown = {"time": self.time} | self._about_behaviors(split) | self._log_loss(split)
        return RankingEvaluation.of(rankings, self.config, shards, shown | new | about)

    def _log_loss(self, split: Split, processes: Processes = SINGLE) -> dict[str, float]:
        if not self.config.log_loss:
            return {}
        scorer = model_scorer(self.model, self.shown, as_logits=True)
        return mean_log_loss(self.source, scorer, split, self.config.batch_size, processes)

    @property
    def _candidates(self) -> int:
        left_out = self.new_items if self.config.new_items == "leave_out" else 0
        return self.source.about.num_items - left_out

    def _about_behaviors(self, split: Split, processes: Processes = SINGLE) -> dict[str, Any]:
        """What the model is shown and told of behaviors, and how well it predicts the next one, if it does.

        Of one behavior that is evaluated: which. Whether scores depend on the target's behavior. Where not
        all events are inputs: which are, and targets whose history has none of them.
        """
        target = self.config.target_behavior
        found: dict[str, Any] = {} if target is None else {"target_behavior": target}
        if self.model.is_told_behavior:
            found["told_behavior"] = True
        inputs = self.shown.input_behaviors
        if inputs != "all":
            if split not in self._without_inputs:
                self._without_inputs[split] = sum(
                    targets_without_inputs(part, split, inputs) for part in self.source
                )
            found |= {"input_behaviors": inputs, "targets_without_inputs": self._without_inputs[split]}
        if self.model.next_behavior is not None:
            size = self.config.batch_size
            found |= judge_behaviors(self.model, self.shown, self.source, split, size, processes)
        return found

    def _about_new(self, targets: Int32Array) -> dict[str, Any]:
        first = self.source.about.num_item_ids - self.new_items
        return {
            "new_items": self.new_items,
            "new_items_ranked": self.config.new_items == "rank",
            "new_targets": int((targets >= first).sum()),
        }


def model_scorer(model: RetrievalModel, config: ModelConfig, *, as_logits: bool = False) -> Scorer:
    """Score every known item by the query after the newest `max_length` events of the history.

    Item vectors are made here, once: a model that was trained on needs a new scorer. The scorer takes
    gradients and dropout out of the model while it scores, and puts its mode back. Events of behaviors that
    are no inputs are left out before; a history without any others has a query of zeros. With `as_logits`
    scores are those of a softmax, divided by the temperature, whatever the model has.
    """
    held, inputs = model.held_items, KeptEvents(config.input_behaviors)
    with scoring(model):
        items = held.filled(model.item_vectors())
    pin = model.device.type == "cuda"

    def score(data: SequenceData, targets: Targets) -> Scores:
        # Where items are divided, processes without targets take part in the look-ups of the others.
        if not len(targets) and not held.is_divided:
            return HeldScores(items[:0], items, held)
        windows = history_windows(
            data, targets.sequence, targets.stop, targets.event, config.max_length, inputs.of(data)
        )
        on_host = gather(data, windows, time=config.time, pin=pin)
        batch = on_host.to(model.device, non_blocking=pin)
        with scoring(model):
            outputs = model.outputs(batch)
            return newest_scores(model, outputs, batch, on_host.item, items, as_logits=as_logits)

    return score


def newest_scores(
    model: RetrievalModel,
    outputs: torch.Tensor,
    batch: PackedBatch,
    items_on_host: torch.Tensor,
    items: torch.Tensor,
    *,
    as_logits: bool = False,
) -> Scores:
    """Scores after the newest event of each sequence: inner products, and all that competes with them.

    Args:
        model: what was computed with.
        outputs: [events, dim] what it knows after each event.
        batch: the events, on its device.
        items_on_host: [events] their item ids.
        items: [held items, dim] vectors, `held_items.filled(item_vectors())`.
        as_logits: products are divided by the temperature in any case, and not only beside other mass.
    """
    held, lengths = model.held_items, batch.sequences.lengths
    query = newest_queries(model.queries(outputs), batch)
    mass = model.sparse_mass(outputs, batch, items_on_host, lengths)
    dense = DenseMasses.of(model.trend_mass(outputs, batch), model.jump_mass(outputs, batch))
    votes = model.vote_shares(outputs, batch, items_on_host, lengths)
    if as_logits or mass is not None or dense is not None or votes is not None:
        query = query / model.temperature
    scores = HeldScores(query, items, held, mass, dense)
    if votes is None or model.jump_share is None:
        return scores
    return scores.mixed_with(votes, model.jump_share)


def newest_queries(queries: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
    """[sequences, dim] the query after the newest event of each sequence; zeros where there is no event.

    By zeros all items score alike, and ties count against the target.
    """
    end = batch.offsets[1:]
    if all(batch.sequences.lengths):
        return queries[end - 1]
    padded = torch.cat([queries, queries.new_zeros(1, queries.shape[1])])
    return padded[torch.where(batch.lengths > 0, end - 1, len(queries))]
