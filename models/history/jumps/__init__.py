"""Jump logits: past events vote for what follows their items in the logs of other people.

With s_i the score of item i, g_j the logit of past event j (`models.history`) and u_j another of the last
few, in one softmax: `exp s_i + sum_j exp(g_j) [item_j = i] + sum_j exp(u_j) C[item_j, i]`. C is item
co-occurrence, a distribution over followers a row (`behavior.cooccurrence`), and cross-fitted, or without the
user's own pairs: in training, no user's own events stand in the table that is used for them, so that the
model cannot read off what it is to predict.

    tables     the tables: of all folds for training, of everybody for ranking
    recent     the last events before each query, and products with them
    select     rows of small tables by many indices
    masses     what the votes add to a softmax: on the target, and on the rest
    terms      parameters, and the logits of the last events
    logits     the module with tables of folds: masses in training, votes item by item in ranking
    exact_tables, exact   tables that the asking user's own pairs are subtracted from, and their module
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.history.jumps.exact import ExactJumpLogits, JumpMass
    from models.history.jumps.logits import JumpLogits, Votes
    from models.history.jumps.tables import FoldTables, count_tables
    from models.history.jumps.terms import VoteSizes
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "ExactJumpLogits": "exact",
            "FoldTables": "tables",
            "JumpLogits": "logits",
            "JumpMass": "exact",
            "VoteSizes": "terms",
            "Votes": "logits",
            "count_tables": "tables",
        },
    )

__all__ = [
    "ExactJumpLogits",
    "FoldTables",
    "JumpLogits",
    "JumpMass",
    "VoteSizes",
    "Votes",
    "count_tables",
]
