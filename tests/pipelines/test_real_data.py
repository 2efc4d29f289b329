"""The job on public data, found through $LRM_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from behavior.shards.folder import open_shards
from behavior.spec.dataset_spec import DatasetSpec, load_spec
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.test_prepare import contents

DATA = os.environ.get("LRM_DATA")
pytestmark = pytest.mark.skipif(
    not DATA, reason="LRM_DATA is not set: it names the folder of the public data sets"
)


def ready(name: str, **changes: object) -> tuple[DatasetSpec, str]:
    spec, base = load_spec(name, input_folder=f"{DATA}/{name}")
    return spec.model_copy(update=changes), base


def test_movielens_from_one_process_and_from_several(tmp_path: Path) -> None:
    spec, base = ready("ml-1m", shards=4)
    counts = prepare(spec, base, tmp_path / "one").manifest.counts
    assert (counts.users, counts.items, counts.events, counts.read) == (6_040, 3_706, 1_000_209, 1_000_209)
    prepare(spec, base, tmp_path / "two", runner=RunnerOptions(workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_last_movie_of_every_user_is_the_test_item(tmp_path: Path) -> None:
    """Against plain Python: the rating with the largest time, of equal ones the last line."""
    spec, base = ready("ml-1m")
    prepare(spec, base, tmp_path / "out")
    last: dict[int, tuple[int, int]] = {}
    with open(f"{DATA}/ml-1m/ratings.dat", encoding="latin-1") as file:
        for line in file:
            user, movie, _, time = map(int, line.split("::"))
            if user not in last or time >= last[user][1]:
                last[user] = (movie, time)
    shards = open_shards(tmp_path / "out")
    ids = dict(zip(*(shards.items().column(name).to_pylist() for name in ("index", "id")), strict=True))
    found = {}
    for table in shards.iter_sequences(["user", "item", "valid_end"]):
        for row in table.to_pylist():
            found[row["user"]] = ids[row["item"][row["valid_end"]]]
    assert found == {user: movie for user, (movie, _) in last.items()}


def test_taobao(tmp_path: Path) -> None:
    spec, base = ready("taobao")
    manifest = prepare(spec, base, tmp_path / "out").manifest
    assert manifest.counts.events == 357_412
    assert manifest.behaviors == ["fav", "cart", "buy"]
