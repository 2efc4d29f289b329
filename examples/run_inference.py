"""Recommendations in a Beam pipeline of your own, by Beam's `RunInference` and a handler of a trained model.

python examples/run_inference.py RUN histories.jsonl recommendations

`lrm recommend RUN --histories FILE --out DIR --runner NAME` does the same with whole Arrow batches, dead
letters row by row and a manifest; this is for a pipeline with further steps, whose elements are dictionaries.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

import models
from models.serving.load import TrainedModel
from models.serving.recommend.values import rows_of

History = dict[str, Any]
"""A user and lists: {"user": "ann", "item": [...], "behavior": [...], "timestamp": [...]}."""


class RecommendHandler(ModelHandler[History, PredictionResult, TrainedModel]):
    """Recommends for batches of histories, with one model a process.

    Args:
        run: folder of the run, which workers must be able to read.
        batch: histories of a batch, at most.
        wanted: what `TrainedModel.recommend` takes: k, at, exclude_seen.
    """

    def __init__(self, run: str, *, batch: int = 256, **wanted: Any) -> None:
        super().__init__(min_batch_size=1, max_batch_size=batch)
        self.run, self.wanted = run, wanted

    def load_model(self) -> TrainedModel:
        return models.load_model(self.run, device="cpu")

    def run_inference(
        self, batch: Sequence[History], model: TrainedModel, inference_args: dict[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        # Users are numbered: two histories may have the same name, and one without items left has no rows.
        numbered = [{**history, "user": number} for number, history in enumerate(batch)]
        answers: list[list[dict[str, Any]]] = [[] for _ in batch]
        for rows in model.recommend(histories=numbered, **self.wanted):
            for row in rows_of(rows):
                answers[row.pop("user")].append(row)
        for history, answer in zip(batch, answers, strict=True):
            yield PredictionResult(history, answer)

    def get_metrics_namespace(self) -> str:
        return "recommend"


def as_line(result: PredictionResult) -> str:
    return json.dumps({"user": result.example["user"], "items": result.inference})


def as_dead_letter(failed: tuple[Any, tuple[type, str, list[str]]]) -> str:
    """A batch of which one history cannot be read is a dead letter as a whole, with the reason."""
    batch, (_, reason, _) = failed
    return json.dumps({"reason": reason, "batch": batch})


def recommend(run: str, histories: str, out: str, options: Sequence[str] = (), **wanted: Any) -> None:
    """Read JSON lines, recommend, and write JSON lines and dead letters.

    Args:
        run: folder of the run.
        histories: glob of files of JSON lines, a user a line with lists.
        out: how names of written files begin.
        options: of Beam.
        wanted: see `RecommendHandler`.
    """
    handler = RecommendHandler(run, **wanted)
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        lines = pipeline | beam.io.ReadFromText(histories) | beam.Map(json.loads)
        good, bad = lines | RunInference(handler).with_exception_handling()
        good | beam.Map(as_line) | "Write" >> beam.io.WriteToText(out, ".jsonl")
        (
            bad.failed_inferences
            | beam.Map(as_dead_letter)
            | "Rejected" >> beam.io.WriteToText(f"{out}-rejected", ".jsonl")
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("histories", help="JSON lines, a user a line with lists")
    parser.add_argument("out", help="how names of written files begin")
    parser.add_argument("--k", type=int, default=10)
    arguments, beam_options = parser.parse_known_args()
    recommend(arguments.run, arguments.histories, arguments.out, beam_options, k=arguments.k)
