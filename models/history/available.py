"""Which terms of history and jump logits a data set has something for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from behavior.errors import UserError
from models.data.about import About
from models.history.jumps.kinds import JUMP_TERMS, JUMP_TERMS_ONLY_ASKED, JumpTerm
from models.history.kinds import ONLY_ASKED, TERMS, HistoryTerm

TermT = TypeVar("TermT", bound=str)

_BY_DATA = frozenset({"time", "gap", "closed"})
"""Terms that some data sets have nothing for."""


def available_terms(asked: Sequence[HistoryTerm] | None, about: About) -> tuple[HistoryTerm, ...]:
    """Terms of history logits: those that are asked for, or all that the data set has something for.

    Args:
        asked: names, or None for all but those that are there only where they are named.
        about: of the data set.

    Raises:
        UserError: a term is asked for that there is nothing for.
    """
    return _available(asked, TERMS, _missing(about), "history", ONLY_ASKED)


def available_jump_terms(
    asked: Sequence[JumpTerm] | None, about: About, *, competes: bool
) -> tuple[JumpTerm, ...]:
    """The same of jump logits.

    Args:
        asked, about: likewise.
        competes: whether they compete with the scores of items, or with each other alone.
    """
    missing = _missing(about)
    if "time" in missing:
        missing["gap"] = missing["time"]
    elif not competes:
        missing["gap"] = "jump_training=joint: apart, what all events have in common changes nothing"
    return _available(asked, JUMP_TERMS, missing, "jump", JUMP_TERMS_ONLY_ASKED)


def left_to_data(asked: Sequence[str] | None) -> frozenset[str]:
    """Terms, of either kind, of which the data set decides whether they are there, and no setting does."""
    return _BY_DATA if asked is None else frozenset()


def _available(
    asked: Sequence[TermT] | None,
    known: Collection[TermT],
    missing: dict[str, str],
    of: str,
    only_asked: Collection[TermT],
) -> tuple[TermT, ...]:
    if asked is None:
        return tuple(term for term in known if term not in missing and term not in only_asked)
    for term in asked:
        if term in missing:
            rest = [other for other in asked if other not in missing]
            raise UserError(
                f"the term '{term}' of {of} logits needs {missing[term]}",
                where=f"loss.{of}_terms = [{', '.join(asked)}]",
                fix=f"--set 'loss.{of}_terms=[{', '.join(rest)}]'",
            )
    return tuple(term for term in known if term in asked)


def _missing(about: About) -> dict[str, str]:
    """Terms that cannot be had, and what they need."""
    missing: dict[str, str] = {}
    if not about.has_time:
        missing["time"] = "timestamps, and this data set has none"
    if set(about.target_behaviors) == set(range(1, about.num_behaviors + 1)):
        missing["closed"] = "a behavior that is no target: of this data set all are, so that nothing is open"
    return missing
