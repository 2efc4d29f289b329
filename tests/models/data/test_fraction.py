"""Fractions of the training part: nested, the same for every seed, and with the same targets."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task, make_loader, sequences_of
from models.config import load_config
from models.data.loading import ShardSource
from models.data.loading.fraction import fraction_of
from models.tasks.parts import read_catalog, trained_part
from tests.models.shards import World, leave_one_out, write_shards

FRACTIONS = (0.1, 0.25, 0.5, 0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 users who begin at different times, in two files."""
    rows = [[2 + (user * step) % 9 for step in range(4 + user % 7)] for user in range(1, 301)]
    users = [
        replace(user, timestamp=[7 * n + 50 * s for s in range(len(user.item))])
        for n, user in enumerate(leave_one_out(*rows))
    ]
    return write_shards(tmp_path_factory.mktemp("data"), users, World(num_items=9, files=2))


def ends(folder: Path, fraction: float, by: str) -> np.ndarray:
    source = fraction_of(ShardSource(open_shards(folder)), fraction, by)  # type: ignore[arg-type]
    return np.concatenate([part.train_end for part in source])


@pytest.mark.parametrize("by", ["users", "time"])
def test_a_smaller_fraction_is_part_of_a_larger_one(folder: Path, by: str) -> None:
    found = [ends(folder, fraction, by) for fraction in (*FRACTIONS, 1.0)]
    for smaller, larger in pairwise(found):
        assert (smaller <= larger).all()
        assert smaller.sum() < larger.sum()


def test_by_users_all_or_nothing_of_each_is_left(folder: Path) -> None:
    whole = ends(folder, 1.0, "users")
    for fraction in FRACTIONS:
        left = ends(folder, fraction, "users")
        assert ((left == whole) | (left == 0)).all()
        # Four standard deviations of a binomial.
        assert abs((left > 0).mean() - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / len(left))


def test_by_time_it_is_the_events_up_to_one_moment(folder: Path) -> None:
    (first, *more) = [ShardSource(open_shards(folder))]
    assert not more
    times = [
        data.timestamp[start : start + end].tolist()
        for data in first
        for start, end in zip(data.offsets[:-1], data.train_end, strict=True)
    ]
    every = sorted(time for row in times for time in row)
    for fraction in FRACTIONS:
        moment = every[int(np.ceil(fraction * len(every))) - 1]
        expected = [sum(time <= moment for time in row) for row in times]
        assert ends(folder, fraction, "time").tolist() == expected


def test_targets_stay_and_what_is_counted_is_what_is_trained_on(folder: Path) -> None:
    """Item counts, samples and the digest of the loader's order follow the fraction; evaluations do not."""
    shards = open_shards(folder)
    whole, half = (
        load_config("default", ["train.device=cpu", "model.dim=8", *more])
        for more in ([], ["data.fraction=0.5"])
    )
    sources = [sequences_of(shards, config, build_task(config, shards).columns) for config in (whole, half)]
    evaluated = [
        np.concatenate([[data.train_end, data.valid_end, data.lengths] for data in source], axis=1)
        for source in sources
    ]
    assert (evaluated[0] == evaluated[1]).all()
    kept = int((ends(folder, 0.5, "users") > 1).sum())
    pairs = zip((whole, half), sources, strict=True)
    loaders = [make_loader(config, source, ("view",)) for config, source in pairs]
    assert [loader.samples for loader in loaders] == [300, kept]
    assert loaders[0].state_dict() != loaders[1].state_dict()
    for loader in loaders:
        loader.close()
    counts = read_catalog(half, shards).train_count
    trained = np.concatenate([data.item[data.in_training()] for data in trained_part(sources[1], half)])
    assert counts.tolist() == np.bincount(trained, minlength=len(counts)).tolist()


def test_without_time_there_are_no_oldest_events(tmp_path: Path) -> None:
    data = write_shards(tmp_path, leave_one_out([2, 3, 4, 5]), World(num_items=9, timestamp_unit="none"))
    with pytest.raises(UserError, match="no time"):
        ends(data, 0.5, "time")
