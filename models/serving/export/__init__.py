"""Export: what a trained model knows, for programs that do not have lrm-kit.

In goes a `TrainedModel`; out come the nearest items of an item (`similar`), and vectors of items and users as
Parquet (`vectors`). `scoring` says how scores are made of them.
"""
