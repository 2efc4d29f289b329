"""The ready specs on the real files where they are at hand, and on a few rows in the published form."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from behavior import datasets
from behavior.config import parse_config, read_yaml
from behavior.flow.memory import PreparedTables, prepare_tables
from behavior.spec.dataset_spec import DatasetSpec, load_spec
from tests.behavior.logs import Reading, read_log

DATA = os.environ.get("LRM_DATA")
real = pytest.mark.skipif(not DATA, reason="LRM_DATA is not set: it names the folder of the public data sets")


def write_files(folder: Path, files: dict[str, str | dict[str, pa.Array]]) -> None:
    """Text files, compressed where the name says so, and Parquet files from columns."""
    for name, content in files.items():
        if not isinstance(content, str):
            pq.write_table(pa.table(content), folder / name)
        elif name.endswith(".gz"):
            (folder / name).write_bytes(gzip.compress(content.encode()))
        else:
            (folder / name).write_text(content, encoding="utf-8", newline="")


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(name: str, folder: Path) -> Reading:
    """The events of a ready spec, before the filters that look at the whole log."""
    spec, base = load_spec(name, input_folder=folder)
    reading = read_log(spec, Path(base))
    assert reading.reasons == []
    return reading


def events(name: str, folder: Path, *columns: str) -> list[tuple[Any, ...]]:
    """User, item, behavior's name, and some more columns of each event, in the log's order."""
    spec, _ = load_spec(name, input_folder=folder)
    rows = read(name, folder).rows("user", "item", "behavior", *columns)
    return [(user, item, spec.behavior_names[number - 1], *rest) for user, item, number, *rest in rows]


def without_core(name: str, folder: Path) -> PreparedTables:
    """A ready spec prepared without its filters: a handful of rows has no 5-core."""
    spec, base = load_spec(name, input_folder=folder)
    return prepare_tables(spec.model_copy(update={"filters": type(spec.filters)()}), base)


def feature(data: PreparedTables, role: str, name: str) -> dict[Any, Any]:
    """Raw id -> raw value, list of values, or number of a feature; None where it is missing."""
    table = data.tables.items if role == "item" else data.tables.users
    words = data.tables.vocabularies.get(name if role == "item" else f"user.{name}")
    values = table.column(name).to_pylist()
    if words is not None:
        of = dict(zip(words.column("index").to_pylist(), words.column("value").to_pylist(), strict=True))
        values = [[of[v] for v in value] if isinstance(value, list) else of.get(value) for value in values]
    return dict(zip(table.column("id").to_pylist(), values, strict=True))


@pytest.mark.parametrize("name", datasets.names())
def test_every_ready_spec_is_one(name: str) -> None:
    spec = parse_config(DatasetSpec, read_yaml(datasets.path_of(name)), where=name)
    assert spec.name == name
    assert spec.target_ids


# The published counts: users, items, events.
PUBLISHED = {
    "ml-1m": ("ml-1m", 6_040, 3_706, 1_000_209),
    "ml-1m-year": ("ml-1m", 6_040, 3_706, 1_000_209),
    "taobao": ("taobao", 31_882, 30_985, 357_412),
    "amazon-beauty": ("amazon", 22_363, 12_101, 198_502),
    "amazon-sports": ("amazon", 35_598, 18_357, 296_337),
    "amazon-toys": ("amazon", 19_412, 11_924, 167_597),
    "amazon-three": ("amazon", 77_373, 42_382, 662_436),
    "completejourney": ("completejourney", 2_469, 68_509, 1_469_307),
}


@real
@pytest.mark.parametrize("name", PUBLISHED)
def test_real_files_give_the_published_counts(name: str) -> None:
    folder, users, items, number = PUBLISHED[name]
    counts = prepare_tables(name, f"{DATA}/{folder}").counts
    assert (counts.users, counts.items, counts.events) == (users, items, number)
    assert (counts.read, counts.accepted, counts.rejected, counts.filtered) == (number, number, 0, 0)


@real
def test_real_films_have_their_years() -> None:
    years = feature(prepare_tables("ml-1m-year", f"{DATA}/ml-1m"), "item", "year")
    assert (years[1], years[1193], years[2882]) == ("1995", "1975", "1999")
    assert all(1919 <= int(year) <= 2000 for year in years.values())


@real
def test_real_taobao_has_the_published_behaviors() -> None:
    stats = prepare_tables("taobao", f"{DATA}/taobao").stats
    assert stats["behaviors"] == {"fav": 49_482, "cart": 140_068, "buy": 167_862}


@real
def test_real_domains_keep_their_ids_and_attributes_apart() -> None:
    one, all_three = (prepare_tables(f"amazon-{name}", f"{DATA}/amazon") for name in ("beauty", "three"))
    tables = [all_three.tables.items, all_three.tables.users]
    found = [[domain["counts"] for domain in t.column("domain").value_counts().to_pylist()] for t in tables]
    assert found == [[12_101, 18_357, 11_924], [22_363, 35_598, 19_412]]
    # Beauty stands first, so that its items have the same indices as alone.
    beauty = all_three.tables.items.slice(0, 12_101)
    assert beauty.column("index").equals(one.tables.items.column("index"))
    assert beauty.column("id").to_pylist() == [str(n) for n in one.tables.items.column("id").to_pylist()]
    sizes = {}
    for name in ("Beauty", "Sports_and_Outdoors", "Toys_and_Games"):
        attributes = json.loads(Path(f"{DATA}/amazon/{name}_item2attributes.json").read_text())
        sizes[name] = len({value for values in attributes.values() for value in values})
    assert len(all_three.tables.vocabularies["attributes"]) == sum(sizes.values())
    assert len(one.tables.vocabularies["attributes"]) == sizes["Beauty"]


@real
def test_real_baskets_against_plain_python() -> None:
    """Promotions, coupons and baskets counted row by row in the raw table."""
    columns = ["household_id", "transaction_timestamp", "retail_disc", "coupon_disc"]
    raw = pq.read_table(f"{DATA}/completejourney/transactions.parquet", columns=columns).to_pydict()
    data = prepare_tables("completejourney", f"{DATA}/completejourney")
    promotions = sum(discount > 0 for discount in raw["retail_disc"])
    assert data.stats["behaviors"] == {"regular": 1_469_307 - promotions, "promotion": promotions}
    coupons = data.sequences.column("coupon").combine_chunks().flatten().to_pylist()
    assert len(set(coupons)) == 2
    assert coupons.count(max(coupons)) == sum(discount > 0 for discount in raw["coupon_disc"])
    ages = feature(data, "user", "age").values()
    assert sum(age is not None for age in ages) == 801
    baskets: dict[int, Counter[datetime]] = defaultdict(Counter)
    for household, time in zip(raw["household_id"], raw["transaction_timestamp"], strict=True):
        baskets[household][time] += 1
    tested = 0
    for row in data.sequences.select(["user", "item", "valid_end"]).to_pylist():
        own = baskets[row["user"]]
        if own.total() >= 3 and len(own) >= 2:  # others only train
            assert len(row["item"]) - row["valid_end"] == own[max(own)]
            tested += 1
        else:
            assert row["valid_end"] == len(row["item"])
    assert tested == data.stats["users_tested"]


@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-32m"])
def test_movielens(name: str, tmp_path: Path) -> None:
    files = {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n1,306,3.5,1147868817\n"
        "2,296,0.5,1147880044\n2,1,4.0,1141415790\n",
        "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
        '296,"Pulp ""Fiction"", or Not (1994)",Comedy|Crime\n306,Café Red (1994),(no genres listed)\n'
        "999,Never Rated (2001),Drama\n",
    }
    write_files(tmp_path, files)
    assert events(name, tmp_path, "timestamp", "value") == [
        (1, 296, "rate", 1147880044, 5.0),
        (1, 306, "rate", 1147868817, 3.5),
        (2, 296, "rate", 1147880044, 0.5),
        (2, 1, "rate", 1141415790, 4.0),
    ]
    genres = feature(prepare_tables(name, tmp_path), "item", "genres")
    assert genres == {1: ["Adventure", "Animation"], 296: ["Comedy", "Crime"], 306: ["(no genres listed)"]}


REVIEWS_2014 = lines(
    {
        "reviewerID": "A1YJEY40YUW4SE",
        "asin": "7806397051",
        "reviewerName": 'Andrea "x"',
        "helpful": [3, 4],
        "reviewText": "Very oily, \n and creamy.",
        "overall": 1.0,
        "summary": "Don't",
        "unixReviewTime": 1391040000,
        "reviewTime": "01 30, 2014",
    },
    {
        "reviewerID": "A60XNB876KYML",
        "asin": "B00001",
        "helpful": [0, 0],
        "reviewText": "",
        "overall": 3.0,
        "unixReviewTime": 1397779200,
        "reviewTime": "04 18, 2014",
    },
)


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


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_taobao_user_behavior_leaves_out_the_wrong_times(tmp_path: Path) -> None:
    first, last = at("2017-11-25T00:00:00+08:00"), at("2017-12-03T23:59:59+08:00")
    rows = [
        f"1,2268318,2520377,pv,{first}",
        f"1,2268318,2520377,fav,{first + 5}",
        "1,5,6,pv,-2134949234",  # 1902
        f"1,5,6,pv,{first - 1}",
        f"100,2268318,2520377,cart,{last}",
        f"100,2268318,2520377,buy,{last + 1}",
        "100,7,8,buy,2122867355",  # 2037
    ]
    write_files(tmp_path, {"UserBehavior.csv": "\r\n".join(rows) + "\r\n"})
    assert events("taobao-user-behavior", tmp_path, "timestamp", "category") == [
        (1, 2268318, "pv", first, "2520377"),
        (1, 2268318, "fav", first + 5, "2520377"),
        (100, 2268318, "cart", last, "2520377"),
    ]
    assert read("taobao-user-behavior", tmp_path).filtered == 4
    spec, _ = load_spec("taobao-user-behavior", input_folder=tmp_path)
    assert spec.target_names == ["buy"]


def test_tmall(tmp_path: Path) -> None:
    # Months before October are found with a leading zero and without.
    log = (
        "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type\n"
        "328862,323294,833,2882,2661,0829,0\n"
        "328862,844400,1271,2882,2661,829,2\n"
        "328862,575153,1271,2882,,1111,2\n"
        "328862,996875,1271,2882,2661,1111,2\n"
        "328862,1086186,1271,1253,1049,0901,1\n"
        "328862,623866,1271,2882,2661,901,3\n"
        "328862,542871,1467,2882,2661,901,2\n"
    )
    info = "user_id,age_range,gender\n328862,6,1\n234512,,\n"
    write_files(tmp_path, {"user_log_format1.csv": log, "user_info_format1.csv": info})
    rows = events("tmall", tmp_path, "timestamp", "category", "seller", "brand")
    assert rows[:3] == [
        (328862, 323294, "click", 829, "833", "2882", "2661"),
        (328862, 844400, "buy", 829, "1271", "2882", "2661"),
        (328862, 575153, "buy", 1111, "1271", "2882", None),
    ]
    assert [row[2] for row in rows[3:]] == ["buy", "cart", "favorite", "buy"]
    data = prepare_tables("tmall", tmp_path)
    [sequence] = data.sequences.select(["timestamp", "train_end", "valid_end"]).to_pylist()
    assert sequence["timestamp"] == [829, 829, 901, 901, 901, 1111, 1111]
    # Both purchases of the last day are test targets, that of the day before it the validation target.
    assert sequence["valid_end"] == 5
    assert sequence["train_end"] <= 4
    assert feature(data, "user", "age_range") == {328862: "6"}


def test_retailrocket(tmp_path: Path) -> None:
    log = (
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n"
        "1433224214164,257597,addtocart,248676,\n"
        "1433222276276,257597,transaction,15335,3556\n"
    )
    write_files(tmp_path, {"events.csv": log})
    assert events("retailrocket", tmp_path, "timestamp") == [
        (257597, 355908, "view", 1433221332117),
        (257597, 248676, "addtocart", 1433224214164),
        (257597, 15335, "transaction", 1433222276276),
    ]
    assert prepare_tables("retailrocket", tmp_path).counts.rejected == 0


LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)


@pytest.mark.parametrize("version", ["pure", "1k", "27k"])
def test_kuairand(version: str, tmp_path: Path) -> None:
    part = "_part1" if version == "27k" else ""
    onehot = [f"onehot_feat{number}" for number in range(18)]
    files = {
        f"log_standard_4_08_to_4_21_{version}{part}.csv": LOG
        + "3,1071,20220408,1600,1649408076860,1,1,0,0,0,0,1,175045,87433,0,0,0,0,1\n"
        + "0,10,20220411,1900,1649675512388,0,0,0,0,0,0,0,0,209900,0,0,0,0,1\n",
        f"log_standard_4_22_to_5_08_{version}{part}.csv": LOG
        + "3,10,20220422,100,1650600000000,0,0,0,0,0,1,0,1405,209900,0,0,1,0,0\n",
        f"log_random_4_22_to_5_08_{version}.csv": LOG
        + "3,20,20220423,100,1650686400000,1,0,0,0,0,0,0,7000,65400,0,0,0,1,1\n",
        f"user_features_{version}.csv": "user_id,user_active_degree,is_lowactive_period,is_live_streamer,"
        "is_video_author,follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,"
        "friend_user_num,friend_user_num_range,register_days,register_days_range," + ",".join(onehot) + "\n"
        '0,full_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+' + ",1" * 18 + "\n"
        '3,high_active,0,0,0,0,0,1,"[1,10)",0,0,107,91-180' + ",0" * 17 + ",\n",
        f"video_features_basic_{version}.csv": "video_id,author_id,video_type,upload_dt,upload_type,"
        "visible_status,video_duration,server_width,server_height,music_id,music_type,tag\n"
        '10,441,NORMAL,2020-07-08,ShortImport,1.0,17200.0,720.0,1280.0,989206467,4.0,"12,65"\n'
        "20,8,AD,2022-04-10,Kmovie,0.0,218066.0,720.0,1280.0,6355810746,9.0,2\n"
        "1071,9,NORMAL,2022-04-10,LongImport,0.0,,720.0,1280.0,9155697141,9.0,\n",
    }
    write_files(tmp_path, files)
    columns = ("timestamp", "value", "is_like", "is_hate", "long_view", "is_profile_enter", "is_rand", "tab")
    assert events("kuairand", tmp_path, *columns) == [
        (3, 1071, "click", 1649408076860, 1.0, "1", "0", "1", "0", "0", "1"),
        (0, 10, "impression", 1649675512388, 0.0, "0", "0", "0", "0", "0", "1"),
        (3, 10, "impression", 1650600000000, 0.0, "0", "1", "0", "1", "0", "0"),
        (3, 20, "click", 1650686400000, 1.0, "0", "0", "0", "0", "1", "1"),
    ]
    played = [row[0] for row in read("kuairand", tmp_path).rows("play_time_ms")]
    assert played == pytest.approx([math.log1p(ms) for ms in (175045, 0, 1405, 7000)], rel=1e-6)
    data = prepare_tables("kuairand", tmp_path)
    assert feature(data, "item", "tag") == {10: ["12", "65"], 20: ["2"], 1071: []}
    assert feature(data, "item", "video_type") == {10: "NORMAL", 20: "AD", 1071: "NORMAL"}
    assert feature(data, "item", "author_id") == {10: "441", 20: "8", 1071: "9"}
    assert feature(data, "user", "follow_user_num_range") == {0: "(0,10]", 3: "0"}
    assert feature(data, "user", "onehot_feat17") == {0: "1", 3: None}


def write_yelp(folder: Path) -> None:
    review = {
        "review_id": "KU_O5udG6zpxOg-VcAEodg",
        "user_id": "mh_-eMZ6K5RLWhZyISBhwA",
        "business_id": "XQfwVwDr-v0ZS3_CbbE5Xw",
        "stars": 3.0,
        "useful": 0,
        "funny": 0,
        "cool": 0,
        "text": "If you decide to eat here,\nbe aware it's slow. Très bien.",
        "date": "2018-07-07 22:09:11",
    }
    other = {**review, "business_id": "Pns2l4eNsfO8kk83dixA6A", "stars": 5.0, "date": "2012-01-03 15:28:18"}
    businesses = [
        {
            "business_id": "Pns2l4eNsfO8kk83dixA6A",
            "name": "Abby Rappoport, LAC, CMQ",
            "city": "Santa Barbara",
            "state": "CA",
            "stars": 5.0,
            "review_count": 7,
            "attributes": {"ByAppointmentOnly": "True"},
            "categories": "Doctors, Traditional Chinese Medicine, Naturopathic/Holistic",
            "hours": None,
        },
        {
            "business_id": "XQfwVwDr-v0ZS3_CbbE5Xw",
            "name": "Turning Point",
            "city": "North Wales",
            "state": "PA",
            "attributes": None,
            "categories": None,
            "hours": {"Monday": "7:30-15:0"},
        },
    ]
    write_files(
        folder,
        {
            "yelp_academic_dataset_review.json": lines(review, other),
            "yelp_academic_dataset_business.json": lines(*businesses),
        },
    )


def test_yelp(tmp_path: Path) -> None:
    write_yelp(tmp_path)

    def microseconds(*parts: int) -> int:
        return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000

    user = "mh_-eMZ6K5RLWhZyISBhwA"
    assert events("yelp", tmp_path, "timestamp", "value") == [
        (user, "XQfwVwDr-v0ZS3_CbbE5Xw", "review", microseconds(2018, 7, 7, 22, 9, 11), 3.0),
        (user, "Pns2l4eNsfO8kk83dixA6A", "review", microseconds(2012, 1, 3, 15, 28, 18), 5.0),
    ]
    data = prepare_tables("yelp", tmp_path)
    cities = {"Pns2l4eNsfO8kk83dixA6A": "Santa Barbara", "XQfwVwDr-v0ZS3_CbbE5Xw": "North Wales"}
    assert feature(data, "item", "city") == cities


def test_yelp_categories_are_split(tmp_path: Path) -> None:
    write_yelp(tmp_path)
    doctors = ["Doctors", "Traditional Chinese Medicine", "Naturopathic/Holistic"]
    found = feature(prepare_tables("yelp", tmp_path), "item", "categories")
    assert found == {"Pns2l4eNsfO8kk83dixA6A": doctors, "XQfwVwDr-v0ZS3_CbbE5Xw": []}


def test_completejourney(tmp_path: Path) -> None:
    def time(*parts: int) -> datetime:
        return datetime(2017, *parts)

    baskets = [time(1, 1, 11, 53, 26), time(1, 8, 12, 10, 28), time(2, 1, 9, 0, 0)]
    stamps = [baskets[0], baskets[0], baskets[1], baskets[2], baskets[2]]
    transactions = {
        "household_id": pa.array([900] * 5),
        "store_id": pa.array([330, 330, 406, 330, 330]),
        "basket_id": pa.array([31198570044, 31198570044, 31198570047, 31198570050, 31198570050]),
        "product_id": pa.array([1095275, 9878513, 1041453, 1095275, 1020156]),
        "quantity": pa.array([1, 2, 1, 0, 1]),
        "sales_value": pa.array([0.5, 0.99, 1.43, 0.0, 1.5]),
        "retail_disc": pa.array([0.0, 0.1, 0.15, 0.0, 0.29]),
        "coupon_disc": pa.array([0.0, 0.0, 1.0, 0.0, 0.1]),
        "coupon_match_disc": pa.array([0.0] * 5),
        "week": pa.array([1, 1, 2, 5, 5]),
        "transaction_timestamp": pa.array(stamps, pa.timestamp("ns")),
    }
    products = {
        "product_id": pa.array([1095275, 9878513, 1041453, 1020156, 25671]),
        "manufacturer_id": pa.array([2, 69, 2, 2, 2]),
        "department": pa.array(["GROCERY", "PASTRY", "GROCERY", "DELI", "GROCERY"]),
        "brand": pa.array(["National", "Private", "National", "National", "National"]),
        "product_category": pa.array(["FRZN ICE", "BREAD", "FRZN ICE", None, "FRZN ICE"]),
        "product_type": pa.array(["ICE - CRUSHED/CUBED", None, None, None, None]),
        "package_size": pa.array(["22 LB", None, None, None, None]),
    }
    names = ("age", "income", "home_ownership", "marital_status", "household_size")
    names += ("household_comp", "kids_count")
    values = ("65+", "35-49K", None, "Married", "2", "2 Adults No Kids", "0")
    demographics = {"household_id": pa.array([900, 1])} | {
        name: pa.array([value, value]) for name, value in zip(names, values, strict=True)
    }
    write_files(
        tmp_path,
        {
            "transactions.parquet": transactions,
            "products.parquet": products,
            "demographics.parquet": demographics,
        },
    )
    seconds = [int(stamp.replace(tzinfo=UTC).timestamp()) for stamp in stamps]
    assert events("completejourney", tmp_path, "timestamp", "store") == [
        (900, 1095275, "regular", seconds[0], "330"),
        (900, 9878513, "promotion", seconds[1], "330"),
        (900, 1041453, "promotion", seconds[2], "406"),
        (900, 1095275, "regular", seconds[3], "330"),
        (900, 1020156, "promotion", seconds[4], "330"),
    ]
    spec, _ = load_spec("completejourney", input_folder=tmp_path)
    data = prepare_tables(
        spec.model_copy(update={"min_coverage": 0}), tmp_path
    )  # nobody has a home_ownership
    [row] = data.sequences.to_pylist()
    assert (row["train_end"], row["valid_end"]) == (2, 3)
    assert row["quantity"] == pytest.approx([math.log1p(n) for n in (1, 2, 1, 0, 1)], rel=1e-6)
    assert row["sales_value"][1] == pytest.approx(math.log1p(0.99), rel=1e-6)
    none, some = row["coupon"][0], row["coupon"][2]
    assert none != some
    assert row["coupon"] == [none, none, some, none, some]
    categories = {1095275: "FRZN ICE", 9878513: "BREAD", 1041453: "FRZN ICE", 1020156: None}
    assert feature(data, "item", "product_category") == categories
    assert feature(data, "item", "manufacturer")[9878513] == "69"
    assert feature(data, "user", "age") == {900: "65+"}
    assert feature(data, "user", "home_ownership") == {900: None}


def test_yambda(tmp_path: Path) -> None:
    kinds = ["listen", "listen", "like", "unlike", "listen", "dislike", "undislike"]
    log = {
        "uid": pa.array([100] * 7, pa.uint32()),
        "timestamp": pa.array([0, 39420, 39420, 39425, 25827200, 25913600, 25913605], pa.uint32()),
        "item_id": pa.array([8326270, 1441281, 1441281, 1441281, 286361, 286361, 286361], pa.uint32()),
        "is_organic": pa.array([0, 1, 1, 1, 0, 0, 0], pa.uint8()),
        "played_ratio_pct": pa.array([100, 159, None, None, 4, None, None], pa.uint16()),
        "track_length_seconds": pa.array([170, 105, None, None, 185, None, None], pa.uint32()),
        "event_type": pa.array(kinds).dictionary_encode(),
    }
    files = {
        "multi_event.parquet": log,
        "artist_item_mapping.parquet": {
            "artist_id": pa.array([7, 8, 9], pa.uint32()),
            "item_id": pa.array([1441281, 1441281, 286361], pa.uint32()),
        },
        "album_item_mapping.parquet": {
            "album_id": pa.array([70, 80], pa.uint32()),
            "item_id": pa.array([8326270, 286361], pa.uint32()),
        },
    }
    write_files(tmp_path, files)
    found = events("yambda", tmp_path, "timestamp", "value", "is_organic")
    assert [row[2] for row in found] == kinds
    assert found[1] == (100, 1441281, "listen", 39420, 159.0, "1")
    assert found[2] == (100, 1441281, "like", 39420, None, "1")
    data = prepare_tables("yambda", tmp_path)
    assert feature(data, "item", "artist") == {8326270: None, 1441281: "7", 286361: "9"}
    assert feature(data, "item", "album") == {8326270: "70", 1441281: None, 286361: "80"}
    [row] = data.sequences.to_pylist()
    assert (row["train_end"], row["valid_end"]) == (4, 5)
    assert row["track_length_seconds"][0] == pytest.approx(math.log1p(170), rel=1e-6)


@real
def test_real_taobao_split_for_ranking() -> None:
    prepared = prepare_tables("taobao-temporal", f"{DATA}/taobao")
    lengths = pc.list_value_length(prepared.sequences.column("item")).to_numpy()
    ends = [prepared.sequences.column(column).to_numpy() for column in ("train_end", "valid_end")]
    assert [int(end.sum()) for end in (*ends, lengths)] == [285_929, 321_670, 357_412]


@real
@pytest.mark.parametrize(
    ("name", "users", "items", "parts"),
    [
        ("ml-1m-temporal", 6_040, 3_706, (800_164, 100_024, 100_021)),
        # ReChorus 2.0: 994,338 ratings; the days of its cuts, in UTC.
        ("ml-1m-days", 6_034, 3_125, (983_644, 5_378, 5_316)),
        # RecBole: 739,012 ratings; a tenth of them are 73,901.
        ("ml-1m-random", 6_040, 3_668, (591_084, 73_983, 73_945)),
    ],
)
def test_real_films_split_for_ranking(name: str, users: int, items: int, parts: tuple[int, int, int]) -> None:
    prepared = prepare_tables(name, f"{DATA}/ml-1m")
    counts, rows = prepared.counts, prepared.sequences
    assert (counts.users, counts.items, counts.events) == (users, items, sum(parts))
    ends = [rows.column(column).to_numpy() for column in ("train_end", "valid_end")]
    lengths = pc.list_value_length(rows.column("item")).to_numpy()
    cuts = [int(end.sum()) for end in (*ends, lengths)]
    assert (cuts[0], cuts[1] - cuts[0], cuts[2] - cuts[1]) == parts
