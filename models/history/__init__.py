"""History logits: past events of a user compete with the catalog in one softmax (CopyNet, arXiv 1603.06393).

In: what a backbone knows after each event, and the events themselves. Out: for training, of every event two
logarithms of sums over its past events, of those whose item is the target and of the rest (`masses`, by the
first kernel of `dispatch` that fits); for ranking, the logits of the past events themselves (`ranking`), so
that only items of the history are touched. `terms` has the parameters. `reference` is the oracle.

May import `behavior`, and of `models`: gpu, attention (sequences, time buckets), layers (roles) and data
(batch).
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.history.dispatch import history_masses
    from models.history.inputs import HistoryBias, HistoryColumns, HistoryInputs
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "HistoryBias": "inputs",
            "HistoryColumns": "inputs",
            "HistoryInputs": "inputs",
            "history_masses": "dispatch",
        },
    )

__all__ = ["HistoryBias", "HistoryColumns", "HistoryInputs", "history_masses"]
