"""What is predicted of an event: whether it is an action, or how large a number is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from behavior.config import did_you_mean
from behavior.errors import UserError

VALUE = "value"
"""The column of the shards that conditions on numbers read."""
SAMPLED = -1
"""The behavior of a sampled negative, which is no event of the log: none of the actions happened."""
AGAINST = " against "
_CONDITION = re.compile(rf"{VALUE}\s*(>=|<=|>|<|=)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)$")
_COMPARE = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less, "=": np.equal}
_FORMS = (
    f"write a behavior or several (buy, buy|cart), a condition ({VALUE}>=4), either of them against another "
    f"({VALUE}>=4 against {VALUE}<=2), or {VALUE} for regression"
)


@dataclass(frozen=True)
class Side:
    """A condition on events: of these behaviors, or with such a value."""

    behaviors: tuple[int, ...] = ()
    """Ids; empty for a condition on the value."""
    compare: str = ""
    bound: float = 0.0

    def holds(self, behavior: npt.NDArray[np.int8], value: npt.NDArray[np.float32] | None) -> npt.NDArray:
        """[events] bool; false where the value is missing."""
        if self.behaviors:
            return np.isin(behavior, self.behaviors)
        assert value is not None
        # In float32, as values are stored: 0.1 is to equal what a file calls 0.1.
        found: npt.NDArray = _COMPARE[self.compare](value, np.float32(self.bound))
        return found


@dataclass(frozen=True)
class Label:
    """One thing that is predicted of an event.

    A binary label is 1 where `positive` holds and 0 where it does not; or, with a `negative` side, 0 where
    that holds alone, and events on neither side have no label. An event without a value has no label that is
    a condition on values. A label of regression is the value itself.
    """

    name: str
    """As it was written; what reports call it."""
    positive: Side | None
    """None: regression of the value."""
    negative: Side | None = None

    @property
    def is_binary(self) -> bool:
        """Whether it is an action, which happens or not."""
        return self.positive is not None

    @property
    def reads_value(self) -> bool:
        """Whether it needs the column `value`."""
        sides = [side for side in (self.positive, self.negative) if side is not None]
        return not sides or any(not side.behaviors for side in sides)

    def of(
        self, behavior: npt.NDArray[np.int8], value: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.float32]:
        """[events] float32 labels; NaN where an event has none.

        Args:
            behavior: [events] behavior ids from 1.
            value: [events] float32, NaN where missing; None where nothing reads it.
        """
        if self.positive is None:
            assert value is not None
            return value.astype(np.float32)
        yes = self.positive.holds(behavior, value)
        label = yes.astype(np.float32)
        if self.negative is not None:
            label[~yes & ~self.negative.holds(behavior, value)] = np.nan
        if not self.positive.behaviors and value is not None:
            label[np.isnan(value)] = np.nan
        return label


def parse_labels(
    text: str | Sequence[str], behaviors: Sequence[str], where: str = "task.label"
) -> list[Label]:
    """Labels from what a setting says: `buy`, `buy|cart`, `value>=4`, `value>=4 against value<=2`, `value`.

    Args:
        text: one, or several: one an action.
        behaviors: names of the data set's behaviors; the first has id 1. One that is called `value` is meant
            by that name before the column is.
        where: the setting, for errors.

    Raises:
        UserError: what is written is none of these forms, a behavior is not known, or one stands there twice.
    """
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise UserError("there is no label to predict", where=where, fix=_FORMS)
    if len(set(texts)) < len(texts):
        raise UserError("a label stands there twice", where=f"{where} = {texts}", fix="name each once")
    return [_parse(each, behaviors, f"{where} = {each}") for each in texts]


def _parse(text: str, behaviors: Sequence[str], where: str) -> Label:
    text = text.strip()
    if text == VALUE and VALUE not in behaviors:
        return Label(text, None)
    first, against, second = text.partition(AGAINST)
    positive = _side(first, behaviors, where)
    return Label(text, positive, _side(second, behaviors, where) if against else None)


def _side(text: str, behaviors: Sequence[str], where: str) -> Side:
    text = text.strip()
    condition = _CONDITION.match(text)
    if condition is not None and text not in behaviors:
        return Side(compare=condition[1], bound=float(condition[2]))
    names = [text] if text in behaviors else [name.strip() for name in text.split("|")]
    unknown = [name for name in names if name not in behaviors]
    if not text or (any(sign in text for sign in "<>=") and unknown):
        raise UserError(f"'{text}' is no label", where=where, fix=_FORMS)
    if unknown:
        fix = f"{did_you_mean(unknown[0], list(behaviors))}; or {_FORMS}"
        raise UserError(f"the data set has no behavior '{unknown[0]}'", where=where, fix=fix)
    return Side(tuple(list(behaviors).index(name) + 1 for name in names))
