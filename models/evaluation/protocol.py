"""What a ranker had to learn from decides what it may be asked, and what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from behavior.errors import UserError
from models.data.loading.part import IN_WORDS, Part
from models.evaluation.targets import Split


def check_same_part(
    ours: dict[str, Any], theirs: dict[str, Any], against: str, *, option: str = "--against"
) -> None:
    """Check that two rankers had the same events to learn from.

    Args:
        ours: a report, with `trained_on`; in reports of before that is the training part.
        theirs: another one.
        against: what the other one is called.
        option: by which it was named.

    Raises:
        UserError: one knows an event more of every user.
    """
    own, other = (report.get("trained_on", "train") for report in (ours, theirs))
    if own != other:
        raise UserError(
            f"one run was trained on {IN_WORDS[own]}, the other on {IN_WORDS[other]}: these events would be "
            "compared, not the models",
            where=f"{option} {against}",
            fix="compare runs of one protocol: refit the other one, too",
        )


def check_unseen(part: Part, split: Split, run: Path) -> None:
    """Check that a model was not trained on the targets of a split.

    Raises:
        UserError: it was: no metric of it would be honest.
    """
    if part == "all" or (part == "train+valid" and split == "valid"):
        other = "" if part == "all" else "evaluate its test split, or "
        raise UserError(
            f"this model was trained on {IN_WORDS[part]}: the {split} split would ask for what it has seen",
            where=f"{run}: loader.part = {part}",
            fix=f"{other}evaluate the run that it refits",
        )
