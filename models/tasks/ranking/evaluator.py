"""Judges a ranking model: the actions of the rows of a split, each given everything before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.shards.folder import ShardFolder
from models.data.loading import SequenceSource
from models.data.sequences import SequenceData
from models.data.windows import gather
from models.distributed.processes import SINGLE, Processes, share_of
from models.evaluation.actions.meter import Meter
from models.evaluation.actions.report import ActionEvaluation, means
from models.evaluation.actions.rows import LabelledRows, labelled_rows
from models.evaluation.actions.sampled import Negatives
from models.evaluation.config import EvaluationConfig
from models.evaluation.targets import Split
from models.tasks.config import ModelConfig
from models.tasks.ranking.ensemble import RankingEnsemble
from models.tasks.ranking.model import RankingModel
from models.tasks.ranking.negatives import ask_about_sampled, sampled_items
from models.tasks.ranking.passes import Passes
from models.tasks.retrieval.evaluator import RetrievalEvaluator
from models.tasks.retrieval.scoring import scoring
from models.tasks.task import Evaluator


class RankingEvaluator(Evaluator):
    """Predicts the labels of the rows of a split.

    Args:
        model: what predicts.
        shown: what the model is shown of a history.
        source: the sequences, read with the task's columns.
        config: how.
        retrieval: judges the same backbone's retrieval, where it is trained for that, too; None: it is not.
        negatives: what stands beside the rows of the log; None: nothing.
    """

    def __init__(
        self,
        model: RankingModel | RankingEnsemble,
        shown: ModelConfig,
        source: SequenceSource,
        config: EvaluationConfig,
        retrieval: RetrievalEvaluator | None = None,
        negatives: Negatives | None = None,
    ) -> None:
        self.retrieval, self.negatives = retrieval, negatives
        self.model, self.shown, self.source, self.config = model, shown, source, config
        self.time = shown.time if source.about.has_time else "none"
        self.protocol: dict[str, Any] = {"time": self.time}
        if negatives is not None:
            self.protocol["negatives"] = negatives.about

    def users(self, split: Split) -> int:
        """Users with a row; goes through the sequences."""
        found = (self._rows(part, split) for part in self.source)
        return sum(len(np.unique(rows.sequence)) for rows in found)

    def evaluate(self, split: Split, processes: Processes = SINGLE) -> dict[str, Any]:
        """The metrics of `models.evaluation.actions.meter`; of several labels means, and each in `labels`."""
        meters = [Meter(label) for label in self.model.labels]
        for data in self.source:
            rows = self._rows(data, split)
            share = share_of(data.num_sequences, processes.rank, processes.count)
            place = np.searchsorted(data.row, rows.sequence)
            rows = rows.take((place >= share.start) & (place < share.stop))
            predicted = self.predicted(data, rows)
            for number, meter in enumerate(meters):
                meter.add(rows.sequence, predicted[:, number], rows.label[:, number])
        every = [meter.metrics(processes) for meter in meters]
        beside = self.protocol
        if self.retrieval is not None:
            beside = beside | {"retrieval": self.retrieval.evaluate(split, processes)}
        if len(every) == 1:
            return every[0] | beside
        named = {label.name: found for label, found in zip(self.model.labels, every, strict=True)}
        return means(every) | {"rows": max(found["rows"] for found in every), "labels": named} | beside

    def judge(self, split: Split, shards: ShardFolder, about: dict[str, Any]) -> ActionEvaluation:
        """The prediction of every row.

        Raises:
            UserError: there is no row.
        """
        parts, predicted = [], []
        for data in self.source:
            parts.append(self._rows(data, split))
            predicted.append(self.predicted(data, parts[-1]))
        rows = LabelledRows.concatenated(parts)
        if self.retrieval is not None:
            about = about | {"retrieval": self.retrieval.evaluate(split)}
        return ActionEvaluation(
            rows, np.concatenate(predicted), split, self.config, shards, self.protocol | about, self.negatives
        )

    def _rows(self, data: SequenceData, split: Split) -> LabelledRows:
        rows = labelled_rows(data, self.model.labels, split, known_only=self.config.known_only)
        return rows if self.negatives is None else self.negatives.among(data, rows, split)

    def predicted(self, data: SequenceData, rows: LabelledRows) -> npt.NDArray[np.float32]:
        """[rows, labels] logits of actions, and numbers.

        Args:
            data: some sequences.
            rows: of them, in order.
        """
        found = np.empty((len(rows), len(self.model.labels)), np.float32)
        for place, batch in self._batches(data, rows):
            found[place] = batch[:, : found.shape[1]]
        return found if self.negatives is None else found + np.float32(self.negatives.correction)

    def _batches(
        self, data: SequenceData, rows: LabelledRows
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        device = self.model.device
        pin = device.type == "cuda"
        passes = Passes.of(data, rows, self.shown.max_length)
        for windows, place, asked in passes.batches(self.config.batch_size):
            drawn = None if self.negatives is None else rows.take(place)
            items = None if drawn is None else sampled_items(windows.lengths, asked, drawn)
            batch = gather(data, windows, time=self.shown.time, pin=pin, asked=items)
            if drawn is not None:
                ask_about_sampled(batch, asked, drawn)
            with scoring(self.model):
                on_device = batch.to(device, non_blocking=pin)
                yield place, self.model(on_device, asked.to(device)).cpu().numpy()
