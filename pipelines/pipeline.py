"""The job as one composite transform."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from behavior.flow.totals import item_counts
from pipelines.job import PrepareJob
from pipelines.partitions import (
    COUNTED,
    CountPartition,
    FindCore,
    FitVocabulary,
    MergeIdCounts,
    SortPartition,
    WriteSequences,
)
from pipelines.reading import REPORTS, ChunkGroup, FinishReading, ReadChunks
from pipelines.shuffle import Shuffle
from pipelines.tables import Commit, WriteSummary, WriteTables


class PrepareDataset(beam.PTransform):
    """Groups of chunks of raw files -> the name of the job's summary, or on an engine that of the manifest.

    All else lies in the folders.
    """

    def __init__(self, job: PrepareJob, groups: list[ChunkGroup], shuffle: Shuffle) -> None:
        super().__init__()
        self.job = job
        self.groups = groups
        self.shuffle = shuffle

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection:
        job = self.job
        one = root | "Once" >> beam.Impulse()
        read = (
            root
            | "ChunkGroups" >> beam.Create(self.groups, reshuffle=False)
            | "SpreadChunkGroups" >> beam.Reshuffle()
            | "ReadChunks" >> beam.ParDo(ReadChunks(job, self.shuffle)).with_outputs(REPORTS, main="pieces")
        )
        reading = _single(one | "FinishReading" >> beam.ParDo(FinishReading(job), _all(read[REPORTS])))
        counted = sorted_ = (
            read.pieces
            | "GroupByPartition" >> beam.GroupByKey()
            | "SortPartition"
            >> beam.ParDo(SortPartition(job, self.shuffle), reading).with_outputs(COUNTED, main="partitions")
        )
        partitions = sorted_.partitions | "SpreadPartitions" >> beam.Reshuffle()
        core: list[Any] = []
        if job.preparation.spec.filters.minimum_counts != (1, 1):
            core = [_single(one | "FindCore" >> beam.ParDo(FindCore(job), _all(partitions)))]
            counted = partitions | "CountPartition" >> beam.ParDo(CountPartition(job), *core).with_outputs(
                COUNTED, main="nothing"
            )
        merge = MergeIdCounts(job, item_counts(job.preparation))
        totals = counted[COUNTED] | "CountItems" >> beam.CombineGlobally(merge).without_defaults()
        vocabulary = _single(one | "FitVocabulary" >> beam.ParDo(FitVocabulary(job), _all(totals)))
        sequences = partitions | "WriteSequences" >> beam.ParDo(WriteSequences(job), vocabulary, *core)
        tables = one | "WriteTables" >> beam.ParDo(WriteTables(job), vocabulary)
        summary = tables | "WriteSummary" >> beam.ParDo(WriteSummary(job), _all(sequences))
        return summary if job.timed else summary | "Commit" >> beam.ParDo(Commit(job))


def _all(values: beam.PCollection) -> Any:
    return beam.pvalue.AsList(values)


def _single(values: beam.PCollection) -> Any:
    """The one value; None only where the job is given up."""
    return beam.pvalue.AsSingleton(values, default_value=None)
