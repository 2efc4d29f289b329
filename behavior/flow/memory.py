"""The whole flow in one process and in memory: `prepare` writes a data set, `prepare_tables` keeps it.

`pipelines` runs the same flow on Beam, where memory is bounded and the work is spread over workers.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from behavior.arrow.hashing import split_by_hash
from behavior.errors import UserError
from behavior.features import Encoder
from behavior.features.vocabulary import Vocabulary
from behavior.flow.manifest import manifest_of
from behavior.flow.partitions import Counted, count_sequences, sort_partition, write_sequences
from behavior.flow.preparation import Preparation, absolute, prepare_afresh
from behavior.flow.reading import ChunkReader, ChunkReport
from behavior.flow.rejects import AllReports
from behavior.flow.totals import (
    count_all,
    fit_items,
    item_counts,
    make_tables,
    stats_record,
    summarize,
    write_tables,
)
from behavior.shards.commit import commit, sweep
from behavior.shards.errors import explained
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.lock import exclusive
from behavior.shards.manifest import Counts, Manifest
from behavior.shards.storage import Folder, FolderLike, as_folder
from behavior.sources.chunks import Chunk
from behavior.sources.letters import letters_of
from behavior.sources.plan import plan_input
from behavior.sources.raw import Reject
from behavior.spec.dataset_spec import DatasetSpec, load_spec
from behavior.steps.filters import core_behaviors, core_items
from behavior.steps.partition import finish_sequences
from behavior.steps.tables import Tables

_NOWHERE = Folder(os.devnull)


@dataclass(frozen=True)
class PreparedTables:
    """A data set in memory.

    Attributes:
        sequences: the rows of the sequence files; see `finish_sequences`.
        tables: items, users and feature vocabularies.
        event_features: encoders of the event features, by name.
        counts: read, accepted, rejected, filtered, events, users, items.
        stats: contents of stats.json.
        rejects: rows that could not be read.
        damaged_files: names of files that could not be read to their end.
    """

    sequences: pa.Table
    tables: Tables
    event_features: dict[str, Encoder]
    counts: Counts
    stats: dict[str, Any]
    rejects: list[Reject]
    damaged_files: list[str]


def prepare(
    spec: str | Path | DatasetSpec,
    out: FolderLike,
    input_folder: str | Path | None = None,
    *,
    overwrite: bool = False,
    skip_bad_files: bool = False,
) -> ShardFolder:
    """Prepare a data set in this process and write it: byte for byte what `lrm prepare` writes, without Beam.

    The whole log must fit memory several times over; `lrm prepare` has no such limit, and uses all cores.
    Files appear whole or not at all and the manifest comes last, so that a folder is never half a data set.
    A folder that holds the finished result of the same spec and input is left as it is.

    Args:
        spec: a spec, the path of its YAML file, or the name of a ready one.
        out: folder for the data set, local or of any file system that `fsspec` knows (`gs://`, `s3://`).
        input_folder: folder that the spec's paths are relative to; default: the spec file's own (of a
            `DatasetSpec`, the current folder).
        overwrite: replace a data set that is in `out`.
        skip_bad_files: set event files aside that cannot be read at all; the manifest names them.

    Returns:
        The data set, opened.

    Raises:
        UserError: whatever is wrong with the spec, the input or the output folder.
    """
    spec, base = _loaded(spec, input_folder)
    base, folder = absolute(base), as_folder(out)
    plan = plan_input(spec, base, skip_bad_files=skip_bad_files)
    with exclusive(folder):
        claimed = prepare_afresh(spec, base, plan, folder, overwrite=overwrite, skip_bad_files=skip_bad_files)
        if isinstance(claimed, Preparation):
            _write(claimed)
        return open_shards(folder)


def prepare_tables(
    spec: str | Path | DatasetSpec, input_folder: str | Path | None = None, *, skip_bad_files: bool = False
) -> PreparedTables:
    """Prepare a data set in this process and keep it in memory: a spec in, Arrow tables out.

    All users are in one hash partition, whatever `shards` the spec names.

    Args:
        spec: a spec, the path of its YAML file, or the name of a ready one.
        input_folder: folder that the spec's paths are relative to; default: the spec file's own (of a
            `DatasetSpec`, the current folder).
        skip_bad_files: set event files aside that cannot be read at all.

    Raises:
        UserError: whatever is wrong with the spec or the input.
    """
    spec, base = _loaded(spec, input_folder)
    plan = plan_input(spec, base, skip_bad_files=skip_bad_files)
    flow = _Flow(Preparation(spec, base, plan, _NOWHERE, partitions=1, skip_bad_files=skip_bad_files))
    [counted] = flow.counted.values()
    stats = stats_record(spec, counted.report.stats, flow.items.table)
    return PreparedTables(
        finish_sequences(counted.cut, flow.items, spec, flow.encoders),
        flow.tables,
        flow.encoders,
        flow.counts,
        stats,
        list(chain.from_iterable(flow.reports.rejects())),
        flow.reports.damaged,
    )


def _loaded(spec: str | Path | DatasetSpec, input_folder: str | Path | None) -> tuple[DatasetSpec, str]:
    if isinstance(spec, DatasetSpec):
        return spec, str(input_folder or ".")
    return load_spec(spec, input_folder=input_folder)


class _Flow:
    """All that `prepare` works out before it writes."""

    reports: AllReports
    counted: dict[int, Counted]
    counts: Counts
    items: Vocabulary
    encoders: dict[str, Encoder]
    tables: Tables

    def __init__(self, preparation: Preparation) -> None:
        spec = preparation.spec
        batches, self.reports = _read(preparation)
        self.reports.check(spec)
        sequences = {n: sort_partition(preparation, n, batches.pop(n)) for n in sorted(batches)}
        core = None
        if spec.filters.minimum_counts != (1, 1):
            core = core_items(sequences.values(), *spec.filters.minimum_counts, core_behaviors(spec))
        self.counted = {
            number: count_sequences(preparation, number, sequences.pop(number), core)
            for number in list(sequences)
        }
        every = list(self.counted.values())
        totals = item_counts(preparation).merge(counted.items for counted in every)
        self.items, self.encoders = fit_items(preparation, totals, [own.features for own in every])
        self.counts, _ = count_all(preparation, self.reports, [own.report for own in every], self.items)
        self.tables = make_tables(preparation, self.items, [own.users for own in every])


def _read(preparation: Preparation) -> tuple[dict[int, list[pa.RecordBatch]], AllReports]:
    """The events of each hash partition of users, in the input's order; and what became of all rows."""
    plan = preparation.plan
    partitions: dict[int, list[pa.RecordBatch]] = defaultdict(list)
    letters: dict[Chunk, list[pa.RecordBatch]] = defaultdict(list)
    reports: list[ChunkReport] = []
    for chunk in plan.chunks:
        reader = ChunkReader(preparation, chunk, plan.names[chunk.path])
        for events in reader:
            for number, rows in split_by_hash(events, "user", preparation.partitions):
                partitions[number].append(rows)
            letters[chunk].append(letters_of(reader.take_rejects()))
        letters[chunk].append(letters_of(reader.take_rejects()))
        reports.append(reader.report)
    return partitions, AllReports(plan, reports, lambda report: letters[report.chunk])


def _write(preparation: Preparation) -> Manifest:
    """Fill the output folder, which is claimed, and commit."""
    try:
        flow = _Flow(preparation)
        writer = preparation.writer
        tables = write_tables(writer, flow.tables, flow.encoders)
        sequences = [
            write_sequences(preparation, number, own.cut, flow.items, flow.encoders)
            for number, own in flow.counted.items()
        ]
        summary = summarize(
            preparation,
            flow.reports.write(preparation),
            [own.report for own in flow.counted.values()],
            flow.items,
            tables,
            [entry for entry in sequences if entry is not None],
        )
        manifest = manifest_of(preparation, summary)
        commit(preparation.out, manifest)
    except UserError:
        _clear(preparation.out)
        raise
    except OSError as error:
        told = explained(error, preparation.out)
        if told is None:
            raise
        _clear(preparation.out)
        raise told from error
    return manifest


def _clear(out: Folder) -> None:
    """The user will correct something and try again: what was written must not be in the way."""
    with suppress(OSError, UserError):
        sweep(out)
