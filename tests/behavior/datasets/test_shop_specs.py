"""The ready specs of shops, on a few rows in the published form."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from behavior.flow.memory import prepare_tables
from behavior.spec.dataset_spec import load_spec
from tests.behavior.datasets.published import at, events, feature, read, write_files


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
