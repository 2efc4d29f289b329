"""DIN and DCN-v2 of FuxiCTR on the rows of the protocols of docs/ranking.md, by the metrics of this project.

    pip install --target peers fuxictr
    python benchmarks/ranking_peers/fuxictr_models.py --input ml-1m --library peers
    python benchmarks/ranking_peers/fuxictr_models.py --input ml-1m --library peers --models DIN

Their models and their training: Adam, the epoch with the best AUC on validation, a tenth of the learning rate
after an epoch without a better one, and the end after two. From here come the rows: user, item, all features
(several values as one, the set of them) and the last 50 events before each row with their labels, what `din`
of models/rankers is told. `--input` is the folder of MovieLens-1M as published. Appends lines to `--csv`.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from ranking_floors import PROTOCOLS, show
from synthetic import machine

import behavior
from behavior.shards.folder import ShardFolder
from models.evaluation.actions.labels import parse_labels
from models.evaluation.actions.names import BINARY
from models.evaluation.actions.report import ActionEvaluation
from models.evaluation.actions.rows import LabelledRows
from models.evaluation.config import EvaluationConfig
from models.rankers.data import Fitting, RankerData
from models.rankers.fields import Batch, Batches, Field, fields_of

LABEL = "value>=4"
EVENTS, DIM = 50, 16
MODELS: dict[str, dict[str, Any]] = {
    "DIN": {"dnn_hidden_units": [128, 64], "attention_hidden_units": [36], "net_dropout": 0.2},
    "DCNv2": {"parallel_dnn_hidden_units": [128, 64], "num_cross_layers": 3, "net_dropout": 0.2},
}
"""By their names, with the sizes that rankers have here."""


class Told:
    """Fields as FuxiCTR knows them: ids of users beside the sequence, what an item has within it.

    Args:
        fields: of a data set.
    """

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.ids: dict[str, torch.Tensor] = {}
        self.features: OrderedDict[str, dict[str, Any]] = OrderedDict()
        for field in fields:
            sets, numbers = np.unique(field.ids.sort(1).values.numpy(), axis=0, return_inverse=True)
            self.ids[field.name] = torch.from_numpy(numbers.reshape(-1))
            self.features[field.name] = self._feature(field.of, len(sets))
        self.features["act"] = self._feature("item", 4)  # 0: the candidate's, which nobody knows

    def _feature(self, source: str, count: int) -> dict[str, Any]:
        # Of what is no event all vectors are 0: their mean over events is a sum over all, padding too.
        padding = {"padding_idx": 0} if source == "item" else {}
        return {"source": source, "type": "categorical", "vocab_size": count, **padding}

    def __call__(self, batch: Batch) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
        """Features of users and the label, [rows]; of the events and then the candidate, end to end, [rows *
        (events + 1)]; and [rows, events] whether there is such an event."""
        users = {
            name: self.ids[name][batch.user]
            for name, feature in self.features.items()
            if feature["source"] == "user"
        }
        items = torch.cat([batch.history, batch.item[:, None]], 1)
        within = {
            name: self.ids[name][items].flatten()
            for name, feature in self.features.items()
            if feature["source"] == "item" and name != "act"
        }
        within["act"] = torch.cat([batch.acts, torch.zeros_like(batch.item)[:, None]], 1).flatten()
        there = (batch.acts > 0).float()
        there[:, -1] = 1.0  # who has no history has one event that is none
        return users | {"label": batch.label}, within, there


class Rows:
    """Batches of rows, as FuxiCTR iterates them: in order, or shuffled anew in every epoch.

    Args:
        data: the data set.
        rows: of it.
        told: makes theirs of ours.
        size: rows of a batch.
        shuffled: whether they are.
    """

    def __init__(self, data: RankerData, rows: LabelledRows, told: Told, size: int, shuffled: bool) -> None:
        self.batches, self.told, self.size = Batches(data, rows, EVENTS), told, size
        self.generator = np.random.default_rng(0) if shuffled else None

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def __iter__(self) -> Iterator[Any]:
        if self.generator is None:
            return (self.told(batch) for batch in self.batches.in_order(self.size))
        return (self.told(batch) for batch in self.batches.shuffled(self.size, self.generator))


def measure(
    shards: ShardFolder, name: str, folder: Path, config: EvaluationConfig, options: argparse.Namespace
) -> dict[str, Any]:
    """A model on one data set: its metrics, and what they cost."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.torch_utils import seed_everything

    begin = time.perf_counter()
    [label] = parse_labels(LABEL, shards.manifest.behaviors)
    data = RankerData.of(shards, label)
    fitting = Fitting.first(data)
    assert fitting.valid is not None
    told = Told(fields_of(data, fitting.train))
    features = FeatureMap("rows", str(folder))
    features.features, features.labels = told.features, ["label"]
    features.default_emb_dim, features.num_fields = DIM, features.get_num_fields()
    seed_everything(0)
    model = getattr(importlib.import_module(f"model_zoo.LongCTR.{name}.{name}"), name)(
        features,
        model_id=name,
        gpu=options.gpu,
        embedding_dim=DIM,
        embedding_regularizer=options.regularizer,
        learning_rate=1e-3,
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=["AUC", "logloss"],
        model_root=str(folder),
        verbose=0,
        **MODELS[name],
    )
    Path(model.model_dir).mkdir(parents=True, exist_ok=True)
    train = Rows(data, fitting.train, told, options.batch, shuffled=True)
    valid = Rows(data, fitting.valid, told, options.batch, shuffled=False)
    model.fit(train, epochs=options.epochs, validation_data=valid)
    rows = data.rows("test", known_only=config.known_only)
    chance = model.predict(Rows(data, rows, told, options.batch, shuffled=False)).astype(np.float64)
    chance = chance.clip(1e-7, 1 - 1e-7)
    logits = np.log(chance / (1 - chance)).astype(np.float32)[:, None]
    report = ActionEvaluation(rows, logits, "test", config, shards).report()
    low, high = report["intervals"]["auc"]
    return {
        "rows": report["rows"],
        "users": report["users"],
        **{metric: report.get(metric, "") for metric in BINARY},
        "auc_low": low,
        "auc_high": high,
        "chosen": {"epochs": model._epoch_index + 1, "regularizer": options.regularizer},
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    about, plain = __doc__, argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, formatter_class=plain)
    parser.add_argument("--input", required=True, help="folder of MovieLens-1M as published")
    parser.add_argument("--library", required=True, help="folder that fuxictr was installed to")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    parser.add_argument("--epochs", type=int, default=20, help="most epochs")
    parser.add_argument("--batch", type=int, default=2048, help="rows of a step")
    parser.add_argument("--regularizer", type=float, default=1e-6, help="L2 penalty on embeddings")
    parser.add_argument("--gpu", type=int, default=-1, help="number of the GPU; -1: the CPU")
    parser.add_argument("--csv", type=Path, default=Path("ranking-peers.csv"))
    options = parser.parse_args()
    sys.path.append(options.library)  # last: what both have is this project's
    print(f"{machine()}, fuxictr {_version(options.library)}\n")
    print("| protocol | counts | ranker | AUC | 95 % by user | GAUC | log loss | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for protocol in options.protocols:
            spec, settings = PROTOCOLS[protocol]
            shards = behavior.prepare(spec, Path(folder) / spec, options.input)
            config = EvaluationConfig(known_only="evaluation.known_only=true" in settings)
            for name in options.models:
                found = measure(shards, name, Path(folder), config, options)
                row = {"protocol": protocol, "counts": "train", "ranker": f"fuxictr {name}", **found}
                show(row)
                append(row, options.csv)


def append(row: dict[str, Any], path: Path) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*row], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def _version(library: str) -> str:
    found = sorted(Path(library).glob("fuxictr-*.dist-info"))
    return found[0].name.split("-")[1].removesuffix(".dist") if found else "?"


if __name__ == "__main__":
    main()
