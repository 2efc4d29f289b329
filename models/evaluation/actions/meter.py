"""All metrics of one label, of predictions that come in batches: bounded memory, over processes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.distributed.processes import SINGLE, Processes
from models.evaluation.actions.auc import DISTINCT, AucCounter
from models.evaluation.actions.calibration import BUCKETS, Calibration
from models.evaluation.actions.labels import Label
from models.evaluation.actions.losses import entropy, log_losses, probabilities
from models.evaluation.actions.user_auc import user_auc


class Meter:
    """Adds up what the metrics of one label are made of.

    A binary label is predicted by a logit, and

    - `auc`: over all rows, exact (`models.evaluation.actions.auc`);
    - `gauc`: within users, weighted by rows (`models.evaluation.actions.user_auc`), of the users with both
      labels; `one_class_users` are the others;
    - `log_loss`: mean, in nats, probabilities clipped (`models.evaluation.actions.losses`);
    - `normalized_entropy`: log loss over that of always predicting the rate of positives (He et al., 2014);
    - `calibration`, expected over observed positives, and `expected_calibration_error`.

    A number is predicted by a number: `rmse`, `mae`.

    Args:
        label: what is predicted.
        distinct: scores in memory (`AucCounter`).
    """

    def __init__(self, label: Label, distinct: int = DISTINCT) -> None:
        self.label = label
        self.counter = AucCounter(distinct)
        self._calibration = np.zeros((3, BUCKETS))
        # rows, positives or sum of values, sum of losses, weighted AUCs, their rows, users with both, users.
        self._sums = np.zeros(8)
        self._open: tuple[npt.NDArray, ...] | None = None
        self._done: set[int] = set()

    def add(self, user: npt.NDArray, predicted: npt.NDArray, labels: npt.NDArray) -> None:
        """Rows whose labels are known; those with NaN count nothing.

        Args:
            user: [rows] whole numbers; a user's rows follow each other, and all are of one process.
            predicted: [rows] float32: logits, or numbers.
            labels: [rows] float32.

        Raises:
            ValueError: a prediction is NaN, a user comes again after others, or a label cannot be.
        """
        known = ~np.isnan(labels)
        user, labels = np.asarray(user, np.int64)[known], np.asarray(labels)[known]
        predicted = np.asarray(predicted, np.float32)[known]
        if not len(user):
            return
        if not self.label.is_binary:
            if np.isnan(predicted).any():
                raise ValueError("a prediction is NaN")
            error = predicted.astype(np.float64) - labels
            self._sums[:4] += [len(user), labels.sum(dtype=np.float64), (error**2).sum(), np.abs(error).sum()]
            return
        self.counter.add(predicted, labels)
        losses = log_losses(predicted, labels)
        self._sums[:3] += [len(user), labels.sum(dtype=np.float64), losses.sum()]
        found = Calibration.of(probabilities(predicted), labels)
        self._calibration += np.stack([found.rows, found.predicted, found.positives])
        self._add_users(user, predicted, labels)

    def calibration(self, processes: Processes = SINGLE) -> Calibration:
        """Of the rows of all processes."""
        sums = processes.sum(self._calibration.ravel().tolist())
        return Calibration(*np.array(sums).reshape(3, BUCKETS))

    def metrics(self, processes: Processes = SINGLE) -> dict[str, Any]:
        """The metrics over the rows of all processes, which call together.

        Returns:
            `rows`; of a binary label `positives` and `BINARY`, `gauc_users` and `one_class_users`; of a
            number `mean` and `REGRESSION`. What is not a number, as the AUC of rows with one label, is left
            out.
        """
        self._close()
        sums = processes.sum(self._sums.tolist())
        rows, total = sums[0], sums[1]
        if not rows:
            return {"rows": 0}
        if not self.label.is_binary:
            mean = {"rows": int(rows), "mean": total / rows}
            return mean | {"rmse": math.sqrt(sums[2] / rows), "mae": sums[3] / rows}
        calibration, auc = self.calibration(processes), self.counter.auc(processes)
        loss, without = sums[2] / rows, float(entropy(total / rows))
        found: dict[str, float | None] = {
            "auc": auc,
            "gauc": sums[3] / sums[4] if sums[4] else None,
            "log_loss": loss,
            "normalized_entropy": loss / without if without else None,
            "calibration": calibration.ratio(),
            "expected_calibration_error": calibration.expected_error(),
        }
        counts = {"rows": int(rows), "positives": int(total)}
        counts |= {"gauc_users": int(sums[5]), "one_class_users": int(sums[6] - sums[5])}
        return counts | {name: value for name, value in found.items() if value is not None}

    def _add_users(self, *columns: npt.NDArray) -> None:
        """Count users whose rows are complete; the last one may go on in the next batch."""
        if self._open is not None:
            columns = tuple(np.concatenate(pair) for pair in zip(self._open, columns, strict=True))
        begin = int(np.flatnonzero(np.diff(columns[0], prepend=columns[0][0] - 1))[-1])
        self._count(*(column[:begin] for column in columns))
        self._open = tuple(column[begin:] for column in columns)

    def _close(self) -> None:
        if self._open is not None:
            self._count(*self._open)
            self._open = None

    def _count(self, user: npt.NDArray, predicted: npt.NDArray, labels: npt.NDArray) -> None:
        found = user_auc(user, predicted, labels)
        changes = np.count_nonzero(np.diff(user)) + (len(user) > 0)
        new = set(found.user.tolist())
        if changes > len(new) or new & self._done:
            raise ValueError("the rows of a user must follow each other")
        self._done |= new
        both = found.has_both
        weighted = (found.rows[both] * found.auc[both]).sum()
        self._sums[3:7] += [weighted, found.rows[both].sum(), both.sum(), len(both)]
