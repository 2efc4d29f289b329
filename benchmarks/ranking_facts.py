"""What trees, a logistic regression and a perceptron make of the very numbers that heads of ranking are told
beside the sequence.

    python benchmarks/ranking_facts.py DATA --recipe taobao/ranking [--set task.rates=[]] [--csv floors.csv]

The floor that a model with counters has to pass: the numbers of `task.counters` and `task.rates`, without the
sequence. `both` also has the counts of the ranker `lightgbm`. Fitted on the training part; the number of
trees, or of steps, is that of the lowest loss on validation. Prints a table of the test rows, and adds lines
to `--csv`.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightgbm
import numpy as np
import torch

import models
from behavior.shards.folder import open_shards
from models.build import build_task, sequences_of
from models.data.sequences import concat_sequences
from models.data.windows import gather
from models.evaluation.actions.meter import Meter
from models.evaluation.actions.names import BINARY
from models.evaluation.actions.rows import LabelledRows, labelled_rows
from models.rankers.counts import count_features
from models.rankers.data import RankerData
from models.tasks.ranking.heads import mlp
from models.tasks.ranking.negatives import ask_about_sampled, sampled_items
from models.tasks.ranking.passes import Passes
from models.tasks.ranking.task import RankingTask

_TREES = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 63,
    "min_data_in_leaf": 100,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
"""As of `models.rankers.trees`."""
_WHOLE = 1 << 30


class Told:
    """The numbers of rows of a data set.

    Args:
        folder: the shard folder.
        config: settings of a run.
    """

    def __init__(self, folder: Path, config: Any) -> None:
        self.shards = open_shards(folder)
        task = build_task(config, self.shards)
        assert isinstance(task, RankingTask)
        self.task, self.time = task, config.model.time
        source = sequences_of(self.shards, config, task.columns)
        task.look_at(SimpleNamespace(source=source))  # type: ignore[arg-type]
        self.data = concat_sequences(list(source))
        self.labels = task.model.labels

    def rows(self, part: Any) -> LabelledRows:
        """Of a part, drawn items among them where there are any."""
        rows = labelled_rows(self.data, self.labels, part)
        negatives = self.task.negatives
        return rows if negatives is None else negatives.among(self.data, rows, part)

    def numbers(self, rows: LabelledRows) -> np.ndarray:
        """[rows, numbers]."""
        model = self.task.members[0]
        found = np.empty((len(rows), model.counters.width), np.float32)
        for windows, place, asked in Passes.of(self.data, rows, _WHOLE).batches(2000):
            some = rows.take(place)
            items = None if self.task.negatives is None else sampled_items(windows.lengths, asked, some)
            batch = gather(self.data, windows, time=self.time, asked=items)
            if items is not None:
                ask_about_sampled(batch, asked, some)
            with torch.no_grad():
                found[place] = model.counters(batch, model.offset.sigmoid())[asked].numpy()
        return found


def trees(x: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
    """Logits of the test rows, and what validation chose."""
    train = lightgbm.Dataset(x["train"], y["train"])
    valid = train.create_valid(x["valid"], y["valid"])
    stop = [lightgbm.early_stopping(50, verbose=False)]
    booster = lightgbm.train(_TREES, train, 1000, valid_sets=[valid], callbacks=stop)
    best = booster.best_iteration
    return np.asarray(booster.predict(x["test"], num_iteration=best, raw_score=True)), {"trees": best}


def logistic(x: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
    """The same of a logistic regression on standardized numbers: the best of 200 steps of L-BFGS."""
    mean, deviation = x["train"].mean(0), np.maximum(x["train"].std(0), 1e-6)
    z = {part: torch.from_numpy((each - mean) / deviation) for part, each in x.items()}
    told = {part: torch.from_numpy(each) for part, each in y.items()}
    layer = torch.nn.Linear(z["train"].shape[1], 1)
    torch.nn.init.zeros_(layer.weight)
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    best = (np.inf, np.zeros(0), 0)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        found = loss(layer(z["train"])[:, 0], told["train"])
        found.backward()
        return found

    for step in range(10):
        optimizer.step(closure)
        with torch.no_grad():
            valid = float(loss(layer(z["valid"])[:, 0], told["valid"]))
            if valid < best[0]:
                best = (valid, layer(z["test"])[:, 0].numpy(), 20 * (step + 1))
    return best[1], {"steps": best[2]}


def perceptron(x: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
    """The same of a perceptron on standardized numbers, of the widths that `taobao/ranking` has: the best of
    6 epochs of Adam."""
    mean, deviation = x["train"].mean(0), np.maximum(x["train"].std(0), 1e-6)
    z = {part: torch.from_numpy((each - mean) / deviation) for part, each in x.items()}
    told = {part: torch.from_numpy(each) for part, each in y.items()}
    torch.manual_seed(0)
    net = torch.nn.Sequential(mlp(z["train"].shape[1], (256, 128), 0.1), torch.nn.Linear(128, 1))
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    optimizer = torch.optim.Adam(net.parameters(), 0.003, betas=(0.9, 0.98))
    steps = 6 * -(-len(told["train"]) // 2048)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=steps + 1, pct_start=0.1)
    best = (np.inf, np.zeros(0), 0)
    for epoch in range(6):
        net.train()
        for chosen in torch.randperm(len(told["train"])).split(2048):
            optimizer.zero_grad()
            loss(net(z["train"][chosen])[:, 0], told["train"][chosen]).backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            valid = float(loss(net(z["valid"])[:, 0], told["valid"]))
            if valid < best[0]:
                best = (valid, net(z["test"])[:, 0].numpy(), epoch + 1)
    return best[1], {"epochs": best[2]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a shard folder")
    parser.add_argument("--recipe", default="taobao/ranking")
    parser.add_argument("--set", nargs="*", default=[], help="settings: section.key=value")
    parser.add_argument("--name", default="", help="protocol, in the CSV file")
    parser.add_argument("--labels", nargs="*", help="some of the labels; numbers are of all")
    parser.add_argument("--names", nargs="*", help="some of the rankers")
    parser.add_argument("--csv", type=Path, help="file that lines are added to, as of ranking_floors.py")
    options = parser.parse_args()
    told = Told(options.data, models.load_config(options.recipe, ["train.device=cpu", *options.set]))
    rows = {part: told.rows(part) for part in ("train", "valid", "test")}
    facts = {part: told.numbers(each) for part, each in rows.items()}
    print("| label | ranker | AUC | GAUC | log loss | seconds |\n| --- | --- | --- | --- | --- | --- |")
    for number, label in enumerate(told.labels):
        if options.labels and label.name not in options.labels:
            continue
        y = {part: each.label[:, number] for part, each in rows.items()}
        counted = RankerData(told.shards, told.data, label, told.task.negatives)
        both = {
            part: np.column_stack([facts[part], count_features(counted, each, "train")])
            for part, each in rows.items()
        }
        every = (
            ("lightgbm, facts", trees, facts),
            ("logistic, facts", logistic, facts),
            ("perceptron, facts", perceptron, facts),
            ("lightgbm, both", trees, both),
        )
        for name, fit, x in every:
            if options.names and name not in options.names:
                continue
            begin = time.perf_counter()
            predicted, chosen = fit(x, y)
            meter = Meter(label)
            meter.add(rows["test"].sequence, predicted.astype(np.float32), y["test"])
            found = meter.metrics()
            seconds = round(time.perf_counter() - begin, 1)
            cells = [f"{found[metric]:.4f}" for metric in ("auc", "gauc", "log_loss")]
            print(f"| {label.name} | {name} | {' | '.join(cells)} | {seconds} |", flush=True)
            if options.csv:
                users = len(np.unique(rows["test"].sequence))
                line = [options.name or label.name, "train", name, len(y["test"]), users]
                line += [found.get(metric, "") for metric in BINARY]
                with options.csv.open("a", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow([*line, "", "", chosen, seconds])


if __name__ == "__main__":
    main()
