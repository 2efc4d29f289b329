"""Which column plays which role: by the words of its name, and by what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from behavior.guess.names import fit, role_of
from behavior.guess.sample import Sample
from behavior.guess.when import TimeGuess, guess_time

MAX_BEHAVIORS = 30
_BEST_VALUES = ("rating", "score", "star", "overall", "value")


@dataclass
class Roles:
    """The roles of the columns of a file.

    Attributes:
        columns: user, item, behavior and value -> the column; without those that no column plays.
        time: where the timestamp is, and how it is written; None where nothing tells.
        unsure: roles (timestamp too) whose column is a guess.
        notes: what was not clear, for people.
    """

    columns: dict[str, str] = field(default_factory=dict)
    time: TimeGuess | None = None
    unsure: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def role_of(self, name: str) -> str | None:
        if self.time is not None and name in self.time.columns:
            return "timestamp"
        return next((role for role, column in self.columns.items() if column == name), None)


def guess_roles(sample: Sample) -> Roles:
    """The roles of the columns of a sample."""
    roles = Roles()
    named = sample.header is not False
    roles.time, notes = guess_time(sample, named)
    roles.notes += notes
    if roles.time is not None and not roles.time.sure:
        roles.unsure.add("timestamp")
    taken = set(roles.time.columns) if roles.time is not None else set()
    for role in ("user", "item", "behavior", "value"):
        _by_name(sample, roles, role, taken)
        taken |= set(roles.columns.values())
    if not named:
        _by_place(sample, roles, taken)
    return roles


def _by_name(sample: Sample, roles: Roles, role: str, taken: set[str]) -> None:
    fits = {name: fit(name, role) for name in sample.columns if name not in taken}
    fits = {name: found for name, found in fits.items() if found and plausible(sample, name, role, found)}
    if not fits:
        return

    def quality(name: str) -> tuple[int, int]:
        words = [place for place, word in enumerate(_BEST_VALUES) if word in name.lower()]
        return fits[name], -min(words, default=len(_BEST_VALUES)) if role == "value" else 0

    best = max(fits, key=quality)  # the first of equals
    roles.columns[role] = best
    rivals = [name for name in fits if name != best and fits[name] == fits[best]]
    if role in ("user", "item") and (fits[best] == 1 or rivals):
        roles.unsure.add(role)
        others = f"; it may be {' or '.join(repr(name) for name in rivals)}" if rivals else ""
        roles.notes.append(f"not sure that the {role} is in '{best}'{others}: check it")


def _by_place(sample: Sample, roles: Roles, taken: set[str]) -> None:
    """Roles in files without names, where logs say who first, then what."""
    free = [name for name in sample.columns if name not in taken]
    ids = [name for name in free if sample.kind(name) in ("integer", "text")]
    for role, name in zip(("user", "item"), ids, strict=False):
        roles.columns[role] = name
        roles.unsure.add(role)
    if len(ids) >= 2:
        roles.notes.append(
            f"not sure: the file names no columns, so that '{ids[0]}' was taken for the user and '{ids[1]}' "
            "for the item, as most logs have them"
        )
    for name in free:
        role = "behavior" if sample.kind(name) == "text" else "value"
        if name in ids[:2] or role in roles.columns or not plausible(sample, name, role, 0):
            continue
        roles.columns[role] = name
        roles.unsure.add(role)


def plausible(sample: Sample, name: str, role: str, found: int) -> bool:
    """Whether a column holds what a role needs; `found` says how well its name fits."""
    kind = sample.kind(name)
    if role == "behavior":
        return kind in ("text", "integer") and 0 < len(set(sample.texts(name))) <= MAX_BEHAVIORS
    if role == "value":
        return kind in ("integer", "number")
    return kind in ("integer", "text") or (kind == "number" and found >= 2)


def free_columns(sample: Sample, roles: Roles) -> list[str]:
    """Columns without a role whose names name none: where a role that is open may be."""
    return [name for name in sample.columns if roles.role_of(name) is None and role_of(name) is None]
