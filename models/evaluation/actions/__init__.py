"""Ranking: will they act? Labels of events, and how well predictions tell them.

    labels        what is predicted of an event: an action that it is or is not, or a number
    rows          the events of a part with their labels: what is predicted, one row an event
    auc           area under the ROC curve over all rows, exact, in bounded memory
    user_auc      the same within each user, averaged
    meter         all metrics of predictions that come in batches, over processes
    calibration   whether predicted probabilities are met
    intervals     bootstrap by user
    correction    probabilities of a model that was trained on some of the negatives
    report        everything there is to say of predictions
    figures       the ROC and the calibration curve as pictures
    predictions   a file with the prediction of every row

"Ranking" here is what industry calls it: the probability of an action, for a given candidate. The rest of
`models.evaluation` ranks all items.
"""
