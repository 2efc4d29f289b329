"""Rankings within the target's domain, and sequences of one domain alone, against plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import sequences_of
from models.config import load_config
from models.data.declared import CORE
from models.data.item_domains import ItemDomains
from models.data.sequences import SequenceData
from models.evaluate_run import evaluate
from models.evaluation.config import EvaluationConfig
from models.evaluation.ranking import rank_split
from models.evaluation.scores import RowScores, Scores
from models.evaluation.targets import Targets, find_targets
from models.tasks.parts import read_catalog, trained_events
from models.tasks.retrieval.trends import count_source
from models.training import train
from tests.models.evaluation.domain_world import ITEMS, Log, make_log
from tests.models.shards import USERS, WORLD, write_shards

SPLITS: list[dict[str, Any]] = [
    {"kind": "leave_one_out"},
    {"kind": "temporal", "targets": "all"},
    {"kind": "next_basket"},
]
WITHIN = ["evaluation.candidates=domain", "loss.negatives.domain=within"]
TABLE = np.random.default_rng(1).integers(0, 6, (1000, ITEMS)) / 4.0
"""Scores with ties: the row of a query is that of its sequence and history."""


def row_of(sequence: int, history: int) -> int:
    return (sequence * 13 + history) % len(TABLE)


def scorer(data: SequenceData, targets: Targets) -> Scores:
    history = targets.stop - data.offsets[targets.sequence]
    rows = [row_of(*pair) for pair in zip(data.row[targets.sequence], history, strict=True)]
    return RowScores(torch.from_numpy(TABLE[rows]))


def targets_by_hand(log: Log, split: str) -> list[tuple[int, int, int]]:
    """Sequence, place of the target, and where its history ends."""
    found = []
    for number, user in enumerate(log.users):
        cut, end = (user.train_end, user.valid_end) if split == "valid" else (user.valid_end, len(user.item))
        places = [place for place in range(cut, end) if user.behavior[place] == 2]
        if log.split["kind"] == "leave_one_out":
            places = places[:1]
        found += [(number, place, cut if log.split["kind"] == "next_basket" else place) for place in places]
    return found


def rank_by_hand(scores: np.ndarray, item: int, candidates: set[int], seen: set[int]) -> float:
    """`scores` by item id less 2."""
    if item not in candidates or item in seen:
        return float("inf")
    rivals = [other for other in candidates - seen - {item} if scores[other - 2] >= scores[item - 2]]
    return 1.0 + len(rivals)


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("kind", SPLITS, ids=lambda kind: kind["kind"])
def test_a_target_is_ranked_among_items_of_its_domain(
    tmp_path: Path, kind: dict[str, Any], split: Any, exclude: bool
) -> None:
    log = make_log(kind)
    shards = open_shards(log.write(tmp_path))
    config = load_config("default", ["evaluation.candidates=domain"])
    judging = EvaluationConfig(candidates="domain", exclude_seen=exclude, batch_size=7)
    found = rank_split(sequences_of(shards, config, CORE), scorer, split=split, config=judging)
    expected = []
    for number, place, stop in targets_by_hand(log, split):
        user, domain = log.users[number], log.domains[number][place]
        if stop:
            seen = {user.item[i] for i in range(stop) if user.behavior[i] == 2} if exclude else set()
            candidates = log.catalog(domain) - {1}
            scores = TABLE[row_of(number, stop)]
            expected.append((number, place, rank_by_hand(scores, user.item[place], candidates, seen)))
    assert list(zip(found.user, found.position, found.rank, strict=True)) == expected
    assert found.summary([10])["candidates_of"] == "domain"


@pytest.mark.parametrize("domain", [1, 2])
@pytest.mark.parametrize("kind", SPLITS, ids=lambda kind: kind["kind"])
def test_a_domain_alone_has_its_events_and_its_targets(
    tmp_path: Path, kind: dict[str, Any], domain: int
) -> None:
    log = make_log(kind)
    shards = open_shards(log.write(tmp_path))
    config = load_config("default", [*WITHIN, f"data.domain={['books', 'games'][domain - 1]}"])
    source = sequences_of(shards, config, CORE)
    assert "domain" not in source.columns
    whole = {split: targets_by_hand(log, split) for split in ("valid", "test")}
    number = 0
    for part in source:
        for row in range(part.num_sequences):
            user, own = log.users[number], [d == domain for d in log.domains[number]]
            events = slice(part.offsets[row], part.offsets[row + 1])
            assert part.item[events].tolist() == [i for i, here in zip(user.item, own, strict=True) if here]
            assert part.train_end[row] == sum(own[: user.train_end])
            assert part.valid_end[row] == sum(own[: user.valid_end])
            number += 1
    assert number == len(log.users)
    for split in ("valid", "test"):
        judging = EvaluationConfig(candidates="domain", exclude_seen=False)
        rankings = rank_split(source, scorer, split=split, config=judging)  # type: ignore[arg-type]
        found = list(zip(rankings.user, rankings.position, rankings.history, strict=True))
        expected = []
        for sequence, place, stop in whole[split]:
            history = sum(d == domain for d in log.domains[sequence][:stop])
            if log.domains[sequence][place] == domain and history:
                expected.append((sequence, place, history))
        assert found == expected


def test_training_on_a_domain_stops_where_the_whole_training_part_does(tmp_path: Path) -> None:
    log = make_log()
    source = sequences_of(
        open_shards(log.write(tmp_path)), load_config("default", [*WITHIN, "data.domain=games"]), CORE
    )
    parts = [source.train_ends(part).tolist() for part in range(len(source.events))]
    assert [end for part in parts for end in part] == [
        sum(d == 2 for d in row[: user.train_end]) for user, row in zip(log.users, log.domains, strict=True)
    ]
    assert source.digest != sequences_of(open_shards(tmp_path), load_config("default"), CORE).digest


def test_catalogs_are_what_the_log_has(tmp_path: Path) -> None:
    log = make_log()
    config = load_config("default", ["evaluation.candidates=domain"])
    member = ItemDomains.of_sequences(sequences_of(open_shards(log.write(tmp_path)), config, CORE)).member
    assert member[0].all()
    for domain in (1, 2):
        assert set((member[domain].nonzero().flatten() + 2).tolist()) == log.catalog(domain) - {1}


@pytest.mark.parametrize("setting", ["evaluation.candidates=domain", "loss.negatives.domain=within"])
def test_data_of_one_domain_are_refused(tmp_path: Path, setting: str) -> None:
    folder = write_shards(tmp_path / "data", USERS, WORLD)
    with pytest.raises(UserError, match="has one domain only") as caught:
        train(load_config("default", [setting, "train.device=cpu"]), folder, tmp_path / "run")
    assert caught.value.where == setting.replace("=", " = ")


def test_a_model_of_one_domain_competes_in_it_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="negatives and candidates of that domain only"):
        load_config("default", ["data.domain=books"])
    shards = open_shards(make_log().write(tmp_path))
    config = load_config("default", [*WITHIN, "data.domain=bookz"])
    with pytest.raises(UserError, match="no domain 'bookz'") as caught:
        sequences_of(shards, config, CORE)
    assert "books" in (caught.value.fix or "")


@pytest.mark.parametrize("part", ["train", "train+valid"])
@pytest.mark.parametrize("inputs", ["all", "target"])
def test_what_is_counted_for_a_model_of_one_domain_is_of_it_alone(
    tmp_path: Path, part: str, inputs: str
) -> None:
    """Items of both domains are as popular as they are here; so they are in trends."""
    log = make_log()
    shards = open_shards(log.write(tmp_path))
    more = [f"loader.part={part}", f"model.input_behaviors={inputs}", "loss.trends=learned"]
    more.append("loss.trend_of=all")
    config = load_config("default", [*WITHIN, "data.domain=games", *more])
    counts, events = np.zeros(ITEMS + 2, int), []
    for user, domains in zip(log.users, log.domains, strict=True):
        end = user.train_end if part == "train" else user.valid_end
        rows = zip(user.item[:end], user.behavior, user.timestamp, domains, strict=False)
        for item, behavior, time, domain in rows:
            if domain == 2 and item >= 2 and (inputs == "all" or behavior == 2):
                counts[item] += 1
                events.append((item - 2, time))
    assert read_catalog(config, shards).train_count.tolist() == counts.tolist()
    table = count_source(trained_events(config, shards), config.loss)
    assert sorted(zip(table.item.tolist(), table.time.tolist(), strict=True)) == sorted(events)


@pytest.mark.parametrize("loss", ["sampled_softmax", "full_softmax"])
def test_one_model_of_both_domains_and_one_of_each(tmp_path: Path, loss: str) -> None:
    """On one shard folder, so that users and targets of a domain are the same."""
    data = make_log(users=150).write(tmp_path / "data")
    small = ["model.dim=4", "model.max_length=5", "model.blocks=1", "train.epochs=1", "train.device=cpu"]
    settings = [*WITHIN, *small, f"loss.kind={loss}", "evaluation.exclude_seen=false"]
    train(load_config("default", settings), data, tmp_path / "both")
    both = evaluate(tmp_path / "both", "test", by=["domain"], bootstrap=0, device="cpu")
    for domain in ("books", "games"):
        train(load_config("default", [*settings, f"data.domain={domain}"]), data, tmp_path / domain)
        alone = evaluate(
            tmp_path / domain, "test", device="cpu", bootstrap=0, by=["history"], baselines=["popularity"]
        )
        # Floors see the whole log, and yet the same targets are in a slice.
        for name in ("repeats", "breakdown"):
            rows = [
                found[name].get("history", found[name]) for found in (alone, alone["baselines"]["popularity"])
            ]
            ours, floor = ({key: row["targets"] for key, row in found.items()} for found in rows)
            assert ours == floor
        # Without a history in the domain a user of both is ranked by the model of both alone.
        alone_too = alone["targets"] + alone["targets_without_history"]
        against = evaluate(tmp_path / domain, "test", against=tmp_path / "both", device="cpu", bootstrap=0)
        assert against["comparison"]["metrics"]["hr@10"]["ours"] == pytest.approx(alone["hr@10"])
        with pytest.raises(UserError, match="same targets and candidates"):
            evaluate(tmp_path / "both", "test", against=tmp_path / domain, device="cpu", bootstrap=0)
        assert alone["targets"] < both["breakdown"]["domain"][domain]["targets"] <= alone_too
    ranked_all = evaluate(tmp_path / "both", "test", bootstrap=0, candidates="all", device="cpu")
    assert "candidates_of" not in ranked_all
    assert both["hr@10"] >= ranked_all["hr@10"]


def test_a_domain_has_the_targets_of_the_data_set(tmp_path: Path) -> None:
    shards = open_shards(make_log().write(tmp_path))
    config = load_config("default", [*WITHIN, "data.domain=books", "evaluation.target_behavior=view"])
    with pytest.raises(UserError, match="other targets are asked for"):
        sequences_of(shards, config, CORE)


def test_targets_of_one_query_in_two_domains_are_two(tmp_path: Path) -> None:
    """A basket whose items are of two domains: the query is one, the candidates are not."""
    log = make_log({"kind": "next_basket"})
    shards = open_shards(log.write(tmp_path))
    source = sequences_of(shards, load_config("default", ["evaluation.candidates=domain"]), CORE)
    mixed = 0
    for part in source:
        targets = find_targets(part, "test")
        for sequence in np.unique(targets.sequence):
            domains = part.events["domain"][targets.event[targets.sequence == sequence]]
            mixed += len(np.unique(domains)) == 2
    assert mixed > 3  # what test_a_target_is_ranked_among_items_of_its_domain has gone through
