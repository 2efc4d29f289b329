"""Batch scoring on Beam: histories or a data set in, files of what a scorer gives for each user out.

In: files of histories, or the number of parts of a data set; a picklable factory of a `Scorer`, which `cli`
wires with a model: nothing here knows one. Out: a folder that is finished once it has its manifest.

    run         the job: claim the folder, run, commit
    scorer      what is called, whole Arrow batches in and out
    reading     first pass: files -> events by hash partition of users, rejected rows
    pieces      events that lie in the job's folder; only where they are goes through the engine
    users       events of a partition -> whole histories
    parts       second pass: histories, or parts of a data set -> scored files
    reports     what became of rows and users, and of those that were rejected
    summary     the counts and files that the manifest tells
    folder      the output folder: claim, manifest, sweep
"""
