"""Which rankers without a backbone there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from behavior.config import did_you_mean
from behavior.errors import UserError

if TYPE_CHECKING:  # names are known without what fits them
    from models.rankers.config import RankersConfig
    from models.rankers.data import Fitting
    from models.rankers.floors import Fitted


@dataclass(frozen=True)
class RankerKind:
    """A ranker before it has data."""

    description: str
    fit: Callable[[Fitting, RankersConfig], Fitted]
    needs: str = ""
    """A package that an extra brings."""

    def reason_against(self) -> str | None:
        """Why it cannot be had here."""
        if self.needs and find_spec(self.needs) is None:
            return f"{self.needs} is not installed: pip install lrm-kit[rankers]"
        return None


def _floor(name: str) -> Callable[[Fitting, RankersConfig], Fitted]:
    def fit(fitting: Fitting, config: RankersConfig) -> Fitted:
        from models.rankers import floors

        found: Fitted = getattr(floors, name)(fitting)
        return found

    return fit


def _network(name: str) -> Callable[[Fitting, RankersConfig], Fitted]:
    def fit(fitting: Fitting, config: RankersConfig) -> Fitted:
        from models.rankers.fit import fit_network

        return fit_network(name, fitting, config)

    return fit


def _trees(fitting: Fitting, config: RankersConfig) -> Fitted:
    from models.rankers.trees import fit_trees

    return fit_trees(fitting, config)


RANKERS: dict[str, RankerKind] = {
    "rate": RankerKind("the rate of positives, for all rows", _floor("rate")),
    "user_mean": RankerKind("the user's shrunk mean", _floor("user_mean")),
    "item_mean": RankerKind("the item's shrunk mean", _floor("item_mean")),
    "bias": RankerKind("shrunk biases of user and item", _floor("bias")),
    "factorization": RankerKind("bias and matrix factorization (ALS)", _floor("factorization")),
    "history": RankerKind("the same, users by the history before each row", _floor("history")),
    "logistic": RankerKind("logistic regression on ids and features", _network("logistic")),
    "fm": RankerKind("factorization machine", _network("fm")),
    "ffm": RankerKind("field-aware factorization machine", _network("ffm")),
    "dcn": RankerKind("DCN-v2", _network("dcn")),
    "din": RankerKind("deep interest network: attends to past events and their labels", _network("din")),
    "lightgbm": RankerKind("gradient-boosted trees on counts of the events before", _trees, "lightgbm"),
}
"""All of them, floors first."""


def check_rankers(names: Sequence[str]) -> None:
    """Check that there are such rankers, and what they need.

    Raises:
        UserError: there is none of a name, or it needs a package that is not installed.
    """
    for name in names:
        if name not in RANKERS:
            raise UserError(
                f"there is no ranking baseline '{name}'",
                where="--baselines",
                fix=did_you_mean(name, list(RANKERS)),
            )
        reason = RANKERS[name].reason_against()
        if reason is not None:
            raise UserError(f"the baseline '{name}' cannot be fitted: {reason}", where="--baselines")
