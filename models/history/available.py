"""Which terms of history logits a data set has something for."""

from __future__ import annotations

from collections.abc import Sequence

from behavior.errors import UserError
from models.data.about import About
from models.history.kinds import TERMS, HistoryTerm


def available_terms(asked: Sequence[HistoryTerm] | None, about: About) -> tuple[HistoryTerm, ...]:
    """Those that are asked for, or all that the data set has something for.

    Args:
        asked: names, or None for all.
        about: of the data set.

    Raises:
        UserError: a term is asked for that there is nothing for.
    """
    missing = _missing(about)
    if asked is None:
        return tuple(term for term in TERMS if term not in missing)
    for term in asked:
        if term in missing:
            rest = [other for other in asked if other not in missing]
            raise UserError(
                f"the term '{term}' of history logits needs {missing[term]}",
                where=f"loss.history_terms = [{', '.join(asked)}]",
                fix=f"--set 'loss.history_terms=[{', '.join(rest)}]'",
            )
    return tuple(term for term in TERMS if term in asked)


def _missing(about: About) -> dict[HistoryTerm, str]:
    """Terms that cannot be had, and what they need."""
    missing: dict[HistoryTerm, str] = {}
    if not about.has_time:
        missing["time"] = "timestamps, and this data set has none"
    if set(about.target_behaviors) == set(range(1, about.num_behaviors + 1)):
        missing["closed"] = "a behavior that is no target: of this data set all are, so that nothing is open"
    return missing
