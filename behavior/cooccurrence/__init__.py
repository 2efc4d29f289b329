"""Item co-occurrence: which items come near which in users' histories, the nearer the more.

In: a shard folder, or arrays of histories. Out: sparse tables of counts, of everybody or cross-fitted, and
what the last events of a history weigh in them.
May import: `behavior.shards`, `behavior.runtime`.

    CooccurrenceConfig   which pairs of events count, and how much
    Histories            the events that are counted; `read_histories` takes them from a data set
    count_cooccurrence   the table of everybody
    count_exact          tables that any one user's own pairs can be subtracted from
    cross_fit            the tables without a fold of users each, and that of everybody
    history_weights      what the last events of a history weigh, for `weights @ table.matrix`
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.cooccurrence.config import CooccurrenceConfig, Part
    from behavior.cooccurrence.count import count_cooccurrence, cross_fit
    from behavior.cooccurrence.directions import DIRECTIONS, Direction
    from behavior.cooccurrence.exact import ExactTables, PairWeights, count_exact
    from behavior.cooccurrence.folds import fold_of
    from behavior.cooccurrence.histories import Histories, read_histories
    from behavior.cooccurrence.score import history_weights
    from behavior.cooccurrence.table import CooccurrenceTable, CrossFitted
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "CooccurrenceConfig": "config",
            "CooccurrenceTable": "table",
            "CrossFitted": "table",
            "DIRECTIONS": "directions",
            "Direction": "directions",
            "ExactTables": "exact",
            "Histories": "histories",
            "PairWeights": "exact",
            "Part": "config",
            "count_cooccurrence": "count",
            "count_exact": "exact",
            "cross_fit": "count",
            "fold_of": "folds",
            "history_weights": "score",
            "read_histories": "histories",
        },
    )

__all__ = [
    "DIRECTIONS",
    "CooccurrenceConfig",
    "CooccurrenceTable",
    "CrossFitted",
    "Direction",
    "ExactTables",
    "Histories",
    "PairWeights",
    "Part",
    "count_cooccurrence",
    "count_exact",
    "cross_fit",
    "fold_of",
    "history_weights",
    "read_histories",
]
