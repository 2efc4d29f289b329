"""Recommendations in data sets with domains, whose ids are shared or separate."""

from __future__ import annotations

from pathlib import Path

import pytest

import behavior
from behavior.errors import UserError
from models import load_model
from models.serving.load import TrainedModel
from tests.models.serving.recommend_world import events, run_on

DOMAINS = ("books", "games")


def write_spec(folder: Path, ids: str) -> Path:
    """Every other event is of the other domain; times in milliseconds, ids of items whole numbers."""
    folder.mkdir(parents=True)
    lines = [
        f"{user},{item[1:]},{DOMAINS[(int(item[1:]) + (place % 5 == 0)) % 2]},{1000 * time + 7}"
        for place, (user, item, _, time) in enumerate(events())
    ]
    (folder / "log.csv").write_text("\n".join(["user,item,shop,time", *lines, ""]))
    spec = f"""
name: shops
events:
  files: log.csv
  columns: {{user: user, item: item, timestamp: time, domain: shop}}
  behavior: buy
timestamp_unit: ms
behaviors: [buy]
domains: [books, games]
domain_ids: {{items: {ids}, users: {ids}}}
id_types: {{item: integer}}
"""
    (folder / "spec.yaml").write_text(spec)
    return folder / "spec.yaml"


@pytest.fixture(scope="module", params=["shared", "separate"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    folder = tmp_path_factory.mktemp(request.param)
    behavior.prepare(str(write_spec(folder / "raw", request.param)), str(folder / "data"))
    settings = ["embedding.domains=add", "embedding.query_domain=add"]
    return load_model(run_on(folder / "data", folder / "run", settings), device="cpu")


def catalog(domain: str) -> set[int]:
    return {
        int(item[1:])
        for place, (_, item, _, _) in enumerate(events())
        if DOMAINS[(int(item[1:]) + (place % 5 == 0)) % 2] == domain
    }


def test_items_of_a_domain(model: TrainedModel) -> None:
    separate = "domain" in model.shards.items().column_names
    for domain in DOMAINS:
        rows = (
            model.recommend(k=12, at=1_000_400_000_000, domain=domain, exclude_seen=False).table().to_pylist()
        )
        assert {int(row["item"]) for row in rows} <= catalog(domain)
        if separate:
            assert {row["item_domain"] for row in rows} == {domain}
            assert {row["user_domain"] for row in rows} == set(DOMAINS)
    with pytest.raises(UserError, match="no domain 'music'"):
        model.recommend(domain="music")


def test_a_run_of_one_domain_recommends_items_of_it(model: TrainedModel, tmp_path: Path) -> None:
    settings = ["data.domain=games", "loss.negatives.domain=within", "evaluation.candidates=domain"]
    ours = load_model(run_on(Path(model.shards.where()), tmp_path / "run", settings), device="cpu")
    at = 1_000_400_000_000
    found = ours.recommend(k=12, at=at, exclude_seen=False)
    assert any("'games' alone" in note for note in found.notes)
    rows = found.table()
    assert set(map(int, rows["item"].to_pylist())) <= catalog("games")
    assert rows == ours.recommend(k=12, at=at, exclude_seen=False, domain="games").table()
    with pytest.raises(UserError, match="nothing of items of 'books'"):
        ours.recommend(domain="books")


def test_histories_have_domains(model: TrainedModel) -> None:
    """The same as users of the data set with that history have."""
    separate = "domain" in model.shards.items().column_names
    rows = [
        {
            "user": user,
            "item": int(item[1:]),
            "domain": DOMAINS[(int(item[1:]) + (place % 5 == 0)) % 2],
            "timestamp": 1000 * time + 7,
        }
        for place, (user, item, _, time) in enumerate(events())
    ]
    if separate:  # a user of one domain alone is one user there
        rows = [row for row in rows if row["domain"] == "books"]
    wanted = {"k": 5, "at": "2001-09-13T12:00:00Z", "domain": "books"}
    found = model.recommend(histories=rows, **wanted)
    given: dict[str, list[object]] = {}
    for row in found.table().to_pylist():
        given.setdefault(row["user"], []).append((row["item"], round(row["score"], 4)))
    expected: dict[str, list[object]] = {}
    for row in model.recommend(**wanted).table().to_pylist():
        if row.get("user_domain", "books") == "books":
            expected.setdefault(row["user"], []).append((row["item"], round(row["score"], 4)))
    assert given == expected
    assert found.told.unknown_items == 0
    with pytest.raises(UserError, match="there is no column 'domain'"):
        model.recommend(
            histories=[{n: row[n] for n in ("user", "item", "timestamp")} for row in rows]
        ).table()
    with pytest.raises(UserError, match="item 'x' is not a whole number"):
        model.recommend(histories=[rows[0] | {"item": "x"}]).table()
    with pytest.raises(UserError, match="is not in the data set"):
        model.recommend(histories=[rows[0] | {"domain": "music"}]).table()
