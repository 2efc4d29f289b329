"""The ready specs of Amazon reviews, on a few rows in the published form."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from behavior.flow.memory import prepare_tables
from tests.behavior.datasets.published import events, feature, lines, without_core, write_files
from tests.behavior.datasets.test_ready_specs import REVIEWS_2014


def test_amazon_2014(tmp_path: Path) -> None:
    more = REVIEWS_2014.replace("7806397051", "0000013714").splitlines(keepends=True)[0]
    write_files(
        tmp_path, {"reviews_Beauty_5.json.gz": REVIEWS_2014, "reviews_Musical_Instruments_5.json.gz": more}
    )
    assert events("amazon-2014", tmp_path, "timestamp", "value") == [
        ("A1YJEY40YUW4SE", "7806397051", "review", 1391040000, 1.0),
        ("A60XNB876KYML", "B00001", "review", 1397779200, 3.0),
        ("A1YJEY40YUW4SE", "0000013714", "review", 1391040000, 1.0),
    ]
    assert prepare_tables("amazon-2014", tmp_path).counts.items == 3


def test_amazon_ratings_of_2014_and_2018_have_their_columns_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "2014").mkdir()
    (tmp_path / "2018").mkdir()
    write_files(tmp_path / "2014", {"ratings_Beauty.csv": "A39HTATAQ9V7YF,0205616461,5.0,1369699200\n"})
    write_files(tmp_path / "2018", {"All_Beauty.csv": "0205616461,A39HTATAQ9V7YF,5.0,1369699200\n"})
    for year in ("2014", "2018"):
        found = events(f"amazon-{year}-ratings", tmp_path / year, "timestamp", "value")
        assert found == [("A39HTATAQ9V7YF", "0205616461", "review", 1369699200, 5.0)]


@pytest.mark.parametrize(
    ("name", "file", "row", "header"),
    [
        ("amazon-2014-ratings", "ratings_Baby.csv", "{user},{item},4.0,{time}", ""),
        ("amazon-2018-ratings", "Books.csv", "{item},{user},4.0,{time}", ""),
        (
            "amazon-2023-ratings",
            "Books.csv.gz",
            "{user},{item},4.0,{time}",
            "user_id,parent_asin,rating,timestamp\n",
        ),
    ],
)
def test_ratings_are_cut_to_their_5_core(name: str, file: str, row: str, header: str, tmp_path: Path) -> None:
    """Five users who rated the same five items stay; a sixth with one rating goes."""
    pairs = [(user, item) for user in range(5) for item in range(5)] + [(5, 0)]
    rows = [
        row.format(user=f"A{user}", item=f"B{item}", time=1_400_000_000 + 10 * user + item)
        for user, item in pairs
    ]
    write_files(tmp_path, {file: header + "\n".join(rows) + "\n"})
    counts = prepare_tables(name, tmp_path).counts
    assert (counts.users, counts.items, counts.events, counts.filtered) == (5, 5, 25, 1)


def test_amazon_2018(tmp_path: Path) -> None:
    review = {
        "overall": 5.0,
        "vote": "1,234",
        "verified": True,
        "reviewTime": "09 1, 2016",
        "reviewerID": "A3CIUOJXQ5VDQ2",
        "asin": "B0000530HU",
        "style": {"Size:": " 7.0 oz", "Flavor:": " Classic Ice Blue"},
        "reviewerName": "Shelly F",
        "reviewText": "As advertised.",
        "unixReviewTime": 1472688000,
    }
    other = {**review, "asin": "B00006L9LC", "verified": False, "unixReviewTime": 1479427200, "style": None}
    metas = [
        {
            "category": ["Beauty & Personal Care", "Shaving"],
            "description": ["x"],
            "title": "Aqua Velva",
            "brand": "Aqua Velva",
            "price": "$5.99",
            "asin": "B0000530HU",
            "details": {"a": "b"},
        },
        {"category": [], "description": "", "brand": "", "asin": "B00006L9LC", "details": "none"},
    ]
    files = {"All_Beauty_5.json.gz": lines(review, other, review), "meta_All_Beauty.json.gz": lines(*metas)}
    write_files(tmp_path, files)
    assert events("amazon-2018", tmp_path, "timestamp", "value", "verified") == [
        ("A3CIUOJXQ5VDQ2", "B0000530HU", "review", 1472688000, 5.0, "true"),
        ("A3CIUOJXQ5VDQ2", "B00006L9LC", "review", 1479427200, 5.0, "false"),
        ("A3CIUOJXQ5VDQ2", "B0000530HU", "review", 1472688000, 5.0, "true"),
    ]
    data = prepare_tables("amazon-2018", tmp_path)
    assert (data.counts.events, data.counts.filtered) == (2, 1)  # the copy is left out
    category = {"B0000530HU": ["Beauty & Personal Care", "Shaving"], "B00006L9LC": []}
    assert feature(data, "item", "category") == category
    assert feature(data, "item", "brand") == {"B0000530HU": "Aqua Velva", "B00006L9LC": None}


def test_amazon_2023(tmp_path: Path) -> None:
    review = {
        "rating": 5.0,
        "title": "Such a lovely scent",
        "text": "This spray is really nice.",
        "images": [],
        "asin": "B00YQ6X8EO",
        "parent_asin": "B00YQ6X8EO",
        "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ",
        "timestamp": 1588687728923,
        "helpful_vote": 0,
        "verified_purchase": True,
    }
    # A variant of a product has its own asin, and is rated as its parent.
    other = {**review, "rating": 1.0, "asin": "B1", "parent_asin": "B07G9GWFSM", "verified_purchase": False}
    metas = [
        {
            "main_category": "All Beauty",
            "title": "Howard Spray",
            "average_rating": 4.8,
            "rating_number": 10,
            "features": [],
            "price": None,
            "store": "Howard Products",
            "categories": [],
            "details": {"UPC": "1"},
            "parent_asin": "B00YQ6X8EO",
            "bought_together": None,
        },
        {
            "main_category": None,
            "price": 6.99,
            "store": None,
            "categories": ["Beauty & Personal Care", "Hair Care"],
            "parent_asin": "B07G9GWFSM",
        },
        {"main_category": "Toys", "price": "from 5.99", "categories": [], "parent_asin": "UNSEEN"},
    ]
    write_files(
        tmp_path,
        {"All_Beauty.jsonl.gz": lines(review, other), "meta_All_Beauty.jsonl.gz": lines(*metas)},
    )
    user = "AGKHLEW2SOWHNMFQIJGBECAF7INQ"
    assert events("amazon-2023", tmp_path, "timestamp", "value", "verified_purchase") == [
        (user, "B00YQ6X8EO", "review", 1588687728923, 5.0, "true"),
        (user, "B07G9GWFSM", "review", 1588687728923, 1.0, "false"),
    ]
    data = without_core("amazon-2023", tmp_path)
    assert feature(data, "item", "main_category") == {"B00YQ6X8EO": "All Beauty", "B07G9GWFSM": None}
    assert feature(data, "item", "store") == {"B00YQ6X8EO": "Howard Products", "B07G9GWFSM": None}
    categories = {"B00YQ6X8EO": [], "B07G9GWFSM": ["Beauty & Personal Care", "Hair Care"]}
    assert feature(data, "item", "categories") == categories
    price = feature(data, "item", "price")
    assert price["B07G9GWFSM"] == pytest.approx(math.log(7.99), rel=1e-6)
    assert price["B00YQ6X8EO"] is None or math.isnan(price["B00YQ6X8EO"])


def test_amazon_2023_ratings(tmp_path: Path) -> None:
    header = "user_id,parent_asin,rating,timestamp\n"
    text = header + "AGKHLEW2SOWHNMFQIJGBECAF7INQ,B081TJ8YS3,4.0,1588615855070\n"
    write_files(tmp_path, {"All_Beauty.csv.gz": text})
    assert events("amazon-2023-ratings", tmp_path, "timestamp", "value") == [
        ("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B081TJ8YS3", "review", 1588615855070, 4.0)
    ]


SMALL_AMAZON = {
    "Beauty.txt": "1 1 2 3\n2 2 1 4\n",
    "Beauty_item2attributes.json": '{"1": [1, 2], "2": [1], "3": [2, 3]}',
    "Sports_and_Outdoors.txt": "1 1 2 3\n",
    "Sports_and_Outdoors_item2attributes.json": '{"1": [1], "2": [1, 2], "3": [2]}',
    "Toys_and_Games.txt": "1 3 2 1\n",
    "Toys_and_Games_item2attributes.json": '{"1": [9], "2": [9, 1], "3": [9]}',
}


def test_small_amazon_sets(tmp_path: Path) -> None:
    write_files(tmp_path, SMALL_AMAZON)
    expected = [(1, 1), (1, 2), (1, 3), (2, 2), (2, 1), (2, 4)]
    found = events("amazon-beauty", tmp_path)
    assert found == [(user, item, "review") for user, item in expected]
    attributes = feature(prepare_tables("amazon-beauty", tmp_path), "item", "attributes")
    assert attributes == {1: ["1", "2"], 2: ["1"], 3: ["2", "3"], 4: []}
    assert len(events("amazon-sports", tmp_path)) == len(events("amazon-toys", tmp_path)) == 3


def test_three_domains_in_one(tmp_path: Path) -> None:
    write_files(tmp_path, SMALL_AMAZON)
    data = prepare_tables("amazon-three", tmp_path)
    assert data.counts.events == 12
    # User 1 of each domain is another one, and so is item 1.
    assert data.counts.users == 4
    items = data.tables.items.select(["domain", "id"]).to_pylist()
    assert [(row["domain"], row["id"]) for row in items] == [
        *(("beauty", str(n)) for n in (1, 2, 3, 4)),
        *(("sports", str(n)) for n in (1, 2, 3)),
        *(("toys", str(n)) for n in (1, 2, 3)),
    ]
    words = data.tables.vocabularies["attributes"].select(["domain", "value", "count"]).to_pylist()
    assert sorted(tuple(row.values()) for row in words) == [
        ("beauty", "1", 2),
        ("beauty", "2", 2),
        ("beauty", "3", 1),
        ("sports", "1", 2),
        ("sports", "2", 2),
        ("toys", "1", 1),
        ("toys", "9", 3),
    ]
    rows = data.sequences.select(["user", "domain", "item"]).to_pylist()
    domains = {(row["user"], tuple(set(row["domain"]))) for row in rows}
    assert domains == {("1", (1,)), ("2", (1,)), ("1", (2,)), ("1", (3,))}
