"""Export: what a trained model knows, for programs that do not have lrm-kit.

In goes a `TrainedModel`; out come the nearest items of an item (`similar`), vectors of items and users as
Parquet (`vectors`), and by `run`: weights with their id tables (`weights`), and graphs (`graphs`) of the
tower of users and the scorer of all items (`tower`). `scoring` says in each of them how scores are made.
"""
