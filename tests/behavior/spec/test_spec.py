from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from behavior import datasets
from behavior.config import apply_overrides, parse_config
from behavior.errors import UserError
from behavior.spec.dataset_spec import DatasetSpec, SplitSpec, load_spec
from tests.behavior.logs import make_spec, untimed_spec

WHOLE: dict[str, Any] = yaml.safe_load("""
name: all
events:
  - {files: a.csv, columns: {user: u, item: i, timestamp: t, value: v}, domain: x,
     behavior: {rules: [{when: "value >= 4", name: like}], otherwise: see}}
timestamp_unit: s
domains: [x]
items: {files: i.csv, id: i, features: [{name: f}]}
users: {files: u.csv, id: u, features: [{name: g, kind: numeric}]}
split: {kind: leave_one_out}
vocabulary: {oov: 2}
packing: {tokens: 100, max_length: 10}
filters: {k_core: 2}
id_types: {user: integer}
""")


@pytest.mark.parametrize(
    ("setting", "close"),
    [
        ("timestamp_units=s", "timestamp_unit"),
        ("split.kinds=x", "kind"),
        ("vocabulary.oovs=1", "oov"),
        ("packing.token=1", "tokens"),
        ("filters.kcore=1", "k_core"),
        ("id_types.usr=1", "user"),
        ("items.feature=1", "features"),
        ("users.seperator=x", "separator"),
    ],
)
def test_a_misspelt_key_names_the_nearest(setting: str, close: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{close}'"):
        parse_config(DatasetSpec, apply_overrides(WHOLE, [setting]), where="f")


@pytest.mark.parametrize(
    ("path", "key", "close"),
    [
        (("events", 0), "colums", "columns"),
        (("events", 0, "columns"), "usr", "user"),
        (("events", 0, "behavior"), "rule", "rules"),
        (("events", 0, "behavior", "rules", 0), "wen", "when"),
        (("items", 0, "features", 0), "kid", "kind"),
    ],
)
def test_a_misspelt_key_within_lists_names_the_nearest(path: tuple, key: str, close: str) -> None:
    data = yaml.safe_load(yaml.safe_dump(WHOLE))
    data["items"] = [data["items"]]
    inner = data
    for step in path:
        inner = inner[step]
    inner[key] = "x"
    with pytest.raises(UserError) as error:
        parse_config(DatasetSpec, data, where="f")
    assert error.value.what == f"unknown key '{'.'.join(map(str, (*path, key)))}'"
    assert error.value.fix == f"did you mean '{close}'?"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"events": []}, "events is empty"),
        ({"targets": ["liek"]}, "behavior 'liek' is not in behaviors; did you mean 'like'"),
        ({"behaviors": ["see"]}, "behavior 'like' is not in behaviors"),
        ({"behaviors": ["see", "like", "see"]}, "behaviors: a name stands there twice"),
        ({"behaviors": ["see", "like", *(f"b{n}" for n in range(126))]}, "behaviors: at most 127, not 128"),
        ({"domains": [f"d{n}" for n in range(128)]}, "domains: at most 127, not 128"),
        ({"filters": {"behaviors": ["buy"]}}, "behavior 'buy' is not in behaviors"),
        ({"domains": ["y"]}, "domain 'x' is not in domains"),
        ({"timestamp_unit": "none"}, "columns.timestamp is set, but timestamp_unit is none"),
        ({"split": {"kind": "temporal"}}, "needs valid_at and test_at"),
        (
            {"split": {"kind": "temporal", "valid_at": 9, "test_at": 5}},
            "valid_at is later than split.test_at",
        ),
        ({"split": {"kind": "temporal", "valid_at": "soon", "test_at": 5}}, "'soon' is neither a number nor"),
        ({"split": {"valid_at": 5}}, "valid_at and test_at are for kind: temporal"),
        ({"packing": {"tokens": 5, "max_length": 6}}, "tokens is smaller than max_length"),
        ({"vocabulary": {"fit_on": "train"}}, "fit_on: train does not go with minimum counts"),
        ({"name": "a/b"}, "name"),
        ({"max_rejects": 1.5}, "max_rejects"),
    ],
)
def test_specs_that_contradict_themselves(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(DatasetSpec, {**WHOLE, **changes}, where="f")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"files": []}, "files is empty"),
        ({"encoding": "utf-16"}, "does not write a line feed as one byte"),
        ({"encoding": "klingon"}, "there is no text encoding 'klingon'"),
        ({"header": False}, "need 'names'"),
        ({"names": ["a"]}, "set header: false"),
        ({"header": False, "names": ["user", "item", "item"]}, "names: a column stands there twice"),
        ({"separator": ""}, "at least one character"),
        ({"separator": "\r"}, "no line feed"),
        ({"quote": "''"}, "quote must be one ASCII character"),
        ({"quote": "“"}, "quote must be one ASCII character"),
        ({"quote": ";", "separator": ";"}, "quote and separator must differ"),
        ({"columns": {"user": "user"}}, "columns.user and columns.item are needed"),
        ({"format": "json_map"}, "json_map is a format of tables"),
        ({"format": "sequences"}, "leave 'columns' out"),
        ({"behavior": {}}, "exactly one of constant, column or rules"),
        ({"behavior": {"constant": "a", "column": "b"}}, "exactly one of constant, column or rules"),
        ({"behavior": {"constant": "a", "map": {"x": "y"}}}, "'map' needs 'column'"),
        ({"behavior": {"constant": "a", "otherwise": "b"}}, "'otherwise' needs 'rules'"),
        ({"behavior": {"rules": [{"when": "value >= 4", "name": "a"}]}}, "rules need columns.value"),
        ({"behavior": {"rules": [{"when": "stars >= 4", "name": "a"}]}}, "is not a rule; write for example"),
        ({"behavior": {"column": "b"}}, "list them in 'behaviors'"),
        (
            {"domain": "x", "columns": {"user": "u", "item": "i", "domain": "d"}},
            "either domain or columns.domain",
        ),
    ],
)
def test_event_files_that_cannot_be(source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        untimed_spec(source)


def test_a_feature_cannot_take_a_name_of_ours() -> None:
    for name in ("index", "id", "count", "train_count", "a b", "user.x", ""):
        with pytest.raises(UserError, match="cannot name a feature"):
            make_spec(items={"files": "i.csv", "id": "i", "features": [{"name": name}]})


def test_defaults_go_by_the_file_name() -> None:
    kinds = {
        "a.csv": "csv",
        "a.tsv.gz": "csv",
        "a.json": "jsonl",
        "a.NDJSON.zst": "jsonl",
        "a.parquet": "parquet",
    }
    separators = {"a.csv": ",", "a.tsv.gz": "\t"}
    for name, kind in kinds.items():
        [source] = make_spec({"files": name}).events
        assert source.kind == kind
        assert source.field_separator == separators.get(name, ",")


def test_behaviors_and_targets() -> None:
    rules = [{"when": "value > 3", "name": "like"}, {"when": "value > 1", "name": "see"}]
    columns = {"user": "user", "item": "item", "value": "stars"}
    spec = untimed_spec({"columns": columns, "behavior": {"rules": rules, "otherwise": "hate"}})
    assert spec.behavior_names == spec.target_names == ["like", "see", "hate"]
    spec = untimed_spec(
        {"behavior": {"column": "b"}}, behaviors=["fav", "cart", "buy"], targets=["buy", "fav"]
    )
    assert (spec.target_names, spec.target_ids) == (["buy", "fav"], [3, 1])
    spec = untimed_spec(
        {"behavior": {"column": "b"}}, behaviors=["fav", "buy"], filters={"behaviors": ["buy"]}
    )
    assert spec.target_ids == [2]


@pytest.mark.parametrize(("unit", "ticks"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_instants(unit: str, ticks: int) -> None:
    split = SplitSpec(kind="temporal", valid_at="2000-12-31T22:12:40", test_at="2001-01-01T00:12:41+02:00")
    assert split.instants(unit) == (978300760 * ticks, 978300761 * ticks)
    assert SplitSpec(kind="temporal", valid_at=7, test_at=8).instants(unit) == (7, 8)
    moment = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(microseconds=1)
    assert SplitSpec(kind="temporal", valid_at=moment, test_at=moment).instants("us")[0] % 1_000_000 == 1


def test_dates_of_yaml_are_instants(tmp_path: Path) -> None:
    data = {**WHOLE, "split": {"kind": "temporal", "valid_at": "V", "test_at": "T"}}
    text = yaml.safe_dump(data).replace(": V", ": 2000-12-01").replace(": T", ": 2000-12-01 12:00:00")
    (tmp_path / "spec.yaml").write_text(text)
    spec, base = load_spec(tmp_path / "spec.yaml")
    assert spec.split.instants("s") == (975628800, 975628800 + 43200)
    assert base == str(tmp_path)


def test_the_digest_is_that_of_the_meaning() -> None:
    assert make_spec().digest() == make_spec({"behavior": {"constant": "interact"}}).digest()
    assert make_spec().digest() != make_spec(max_events=5).digest()


def test_ready_specs_load_and_need_a_folder(tmp_path: Path) -> None:
    assert {"ml-1m", "taobao"} <= set(datasets.names())
    for name in datasets.names():
        assert load_spec(name, input_folder=tmp_path)[0].name == name
        with pytest.raises(UserError, match="needs the folder") as error:
            load_spec(name)
        assert error.value.fix == "add --input DIR"
    with pytest.raises(UserError, match=r"(?s)neither a file nor a ready spec.*did you mean 'ml-1m'"):
        load_spec("ml1m", input_folder=tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        load_spec("ml-1m", input_folder=tmp_path / "none")
    with pytest.raises(UserError, match="there is no file"):
        load_spec("none.yaml")


def test_a_cut_between_two_ticks_counts_from_the_next_one() -> None:
    split = SplitSpec(kind="temporal", valid_at="1970-01-01T00:00:00.5", test_at="1970-01-01T00:00:01")
    assert split.instants("s") == (1, 1)
    assert split.instants("ms") == (500, 1000)


def test_filters_must_leave_the_targets() -> None:
    with pytest.raises(UserError, match="leaves out the target 'buy'"):
        make_spec(
            {"behavior": {"column": "action"}},
            behaviors=["view", "buy"],
            targets=["buy"],
            filters={"behaviors": ["view"]},
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "behavior: {column: b, map: {1: view}}",
            """'events.0.behavior.map': keys are text, and YAML reads 1 as a number
  where: f
  to do: write it in quotes: "1\"""",
        ),
        ("domain: no", "YAML reads this as false (yes, no, on and off are truth values too)"),
        ("domain: 2024-01-01", "YAML reads 2024-01-01 as a date"),
        (
            "behavior: {constant: 7}",
            """'events.0.behavior.constant': this is text, and YAML reads 7 as a number""",
        ),
        ("domain: Greece", "domain 'Greece' is not in domains; known: France, Spain"),
        ("domain: Frnce", "domain 'Frnce' is not in domains; did you mean 'France'?"),
    ],
)
def test_names_that_yaml_does_not_read_as_text_and_unknown_ones(text: str, message: str) -> None:
    data = yaml.safe_load(yaml.safe_dump(WHOLE)) | {"domains": ["France", "Spain"]}
    events = {"files": "a.csv", "columns": {"user": "u", "item": "i", "timestamp": "t"}}
    data["events"] = events | yaml.safe_load(text)
    with pytest.raises(UserError) as error:
        parse_config(DatasetSpec, data, where="f")
    assert message in str(error.value)
