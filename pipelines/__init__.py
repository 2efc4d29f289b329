"""`prepare` on Beam: thin transforms that call `behavior.flow`; elements are Arrow batches or names of files.

In: a spec and raw files. Out: a shard folder (`prepare`), or more in one that is there (`append`). Batch
scoring is in `scoring`.
May import: `behavior`.

    prepare, append   the two jobs: claim the folder, run, commit
    pipeline          the composite transform
    reading           first pass: chunks -> events by hash partition, rejected rows
    shuffle           GroupByKey by hash partition, through files or through the engine
    partitions        second pass: sort, k-core, count (combiner), fit, write
    tables            last pass: item and user tables, summary
    job, clock        what every worker knows; its folders, errors and times
    left, finish      jobs that go on without who started them
    waiting           for a job on an engine, which it cancels where there is reason to
    checkup           whether workers can do a job: `lrm doctor --runner`, and within each job
    engines           what engines say of a job: pages, causes and remedies, the error of a crash
    beam_options      of Beam, which its own parser would pass over where it does not know them
    work, joined      the parts of the passes, and what one process does between them, without Beam
    local             a local run: the same stages, without Beam
    pool              who does its parts: threads, or processes that are forked
    execution         runs a job on a runner (`runner`), and leaves the process as it was (`quiet`, `threads`)
    workers           worker processes, which an interrupt ends
"""

from pipelines.quiet import import_beam_quietly

import_beam_quietly()
