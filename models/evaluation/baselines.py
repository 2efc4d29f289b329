"""Baselines without a network: the floors (`models.evaluation.floors`), by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.storage import FolderLike
from models.evaluation.breakdown import check_attributes
from models.evaluation.config import EvaluationConfig
from models.evaluation.floors.floors import Floors
from models.evaluation.floors.names import FLOORS, Counts, check_names
from models.evaluation.rankings import Rankings
from models.evaluation.targets import Split

BASELINES = tuple(FLOORS)
"""All of them. Some make no sense for some data sets."""


def evaluate_baseline(
    name: str,
    data: FolderLike | ShardFolder,
    split: Split = "test",
    config: EvaluationConfig | None = None,
    candidates: int | None = None,
    counts: Counts = "train",
) -> dict[str, Any]:
    """Evaluate a baseline under the protocol of the models.

    Args:
        name: of `BASELINES`.
        data: a shard folder.
        split: valid or test.
        config: metrics and protocol.
        candidates: how many known items are ranked, the first ones; None: all.
        counts: events that it has counted: `train`, those of the training parts; or `train+valid`.

    Returns:
        `model`, the name; `counts`; of those that leave something to validation `chosen`, by parameter, and
        `chosen_on`; then as `models.evaluation.report.RankingEvaluation.report`.

    Raises:
        UserError: the name is not known, the baseline makes no sense for the data, or they cannot be broken
            down as asked.
    """
    return evaluate_baselines([name], data, split, config, candidates, counts)[0][name]


def evaluate_baselines(
    names: Sequence[str] | None,
    data: FolderLike | ShardFolder,
    split: Split = "test",
    config: EvaluationConfig | None = None,
    candidates: int | None = None,
    counts: Counts = "train",
    like: Rankings | None = None,
    told: Callable[[str], None] = lambda name: None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Evaluate several baselines; what they count and choose in common is done once.

    Args:
        names: which; None: all that make sense for the data set.
        data, split, config, candidates, counts: as of `evaluate_baseline`.
        like: rankings of a model; only its targets are evaluated. Baselines always see the whole log.
        told: is called with the name of each before it is judged.

    Returns:
        name -> report, as of `evaluate_baseline`; and name -> why it makes no sense, of those left out.

    Raises:
        UserError: a name is not known, one that is asked for makes no sense for the data, or they cannot be
            broken down as asked.
    """
    check_names(names or [])
    shards = data if isinstance(data, ShardFolder) else open_shards(data)
    config = config or EvaluationConfig()
    check_attributes(config.by, shards)
    floors = Floors(shards, split, config, counts=counts, candidates=candidates)
    left_out = floors.left_out()
    for name in names or []:
        if name in left_out:
            raise UserError(
                f"the baseline '{name}' makes no sense here: {left_out[name]}",
                where=shards.where(),
                fix="leave it out",
            )
    chosen = [name for name in BASELINES if name not in left_out] if names is None else names
    found = {}
    for name in chosen:
        told(name)
        found[name] = floors.judge(name, like).report()
    return found, left_out if names is None else {}


def evaluate_data_set(
    data: FolderLike | ShardFolder,
    split: Split = "test",
    names: Sequence[str] | None = None,
    counts: Counts = "train",
    told: Callable[[str], None] = lambda name: None,
    **settings: Any,
) -> dict[str, Any]:
    """Baselines on a data set alone, without a model.

    Args:
        data: a shard folder.
        split: valid or test.
        names: which; None: all that make sense.
        counts: as of `evaluate_baseline`.
        told: as of `evaluate_baselines`.
        settings: of `models.evaluation.config.EvaluationConfig`; None leaves a default.

    Returns:
        `data`, what reports say of split, users, targets and protocol, `baselines` by name, and
        `baselines_left_out`, name -> why.

    Raises:
        UserError: as of `evaluate_baselines`.
    """
    config = parse_config(
        EvaluationConfig,
        {name: value for name, value in settings.items() if value is not None},
        where="evaluation",
    )
    shards = data if isinstance(data, ShardFolder) else open_shards(data)
    found, left_out = evaluate_baselines(names, shards, split, config, counts=counts, told=told)
    own = ("model", "chosen", "chosen_on", "intervals", "breakdown", "repeats", "excluded_targets")
    one = next(iter(found.values()))
    common = {name: value for name, value in one.items() if "@" not in name and name not in own}
    return {"data": str(shards.folder), **common, "baselines": found, "baselines_left_out": left_out}
