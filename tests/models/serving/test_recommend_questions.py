"""What can be asked with recommendations: candidates, times, columns; and what cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from behavior.errors import UserError
from models import load_model
from models.serving.export.similar import similar
from models.serving.load import TrainedModel
from models.serving.recommend.files import read_table
from tests.models.serving.asked_by_hand import log_of, rows_by_user
from tests.models.serving.recommend_world import genres_of, prepare, run_on


def test_candidates_features_and_exclusions(rich: TrainedModel) -> None:
    at = 1_000_400_000
    items = lambda **wanted: {  # noqa: E731
        row["item"]
        for row in rich.recommend(k=len(rich.item_ids), at=at, exclude_seen=False, **wanted)
        .table()
        .to_pylist()
    }
    known = set(rich.item_ids.to_pylist())
    having = {item for item in known if "Western" in genres_of(int(item[1:]))}
    assert items() == known
    assert items(where=["genres=Western"]) == having
    assert items(where=["genres=Western", "main=Western"]) == {i for i in known if int(i[1:]) % 3 == 2}
    assert items(candidates=["i1", "i2", "nobody"]) == {"i1", "i2"} & known
    assert items(exclude=["i1", "nobody"]) == known - {"i1"}


def test_seen_by_behaviors(rich: TrainedModel, data: Path) -> None:
    found = rows_by_user(rich.recommend(k=20, at=1_000_400_000, exclude_seen=["view"]).table())
    for user, own in log_of().items():
        assert not {row["item"] for row in found[user]} & {item for item, name, _ in own if name == "view"}
    told = rich.recommend(k=20, at=1_000_400_000)
    assert any("seen items" in note and "target events repeat" in note for note in told.notes)


def test_the_time_of_asking(rich: TrainedModel, plain: TrainedModel) -> None:
    """Now, and what that means for a log of 2001; never before the last event."""
    now = rich.recommend(k=1)
    assert any("(now)" in note for note in now.notes)
    assert any("days after the last event" in note for note in now.notes)
    early, latest = rich.recommend(k=3, at="1990-01-01"), rich.recommend(k=3, at=0)
    assert early.table() == latest.table()
    assert early.told.asked_later == 40
    assert any("before the first event of the data set, 2001-" in note for note in early.notes)
    assert not any("before the first event" in note for note in now.notes)
    assert not any("last event of the data set" in note for note in early.notes)
    with pytest.raises(UserError, match="not told when it is asked"):
        plain.recommend(at="2001-01-01")
    one = {"user": "a", "item": "i1", "behavior": "buy", "timestamp": 1_000_000_000}
    own = rich.recommend(histories=[one | {"at": 1_000_000_001}], k=1)
    assert any("(now)" in note for note in own.notes)
    own.table()
    assert own.told.asked_apart == own.told.users == 1
    assert not any("asked at" in note or "last event" in note for note in own.notes)
    some = rich.recommend(histories=[one | {"at": 1_000_000_001}, one | {"user": "b", "at": None}], k=1)
    some.table()
    assert (some.told.asked_apart, some.told.users) == (1, 2)
    assert any("(now)" in note for note in some.notes)
    with pytest.raises(UserError, match="'soon' is no time"):
        rich.recommend(at="soon")


def test_columns_of_items(rich: TrainedModel) -> None:
    titles = pa.table({"item": ["i1", "i0"], "title": ["One", "Zero"], "score": [9, 8]})
    asked = ["title", "genres", "main", "price", "count", "score"]
    table = rich.recommend(k=len(rich.item_ids), at=0, columns=asked, items=titles).table()
    scores = rich.recommend(k=len(rich.item_ids), at=0).table()["score"]
    assert table["score"] == scores
    for row in table.to_pylist()[:60]:
        number = int(row["item"][1:])
        assert row["title"] == {"i1": "One", "i0": "Zero"}.get(row["item"])
        assert sorted(row["genres"]) == genres_of(number)
        assert row["main"] == genres_of(number)[0] or row["main"] in genres_of(number)
        assert row["price"] == pytest.approx(number + 0.5, rel=1e-4)
        assert row["count"] > 0
        assert row["item_score"] == {"i1": 9, "i0": 8}.get(row["item"])  # beside the model's


def test_a_table_of_other_items_is_refused_and_missing_rows_are_told(rich: TrainedModel) -> None:
    few = pa.table({"item": ["i1", "i0"], "title": ["One", "Zero"]})
    others = pa.table({"item": ["1.0", "0.0"], "title": ["One", "Zero"]})
    items = len(rich.item_ids)
    found = rich.recommend(k=1, at=0, columns=["title"], items=few)
    assert f"{items - 2} of {items} items have no row in the table of items" in found.notes
    with pytest.raises(UserError, match=rf"none of the {items} items: .* of the table such as '1.0'"):
        rich.recommend(k=1, at=0, columns=["title"], items=others)
    for asked in ({"columns": ["main"]}, {}):  # which are not the table's
        notes = rich.recommend(k=1, at=0, items=others, **asked).notes
        assert not any("table of items" in note for note in notes)


def test_raw_columns_of_the_spec_s_item_tables(tmp_path: Path) -> None:
    """Titles that no feature has, with ids that are whole numbers, from the files that the spec names."""
    items = {"files": "items.csv", "id": "item", "features": [{"name": "genres"}]}
    made = prepare(tmp_path, items=items)
    lines = [f"i{item},Drama,Title {item}" for item in range(0, 30, 2)]
    (tmp_path / "raw" / "items.csv").write_text("\n".join(["item,genres,title", *lines, ""]))
    model = load_model(run_on(made, tmp_path / "run"), device="cpu")
    table = model.recommend(k=9, at=0, columns=["title", "genres"], items=tmp_path / "raw").table()
    for row in table.to_pylist():
        number = int(row["item"][1:])
        assert row["title"] == (f"Title {number}" if number % 2 == 0 else None)
    with pytest.raises(UserError, match="no column 'year'; the file has: item, genres, title") as caught:
        model.recommend(columns=["year"], items=tmp_path / "raw")
    assert caught.value.where == "--columns"


def test_a_table_whose_ids_are_called_as_in_the_spec(tmp_path: Path) -> None:
    """`item` comes first where both are there."""
    path = tmp_path / "items.csv"
    path.write_text("title,sku\nOne,i1\n")
    assert read_table(path, "--items", ["sku"]).to_pylist() == [{"title": "One", "item": "i1"}]
    path.write_text("sku,item\n7,i1\n")
    assert read_table(path, "--items", ["sku"]).to_pylist() == [{"sku": "7", "item": "i1"}]
    path.write_text("id,title\ni1,One\n")
    with pytest.raises(UserError, match="no column 'item' or 'sku', only id, title"):
        read_table(path, "--items", ["sku", "sku"])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"k": 0}, "0 items a user are asked for"),
    ({"k": 31}, "31 items a user are asked for, and the data set has"),
    ({"behavior": "byu"}, "no behavior 'byu'"),
    ({"domain": "books"}, "one domain only"),
    ({"candidates": ["nobody"]}, "none of the candidates"),
    ({"where": ["genre=Drama"]}, "items of the data set have no 'genre'"),
    ({"where": ["genres=Horror"]}, "no item has the genres 'Horror'"),
    ({"where": ["price=1.5"]}, "cannot be chosen by 'price'"),
    ({"where": ["genres"]}, "is no condition"),
    ({"where": ["main=Drama"], "exclude": [f"i{n}" for n in range(30)]}, "no item is left"),
    ({"columns": ["title"]}, "items of the data set have no 'title'"),
    ({"exclude_seen": ["cart"]}, "no behavior 'cart'"),
    ({"users": ["u1"], "histories": []}, "name one of them"),
]


@pytest.mark.parametrize(("wanted", "message"), BAD)
def test_what_cannot_be_asked(rich: TrainedModel, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        rich.recommend(**wanted)
    assert (caught.value.where == "--seen-by cart") == ("exclude_seen" in wanted)
    assert message in str(caught.value) or message in (caught.value.fix or "")


def test_a_model_that_is_not_told(plain: TrainedModel) -> None:
    with pytest.raises(UserError, match="not told which behavior is wanted"):
        plain.recommend(behavior="view")


@pytest.mark.parametrize("name", ["users", "candidates", "exclude", "where", "columns", "exclude_seen"])
def test_one_value_is_not_taken_for_its_letters(rich: TrainedModel, name: str) -> None:
    """Users "12" were the users 1 and 2."""
    for one in ("12", b"12", {"i1": 1}, *([] if name == "exclude_seen" else [12])):
        with pytest.raises(UserError, match="not a list") as caught:
            rich.recommend(**{name: one}, at=0)
        assert caught.value.where == name


def test_what_is_no_history_and_nobody(rich: TrainedModel) -> None:
    for histories in (5, {"user": "a"}):
        with pytest.raises(UserError, match=r"histories is .*, not a list"):
            rich.recommend(histories=histories, at=0).table()  # type: ignore[arg-type]
    for row in ("a", None, 5):
        with pytest.raises(UserError, match="is no row of a history"):
            rich.recommend(histories=[row], at=0).table()  # type: ignore[list-item]
    with pytest.raises(UserError, match="nobody is asked about"):
        rich.recommend([], at=0).table()


def test_half_of_a_surrogate_pair_is_no_id(rich: TrainedModel) -> None:
    half = "i\ud83d"
    row = {"user": "a", "item": half, "behavior": "buy", "timestamp": 1_000_000_000}
    for asked in ({"users": [half]}, {"candidates": ["i1", half]}, {"histories": [row]}):
        with pytest.raises(UserError, match="half of a surrogate pair"):
            rich.recommend(**asked, at=1_000_400_000).table()
    with pytest.raises(UserError, match="half of a surrogate pair"):
        similar(rich, half)


def test_ids_may_be_given_once(rich: TrainedModel) -> None:
    """By something that ends when it has been gone through."""
    listed = ["i1", "i2", "nobody"]
    expected = rich.recommend(k=2, candidates=listed, exclude=["i2"], at=0).table()
    found = rich.recommend(k=2, candidates=iter(listed), exclude=iter(["i2"]), at=0)
    assert found.table() == expected
    assert any("1 of 3 ids of 'candidates'" in note for note in found.notes)


def test_devices_and_checkpoints_have_few_names(rich: TrainedModel) -> None:
    for asked, what in (
        ({"device": "cuda:1"}, "no device 'cuda:1'"),
        ({"checkpoint": "bst"}, "no checkpoint"),
    ):
        with pytest.raises(UserError, match=what):
            load_model(rich.run, **asked)  # type: ignore[arg-type]
