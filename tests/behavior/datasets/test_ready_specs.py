"""The ready specs on the real files, where they are at hand."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from behavior import datasets
from behavior.config import parse_config, read_yaml
from behavior.flow.memory import prepare_tables
from behavior.spec.dataset_spec import DatasetSpec
from tests.behavior.datasets.published import DATA, feature, lines, real


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
