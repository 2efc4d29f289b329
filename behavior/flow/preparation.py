"""What is to be prepared: all that every worker must know, whatever engine runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from behavior.flow.previous import Previous
from behavior.shards.commit import claim, version_of
from behavior.shards.manifest import Manifest
from behavior.shards.storage import Folder
from behavior.shards.write import ShardWriter
from behavior.sources.blocks import compression_of
from behavior.sources.chunks import Plan
from behavior.spec.dataset_spec import DatasetSpec

PARTITION_BYTES = 32 << 20
"""Input bytes that make one sequence file; a partition must fit a worker's memory several times over."""
COMPRESSION_FACTOR = 4
"""Rough size of text in terms of its gzip or Parquet form."""


@dataclass(frozen=True)
class Preparation:
    """What is to be prepared; pickled to workers.

    Attributes:
        spec: the dataset spec.
        base: folder the spec's paths are relative to.
        plan: of the input.
        out: the data set's folder; finished files are written there at once, and count from the commit on.
        partitions: number of hash partitions of users, each of which becomes one sequence file.
        version: of the data set that is made.
        previous: the data set that is added to; None for a new one.
        skip_bad_files: set event files aside that cannot be read at all.
    """

    spec: DatasetSpec
    base: str
    plan: Plan
    out: Folder
    partitions: int
    version: int = 1
    previous: Previous | None = None
    skip_bad_files: bool = False

    @property
    def writer(self) -> ShardWriter:
        """Writes the files of the data set."""
        return ShardWriter(self.out, self.partitions, self.version)

    def slim(self) -> Preparation:
        """The same without the lists of its input files: those travel with the chunks."""
        return replace(self, plan=replace(self.plan, parts=[], files=[]))


def prepare_afresh(
    spec: DatasetSpec, base: str, plan: Plan, out: Folder, *, overwrite: bool, skip_bad_files: bool
) -> Preparation | Manifest:
    """Claim an output folder for a new data set (`behavior.shards.commit.claim`).

    Returns:
        What is to be prepared; the manifest where the folder already holds this very result.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    digests = {"spec_digest": spec.digest(), "input_digest": plan.digest}
    finished = claim(out, digests, overwrite, [file.path for file in plan.files], spec.record())
    if finished is not None:
        return finished
    version = version_of(out) + 1
    return Preparation(
        spec, base, plan, out, count_partitions(spec, plan), version, skip_bad_files=skip_bad_files
    )


def count_partitions(spec: DatasetSpec, plan: Plan) -> int:
    """Number of partitions: by the input alone, so that the result depends on nothing else."""
    if spec.shards is not None:
        return spec.shards
    expanded = 0
    for part in plan.parts:
        form = spec.events[part.source]
        packed = form.kind == "parquet" or compression_of(part.path, form.compression) is not None
        expanded += part.size * (COMPRESSION_FACTOR if packed else 1)
    return max(1, round(expanded / PARTITION_BYTES))


def absolute(base: str) -> str:
    """The input folder as every worker finds it, wherever it runs."""
    return base if "://" in base else str(Path(base).absolute())
