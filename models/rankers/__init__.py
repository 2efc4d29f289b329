"""What ranks without a backbone: floors that count, and peers from the literature, on the rows of the models.

    data            the sequences of a data set in memory, with the label of every event
    floors          rates, means, biases, matrix factorization, and the same given each row's own history
    factorization   ridge regression and alternating least squares, compiled
    history         ridge regression on the history before each row, compiled
    calibration     scores -> logits, by validation rows
    counts          simple counts of the events before a row, compiled
    trees           gradient-boosted trees on counts
    fields          ids and features of a row as vectors
    networks        logistic regression, FM, FFM, DCN-v2, DIN over fields
    fit             their training
    names, judge    which there are; all of them, fitted and judged

In come a shard folder and a label (`models.evaluation.actions`); out come logits of rows, and reports.
Everything is in memory, on the CPU. May import `evaluation`, and knows no task, backbone or run.
"""
