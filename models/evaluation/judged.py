"""Sequences of which another behavior than the data set's targets is evaluated."""

from __future__ import annotations

from dataclasses import replace

from behavior.config import did_you_mean
from behavior.errors import UserError
from models.data.loading import SequenceSource
from models.data.loading.changed import ChangedSource


def judged_sequences(source: SequenceSource, behavior: str | None) -> SequenceSource:
    """The sequences of a source, of which targets are the events of one behavior.

    For evaluations, and for nothing else: what is trained on stays as it is. Where the data set's own targets
    are evaluated it is the source itself.

    Raises:
        UserError: the data set has no such behavior; names the nearest.
    """
    if behavior is None:
        return source
    names = source.about.behaviors
    if behavior not in names:
        raise UserError(
            f"the data set has no behavior '{behavior}'",
            where="evaluation.target_behavior",
            fix=did_you_mean(behavior, names),
        )
    about = replace(source.about, judged=names.index(behavior) + 1)
    return ChangedSource(source, lambda data: replace(data, about=about), about=about)
