"""Training of networks over fields: Adam on log loss (or squared error), the epoch that validation
chooses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from behavior.errors import UserError
from models.evaluation.actions.rows import LabelledRows
from models.rankers.config import RankersConfig
from models.rankers.data import Fitting, Float64Array
from models.rankers.fields import Batches, FieldVectors, fields_of
from models.rankers.floors import Fitted
from models.rankers.networks import NETWORKS

_AT_ONCE = 1 << 13


def fit_network(name: str, fitting: Fitting, config: RankersConfig) -> Fitted:
    """A network of `NETWORKS`, trained.

    With validation rows, training ends after `config.patience` epochs without a lower loss on them, and the
    best epoch counts; on more rows it takes as many epochs as that.

    Raises:
        UserError: it is to be trained on a GPU, and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no GPU", where="rankers.device = cuda", fix="--set rankers.device=cpu")
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return _Training(name, fitting, config).run()


class _Training:
    def __init__(self, name: str, fitting: Fitting, config: RankersConfig) -> None:
        self.fitting, self.config = fitting, config
        self.is_binary = fitting.data.label.is_binary
        self.events = config.history if name == "din" else 0
        labels = fitting.train.label[:, 0]
        self.mean = 0.0 if self.is_binary else float(labels.mean())
        self.model = NETWORKS[name](fields_of(fitting.data, fitting.train), config).to(config.device)
        tables = [
            parameter
            for module in self.model.modules()
            if isinstance(module, FieldVectors)
            for parameter in module.parameters()
        ]
        others = [p for p in self.model.parameters() if all(p is not table for table in tables)]
        groups: list[dict[str, Any]] = [
            {"params": tables, "weight_decay": config.weight_decay},
            {"params": others},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=config.learning_rate)
        self.generator = np.random.default_rng(config.seed)

    def run(self) -> Fitted:
        train = Batches(self.fitting.data, self.fitting.train, self.events)
        valid = self.fitting.valid
        epochs = int(self.fitting.chosen.get("epochs", self.config.epochs if valid is not None else 1))
        best, best_loss, state = 0, float("inf"), None
        for epoch in range(1, epochs + 1):
            self._epoch(train)
            if valid is None:
                continue
            loss = self._loss(valid)
            if loss < best_loss:
                best, best_loss, state = epoch, loss, copy.deepcopy(self.model.state_dict())
            elif epoch - best >= self.config.patience:
                break
        if state is not None:
            self.model.load_state_dict(state)
        chosen: dict[str, Any] = {"epochs": best if valid is not None else epochs}
        return Fitted(self._score, chosen, is_logit=True)

    def _epoch(self, train: Batches) -> None:
        self.model.train()
        for batch in train.shuffled(self.config.batch_rows, self.generator):
            batch = batch.to(self.config.device)
            loss = self._criterion(self.model(batch), batch.label)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.model.eval()

    def _criterion(self, out: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        if self.is_binary:
            return F.binary_cross_entropy_with_logits(out, label)
        return F.mse_loss(out, label - self.mean)

    def _loss(self, rows: LabelledRows) -> float:
        out = torch.from_numpy(self._score(rows) - self.mean)
        return float(self._criterion(out, torch.from_numpy(rows.label[:, 0].astype(np.float64))))

    def _score(self, rows: LabelledRows) -> Float64Array:
        batches = Batches(self.fitting.data, rows, self.events)
        with torch.no_grad():
            device = self.config.device
            parts: list[npt.NDArray] = [
                self.model(batch.to(device)).cpu().numpy() for batch in batches.in_order(_AT_ONCE)
            ]
        return np.concatenate([np.zeros(0), *parts]).astype(np.float64) + self.mean
