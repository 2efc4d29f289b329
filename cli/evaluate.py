"""`lrm evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import out as console
from cli.console import print_json, print_table


class SplitName(StrEnum):
    """Which targets to rank."""

    valid = "valid"
    test = "test"


class CheckpointName(StrEnum):
    """Which state of the run to judge."""

    best = "best"
    last = "last"


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run made by 'lrm train'.")],
    split: Annotated[SplitName, typer.Option(help="Which targets to rank.")] = SplitName.test,
    data: Annotated[str | None, typer.Option(help="The shard folder, where it has moved.")] = None,
    checkpoint: Annotated[
        CheckpointName, typer.Option(help="best on validation, or last.")
    ] = CheckpointName.best,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--keep-seen", help="Rank without items had before; default: the run's setting."
        ),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Rank popularity and a first-order Markov chain as well.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Rank every item for every user of a split, and print HR, NDCG and MRR.

    Users with several targets, where the data set's split asks for all, count as one: by the mean over them.

    Example:  lrm evaluate runs/hstu --split test --baselines
    """
    from models.evaluation import evaluate_run

    result = evaluate_run(run, split.value, data=data, checkpoint=checkpoint.value, exclude_seen=exclude_seen)
    others = _baselines(run, split, data, result) if baselines else []
    if json:
        print_json({**result, "baselines": {other["model"]: other for other in others}} if others else result)
        return
    names = [name for name in result if "@" in name]
    table = [[name, *(row[name] for row in [result, *others])] for name in names]
    title = f"{run}: {split.value}, {result['users']:,} users, {result['targets']:,} targets"
    print_table(title, ["", *(row["model"] for row in [result, *others])], table)
    seen = "removed" if result["exclude_seen"] else "kept"
    console.print(
        f"time {result['time']}; seen items {seen}; {result['checkpoint']} checkpoint, "
        f"after {result['epoch']} epochs, {result['step']:,} steps",
        highlight=False,
    )


def _baselines(run: Path, split: SplitName, data: str | None, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The baselines under the protocol of the run."""
    from behavior.shards import open_shards
    from models.baselines import BASELINES, evaluate_baseline
    from models.ranking import EvaluationConfig
    from models.run_folder import open_run

    folder = open_run(run)
    settings = folder.config().evaluation.model_dump() | {"exclude_seen": result["exclude_seen"]}
    config = EvaluationConfig(**settings)
    shards = open_shards(data or folder.data)
    return [evaluate_baseline(name, shards, split.value, config) for name in BASELINES]
