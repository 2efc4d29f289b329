"""Evaluation of rankings: targets, scores, ranks, metrics, slices, intervals, baselines, reports.

In come sequences, a split and any scorer (`models.evaluation.ranking.Scorer`); out come the rank of every
target and the report of them. May import `data` and `distributed`, and knows no model, task or training.
Settings (`config`) and names of metrics are read without torch.
"""
