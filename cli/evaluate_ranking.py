"""`lrm evaluate --task ranking`: which flags go with it, and what it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from behavior.errors import UsageError
from cli.console import print_json, progress_bars
from cli.progress import Evaluating
from cli.ranker_tables import print_rankers, told


def check_ranking(baselines: object, **others: object) -> None:
    """Refuse flags that say nothing of the baselines of a data set.

    Raises:
        UsageError: one is given, or `--baselines` is not.
    """
    if not baselines:
        raise UsageError(
            "--task ranking evaluates baselines of a shard folder; a run knows its task itself",
            where="--task",
            fix="add --baselines, or leave --task out",
        )
    for name, value in others.items():
        if value is not None and value != []:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} makes no sense with --task ranking", where=flag, fix="leave it out")


def check_retrieval(settings: Sequence[str] | None) -> None:
    """Refuse flags that only go with `--task ranking`.

    Raises:
        UsageError: one is given.
    """
    if settings:
        raise UsageError("--set goes with --task ranking", where="--set", fix="leave it out, or add --task")


def evaluate_ranking(
    data: str,
    split: str,
    baselines: bool | list[str],
    settings: list[str],
    counts: str | None,
    predictions: Path | None,
    figures: Path | None,
    *,
    json: bool,
) -> None:
    """Fit and judge rankers without a backbone, and print what came of it."""
    from models.rankers.evaluate import evaluate_rankers

    with progress_bars(quiet=json) as bars:
        result = evaluate_rankers(
            data,
            "valid" if split == "valid" else "test",
            None if isinstance(baselines, bool) else baselines,
            settings=settings,
            counts="train+valid" if counts == "train+valid" else "train",
            predictions=predictions,
            figures=figures,
            told=Evaluating(bars, quiet=json),
        )
    if json:
        print_json(result)
        return
    print_rankers(data, result)
    told(result)
