"""Which events are inputs, by their behavior; what is predicted and evaluated stays the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from behavior.config import did_you_mean
from behavior.errors import UserError
from models.data.about import About
from models.data.sequences import BoolArray, Int64Array, SequenceData

InputBehaviors = Literal["all", "target"] | list[str]
"""`all`; `target`: those that are predicted; or names."""

_WHERE = "model.input_behaviors"


def kept_behaviors(setting: InputBehaviors, about: About) -> BoolArray | None:
    """[behavior ids] which behaviors are inputs; None: all.

    Raises:
        UserError: a behavior is not known, or one that is predicted is left out.
    """
    targets = set(about.target_behaviors)
    ids = _ids(setting, about) if isinstance(setting, list) else targets
    if setting == "all" or ids == set(range(1, about.num_behaviors + 1)):
        return None
    if not targets <= ids:
        missing = ", ".join(f"'{about.behaviors[number - 1]}'" for number in sorted(targets - ids))
        raise UserError(
            f"{missing} is predicted and would be no input: inputs predict the next input, so that nothing "
            "would be learned about it",
            where=_WHERE,
            fix=f"add {missing} to the list",
        )
    table = np.zeros(about.num_behaviors + 1, dtype=bool)
    table[sorted(ids)] = True
    return table


def _ids(names: Sequence[str], about: About) -> set[int]:
    for name in names:
        if name not in about.behaviors:
            raise UserError(
                f"the data set has no behavior '{name}'",
                where=_WHERE,
                fix=did_you_mean(name, about.behaviors),
            )
    return {about.behaviors.index(name) + 1 for name in names}


def only_kept(data: SequenceData, kept: BoolArray) -> SequenceData:
    """The sequences without the events of other behaviors, wherever these stand.

    Args:
        data: the sequences.
        kept: [behavior ids] as `kept_behaviors` gives it.
    """
    stays = kept[data.behavior]
    before = np.concatenate(([0], np.cumsum(stays)))
    begin = before[data.offsets[:-1]]
    events: Mapping[str, np.ndarray] = {name: values[stays] for name, values in data.events.items()}
    return replace(
        data,
        events=events,
        offsets=before[data.offsets],
        train_end=before[data.offsets[:-1] + data.train_end] - begin,
        valid_end=before[data.offsets[:-1] + data.valid_end] - begin,
        excerpt=None if data.excerpt is None else data.excerpt.take(stays),
    )


class KeptEvents:
    """The events that are inputs, of one part of a data set after the other.

    Args:
        setting: which behaviors are inputs.
    """

    def __init__(self, setting: InputBehaviors) -> None:
        self.setting = setting
        self._of: tuple[SequenceData, Int64Array | None] | None = None

    def of(self, data: SequenceData) -> Int64Array | None:
        """Indices of the events of `data` that are inputs, ascending; None: all. Those of the last are kept.

        Raises:
            UserError: see `kept_behaviors`.
        """
        if self._of is None or self._of[0] is not data:
            kept = kept_behaviors(self.setting, data.about)
            self._of = data, None if kept is None else np.flatnonzero(kept[data.behavior])
        return self._of[1]
