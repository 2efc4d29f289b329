"""`lrm evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.action_tables import print_actions
from cli.console import print_json, progress_bars, say
from cli.evaluate_command import names_of
from cli.evaluate_ranking import check_ranking, check_retrieval, evaluate_ranking
from cli.evaluate_tables import print_breakdown, print_comparison, print_means, print_next_behavior, protocol
from cli.floor_tables import print_below_floors, print_floors, print_repeats
from cli.progress import Evaluating
from cli.ranker_tables import print_rankers


class SplitName(StrEnum):
    """Whose targets are ranked."""

    valid = "valid"
    test = "test"


class NewItems(StrEnum):
    """What becomes of items that a model has never seen."""

    rank = "rank"
    leave_out = "leave_out"


class CandidatesName(StrEnum):
    """What a target is ranked among."""

    all = "all"
    domain = "domain"


class CountsName(StrEnum):
    """Which events baselines have counted."""

    train = "train"
    train_and_valid = "train+valid"


class TaskName(StrEnum):
    """What baselines of a shard folder are to do."""

    retrieval = "retrieval"
    ranking = "ranking"


class CheckpointName(StrEnum):
    """Which checkpoint is evaluated."""

    best = "best"
    last = "last"


def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            help="Run folder made by 'lrm train'; with --baselines, a shard folder will do.", metavar="RUN"
        ),
    ],
    split: Annotated[SplitName, typer.Option(help="Split to evaluate.")] = SplitName.test,
    data: Annotated[str | None, typer.Option(help="Shard folder, if it has moved since training.")] = None,
    checkpoint: Annotated[
        CheckpointName, typer.Option(help="best on validation, or last.")
    ] = CheckpointName.best,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--keep-seen",
            help="Exclude items with an earlier target behavior of the user; default: the run's setting.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Evaluate events of this behavior instead of the data set's targets, of users who have one; "
            "default: the run's setting."
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Break results down by behavior, domain, popularity, history, repeat or an item feature; "
            "may be repeated; default: the run's setting."
        ),
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            min=0, help="Bootstrap resamples for confidence intervals; 0: none; default: the run's setting."
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another run on the same data, for a paired comparison of users.")
    ] = None,
    average: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another run on the same data: the mean of all their probabilities is evaluated (an "
            "ensemble); may be repeated."
        ),
    ] = None,
    per_user: Annotated[
        Path | None, typer.Option(help="Write the rank of every target to this file: .parquet, .csv or .tsv.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Of a ranking run: write the prediction of every row to this file: .parquet, .csv or .tsv."
        ),
    ] = None,
    candidates: Annotated[
        CandidatesName | None,
        typer.Option(
            help="Rank a target among all items, or among those of its domain; default: the run's setting."
        ),
    ] = None,
    new_items: Annotated[
        NewItems | None,
        typer.Option(
            help="Items of a later version of the data set, which the model has never seen: rank them, or "
            "leave_out; default: the run's setting."
        ),
    ] = None,
    baselines: Annotated[
        list[str] | None,
        typer.Option(
            "--baselines",
            metavar="[NAMES]",
            help="Evaluate what counting reaches, too: all baselines that make sense, or some: "
            "--baselines markov,open.",
        ),
    ] = None,
    task: Annotated[
        TaskName,
        typer.Option(
            help="Of a shard folder: what its baselines do; ranking: predict task.label, floors and rankers "
            "without a backbone."
        ),
    ] = TaskName.retrieval,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="With --task ranking: task.label=..., a setting of rankers (rankers.dim=8) or of the "
            "evaluation; may be repeated.",
        ),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Of ranking: a folder for pictures of ROC and calibration.")
    ] = None,
    stack: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a ranking run: a ranker (history) or another run that is judged with it as one "
            "model, by weights that the validation rows choose; may be repeated."
        ),
    ] = None,
    counts: Annotated[
        CountsName | None,
        typer.Option(
            help="Of a shard folder: events that baselines have counted, those of the training part "
            "(default), or of the validation part, too. Beside a run: what it was trained on."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Rank every item for every user of a split, and print HR, NDCG and MRR with confidence intervals.

    Of a ranking run: predict the actions of every row of the split, and print AUC, log loss, calibration.

    A user with several targets (where the data set's split asks for all) counts once, with their mean.

    Example:  lrm evaluate runs/hstu --split test --baselines --by popularity

    Example:  lrm evaluate data/mine --baselines

    Example:  lrm evaluate data/mine --task ranking --baselines --set "task.label=value>=4"
    """
    if task is TaskName.ranking:
        check_ranking(
            baselines,
            checkpoint=None if checkpoint is CheckpointName.best else checkpoint,
            data=data,
            against=against,
            average=average,
            stack=stack,
            per_user=per_user,
            exclude_seen=exclude_seen,
            target=target,
            by=by,
            candidates=candidates,
            new_items=new_items,
        )
        with_interval = [] if bootstrap is None else [f"evaluation.bootstrap={bootstrap}"]
        evaluate_ranking(
            run,
            split.value,
            names_of(baselines),
            [*(settings or []), *with_interval],
            None if counts is None else counts.value,
            predictions,
            figures,
            json=json,
        )
        return
    check_retrieval(settings)
    from models.evaluate_run import evaluate as evaluate_run

    with progress_bars(quiet=json) as bars:
        result = evaluate_run(
            run,
            split.value,
            data=data,
            checkpoint=checkpoint.value,
            baselines=names_of(baselines),
            counts=None if counts is None else counts.value,
            against=against,
            average=average or (),
            per_user=per_user,
            predictions=predictions,
            stack=stack or (),
            figures=figures,
            told=Evaluating(bars, quiet=json),
            exclude_seen=exclude_seen,
            target_behavior=target,
            by=by or None,
            bootstrap=bootstrap,
            candidates=None if candidates is None else candidates.value,
            new_items=None if new_items is None else new_items.value,
        )
    if json:
        print_json(result)
        return
    if "label" in result:
        print_actions(run, result)
        if "baselines" in result:
            print_rankers(run, result)
        say(protocol(result))
        return
    if "checkpoint" not in result:  # a shard folder
        print_floors(run, result)
    else:
        print_means(run, result)
        print_below_floors(result)
        print_next_behavior(result)
    print_repeats(result)
    print_breakdown(result)
    if against is not None:
        print_comparison(run, result)
    say(protocol(result))
    if "baselines" not in result and "repeats" in result:
        say("--baselines shows what counting alone reaches")
