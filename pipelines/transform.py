"""The job as one composite transform."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from behavior.features.vocabulary import IdCounts
from behavior.steps.keys import key_type
from pipelines.buckets import (
    COUNTED,
    BuildBucket,
    CountBucket,
    FindCore,
    FinishBucket,
    FitVocabulary,
    MergeIdCounts,
)
from pipelines.job import Job
from pipelines.reading import REPORTS, FinishReading, ReadTask, Task
from pipelines.shuffle import Shuffle
from pipelines.tables import WriteSummary, WriteTables


class PrepareDataset(beam.PTransform):
    """Tasks of raw files -> the name of the job's summary; all else lies in the job's folders."""

    def __init__(self, job: Job, tasks: list[Task], shuffle: Shuffle) -> None:
        super().__init__()
        self.job = job
        self.tasks = tasks
        self.shuffle = shuffle

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        job = self.job
        one = root | "Once" >> beam.Create([None])
        read = (
            root
            | "Tasks" >> beam.Create(self.tasks)
            | "SpreadTasks" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(ReadTask(job, self.shuffle)).with_outputs(REPORTS, main="pieces")
        )
        reading = _single(one | "FinishReading" >> beam.ParDo(FinishReading(job), _all(read[REPORTS])))
        built = (
            read.pieces
            | "GroupByBucket" >> beam.GroupByKey()
            | "BuildBucket" >> beam.ParDo(BuildBucket(job, self.shuffle), reading)
        )
        buckets = built | "SpreadBuckets" >> beam.Reshuffle()
        core: list[Any] = []
        if job.spec.filters.minimum_counts != (1, 1):
            core = [_single(one | "FindCore" >> beam.ParDo(FindCore(job), _all(buckets)))]
        # Without a core to wait for, a bucket is counted while it is at hand.
        countable = buckets if core else built
        counted = countable | "CountBucket" >> beam.ParDo(CountBucket(job), *core).with_outputs(
            COUNTED, main="items"
        )
        reports = _all(counted[COUNTED])
        counter = IdCounts(key_type(job.spec, job.plan, "item"))
        item_counts = counted["items"] | "CountItems" >> beam.CombineGlobally(MergeIdCounts(job, counter))
        vocabulary = _single(
            one | "FitVocabulary" >> beam.ParDo(FitVocabulary(job), _single(item_counts), reports)
        )
        sequences = buckets | "FinishBucket" >> beam.ParDo(FinishBucket(job), vocabulary, *core)
        tables = one | "WriteTables" >> beam.ParDo(WriteTables(job), vocabulary, reports)
        return one | "WriteSummary" >> beam.ParDo(
            WriteSummary(job), reading, reports, vocabulary, _single(tables), _all(sequences)
        )


def _all(values: beam.PCollection) -> Any:
    return beam.pvalue.AsList(values)


def _single(values: beam.PCollection) -> Any:
    return beam.pvalue.AsSingleton(values)
