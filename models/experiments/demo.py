"""The demo: models beside baselines and oracles on a generated log whose best possible ranking is known, and
what one of them recommends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from behavior.shards.lock import exclusive
from behavior.shards.manifest import Manifest
from behavior.shards.storage import Folder
from behavior.synthetic import SyntheticConfig, SyntheticLog, ceilings, generate
from models.config import load_config
from models.evaluate_run import evaluate
from models.evaluation.baselines import evaluate_baselines
from models.evaluation.below import below_floors
from models.experiments.demo_people import people_tables, recommended_to_people
from models.experiments.demo_report import write_report
from models.training import refit, train
from models.training.observer import Silent, TrainObserver

MODELS = ("hstu", "sasrec")
SERVED = "hstu"
LABELS = {
    "popularity": "popularity",
    "markov": "first-order Markov chain",
    "recency": "own items, the newest first",
    "frequency": "own items, by decayed counts",
    "open": "open items, the newest first",
    "cooccurrence": "co-occurrence",
    "open+cooccurrence": "open items, then co-occurrence",
    "sasrec": "SASRec",
    "hstu": "HSTU",
    "history": "oracle: best ranker that sees the history",
    "latent": "oracle: ranker that knows the latent state",
}
"""Rankers: floors, models, oracles."""

Prepare = Callable[[Path, Path], Manifest]
"""Makes shards: of a spec's path, in a folder."""


def _no_observer(label: str) -> TrainObserver:
    return Silent()


@dataclass
class Demo:
    """Generates a log, prepares it, trains every model, compares all rankers, and recommends by one.

    Args:
        out: folder for everything: raw/, shards/, runs/, report.html.
        seed: of the log and of the trainings.
        prepare: makes the shards; how is not the models' business.
        told: called with the name of each step, when it begins (None) and with the seconds that it took.
        observer: makes what is told about the training of the model with that label.
    """

    out: Path
    seed: int
    prepare: Prepare
    told: Callable[[str, float | None], None] = lambda name, seconds: None
    observer: Callable[[str], TrainObserver] = _no_observer
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """All of it, report included.

        Returns:
            `results` by ranker, `share_of_history_oracle` (of NDCG@10), `below_floors` by model, `people`
            and what is recommended to them, `counts` of the data set, `seconds` of each step, and the path of
            the `report`.

        Raises:
            UserError: another job is writing to the folder.
        """
        with exclusive(Folder(str(self.out))):
            return self._run()

    def _run(self) -> dict[str, Any]:
        begin = time.perf_counter()
        log, limits, manifest = self._data()
        config = load_config("demo/hstu").evaluation
        with self._timed("evaluate the baselines"):
            floors, _ = evaluate_baselines(None, self.shards, "test", config)
        results: dict[str, Any] = {name: floors[name] for name in LABELS if name in floors}
        for kind in MODELS:
            with self._timed(f"train and evaluate {LABELS[kind]}"):
                results[kind] = self._train(kind)
        results |= limits
        with self._timed(f"train {LABELS[SERVED]} on every event, and recommend"):
            people = self._serve(log)
        record = {
            "results": results,
            "share_of_history_oracle": _shares(results),
            "below_floors": {kind: below_floors(results[kind], floors) for kind in MODELS},
            "people": people,
            "counts": manifest.counts.model_dump(),
            "seconds": self.seconds | {"all": time.perf_counter() - begin},
        }
        labels = {kind: LABELS[kind] for kind in MODELS}
        tables = (table_rows(record), repeat_rows(record), people_tables(people))
        report = write_report(self.out, record, tables, manifest, labels, below_lines(record))
        return record | {"report": str(report)}

    @property
    def raw(self) -> Path:
        return self.out / "raw"

    @property
    def shards(self) -> Path:
        return self.out / "shards"

    def _data(self) -> tuple[SyntheticLog, dict[str, Any], Manifest]:
        """Generate the log, state what no ranker can beat, and prepare the shards."""
        with self._timed("generate"):
            log = generate(SyntheticConfig(seed=self.seed))
            spec = log.write(self.raw)
        with self._timed("compute the oracles"):
            found = ceilings(log)
        with self._timed("prepare"):
            manifest = self.prepare(spec, self.shards)
        return log, {name: found[name] for name in ("history", "latent")}, manifest

    def _train(self, kind: str) -> dict[str, Any]:
        config = load_config(f"demo/{kind}", [f"train.seed={self.seed}"])
        train(config, self.shards, self.out / "runs" / kind, observer=self.observer(LABELS[kind]))
        return evaluate(self.out / "runs" / kind, "test")

    def _serve(self, log: SyntheticLog) -> list[dict[str, Any]]:
        """Train the chosen run anew on every event, as one does to serve a model, and recommend by it."""
        runs = self.out / "runs"
        refit(
            runs / SERVED,
            runs / "served",
            part="all",
            observer=self.observer(f"{LABELS[SERVED]} to be served"),
        )
        return recommended_to_people(runs / "served", log, self.raw)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        self.told(name, None)
        yield
        self.seconds[name] = time.perf_counter() - begin
        self.told(name, self.seconds[name])


def table_rows(record: dict[str, Any]) -> list[tuple[str, float, float, str]]:
    """Ranker, NDCG@10, HR@10 and share of the history oracle."""
    shares = record["share_of_history_oracle"]
    rows = []
    for name, label in LABELS.items():
        if name not in record["results"]:
            continue
        share = f"{shares[name]:.0%}" if name in shares else ""
        rows.append((label, record["results"][name]["ndcg@10"], record["results"][name]["hr@10"], share))
    return rows


def repeat_rows(record: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Ranker, and NDCG@10 of repeat and of explore targets; oracles are not asked for them apart."""
    rows = []
    for name, label in LABELS.items():
        parts = record["results"].get(name, {}).get("repeats")
        if parts:
            rows.append((label, parts["repeat"]["ndcg@10"], parts["explore"]["ndcg@10"]))
    return rows


def below_lines(record: dict[str, Any]) -> list[str]:
    """Which models are below which floors, in words."""
    floors = {
        kind: "; ".join(LABELS[each["floor"]] for each in found)
        for kind, found in record["below_floors"].items()
    }
    return [f"{LABELS[kind]} is below the floor: {names}" for kind, names in floors.items() if names]


def _shares(results: dict[str, Any]) -> dict[str, float]:
    best = results["history"]["ndcg@10"]
    return {
        kind: result["ndcg@10"] / best
        for kind, result in results.items()
        if kind not in ("history", "latent")
    }
