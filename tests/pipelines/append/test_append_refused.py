"""What `prepare --append` does not add to, and leaves as it was; what `--full` takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from pipelines.append import append
from pipelines.prepare import prepare
from tests.behavior.shards.test_damage import enter
from tests.pipelines.append.append_logs import (
    SPEC,
    change_manifest,
    files_of,
    spec_of,
    write_events,
)
from tests.pipelines.content import content

pytestmark = pytest.mark.usefixtures("one_thread")
# Under any of them, a new event may change rows that are there.
AGAINST: list[tuple[str, dict[str, Any]]] = [
    ("k_core", {"filters": {"k_core": 2}}),
    ("filters.repeats", {"filters": {"repeats": True}}),
    ("max_events", {"max_events": 9}),
    ("vocabulary.max_size", {"vocabulary": {"max_size": 5}}),
    ("vocabulary.min_count", {"vocabulary": {"min_count": 2}}),
    ("fit_on: train", {"vocabulary": {"fit_on": "train"}}),
    (
        "feature 'brand' of items",
        {"items": {"files": "items.csv", "id": "item", "features": [{"name": "brand", "max_size": 3}]}},
    ),
    (
        "feature 'price' of events: transform: standardize",
        {"events": {**SPEC["events"], "features": [{"name": "price", "kind": "numeric"}]}},
    ),
]


@pytest.mark.parametrize(("reason", "changes"), AGAINST, ids=[reason for reason, _ in AGAINST])
def test_specs_under_which_old_rows_change_are_refused(
    reason: str, changes: dict, logs: Path, out: Path
) -> None:
    """Before anything of the data set is looked at but its manifest."""
    spec = spec_of(**changes)
    change_manifest(out, spec_digest=spec.digest())
    before = files_of(out)
    with pytest.raises(UserError) as error:
        append(spec, str(logs), out, [str(logs / "new-1.csv")])
    assert reason in error.value.what
    assert "--full" in str(error.value.fix)
    assert files_of(out) == before


def test_a_spec_that_names_more_files_is_told_how_to_add_them(logs: Path, out: Path) -> None:
    more = SPEC["events"] | {"files": ["old-*.csv", "new-1.csv"]}
    wider, before = spec_of(events=more), files_of(out)
    with pytest.raises(UserError, match=r"(?s)of other input files.*leave 'files'.*--append FILES"):
        prepare(wider, str(logs), out)
    with pytest.raises(UserError, match=r"(?s)made by this spec with other 'files'.*leave 'files'"):
        append(wider, str(logs), out, [str(logs / "new-1.csv")])
    with pytest.raises(UserError, match="made by another spec"):
        append(spec_of(events=more, shards=6), str(logs), out, [str(logs / "new-1.csv")])
    assert files_of(out) == before


@pytest.mark.parametrize("without", [["fit_on: train"], ["k_core", "vocabulary.min_count"]], ids=str)
def test_full_takes_specs_under_which_old_rows_change(without: list[str], logs: Path, tmp_path: Path) -> None:
    """All changes at once that go together."""
    merged: dict[str, Any] = {}
    for reason, changes in AGAINST:
        for key, value in changes.items() if reason not in without else ():
            merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    merged["vocabulary"]["max_size"], merged["max_events"] = 30, 30
    out, fresh, spec = tmp_path / "old", tmp_path / "fresh", spec_of(**merged)
    prepare(spec, str(logs), out)
    append(spec, str(logs), out, [str(logs / "new-1.csv")], full=True)
    with pytest.raises(UserError, match="1 file that neither its spec nor --append names") as error:
        append(spec, str(logs), out, [str(logs / "new-2.csv")], full=True)
    assert "--append 'new-1.csv'" in str(error.value.fix)
    append(spec, str(logs), out, [str(logs / "new-?.csv")], full=True)
    names = ["old-1.csv", "old-2.csv", "new-1.csv", "new-2.csv"]
    prepare(spec_of(**merged | {"events": {**merged["events"], "files": names}}), str(logs), fresh)
    assert content(out) == content(fresh)
    assert open_shards(out).manifest.counts.events > 500
    assert [entry.counts.read for entry in open_shards(out).manifest.history] == [201, 41]


def without_times(table: pa.Table) -> pa.Table:
    return table.drop_columns(["timestamp"])


def of_half_the_events(table: pa.Table) -> pa.Table:
    return table.slice(0, table.num_rows // 2)


@pytest.mark.parametrize("edit", [without_times, of_half_the_events])
def test_nothing_is_added_to_damaged_sequences(
    edit: Callable[[pa.Table], pa.Table], logs: Path, out: Path
) -> None:
    for path in sorted((out / "sequences").iterdir()):
        pq.write_table(edit(pq.read_table(path, partitioning=None)), path)
        enter(out, f"sequences/{path.name}")
    before = files_of(out)
    with pytest.raises(
        UserError, match=r"no column 'timestamp'|the sequences are damaged: the manifest says"
    ):
        append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert files_of(out) == before


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"event_features": []}, "the event features are damaged: the manifest names none, the spec band, "),
        ({"split": {}}, "split: its kind"),
    ],
)
def test_nothing_is_added_where_manifest_and_spec_differ(
    changes: dict[str, Any], what: str, logs: Path, out: Path
) -> None:
    change_manifest(out, **changes)
    before = files_of(out)
    with pytest.raises(UserError, match=what):
        append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert files_of(out) == before


def test_nothing_is_added_to_statistics_that_are_none(logs: Path, out: Path) -> None:
    (out / "buckets.json").write_text("[1]")
    enter(out, "buckets.json")
    before = files_of(out)
    with pytest.raises(UserError, match="the statistics are damaged: "):
        append(spec_of(), str(logs), out, [str(logs / "new-1.csv")])
    assert files_of(out) == before


@pytest.mark.parametrize("listed", [True, False])
def test_a_manifest_alone_names_no_file_to_open(
    listed: bool, logs: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the list of inputs, nor in the history that earlier versions kept instead."""
    secret = tmp_path / "secret.csv"
    write_events(secret, seed=7, users=4, items=6, events=20)
    record = json.loads((out / "manifest.json").read_text())
    if listed:
        size, modified = secret.stat().st_size, str(secret.stat().st_mtime)
        entry = {"group": 1, "path": str(secret), "size": size, "modified": modified}
        change_manifest(out, inputs=[*record["inputs"], entry])
    else:
        entry = {"version": 2, "input_digest": "", "counts": record["counts"], "files": [f"1={secret}"]}
        change_manifest(out, inputs=[], history=[entry])
    before = files_of(out)
    opened: list[str] = []
    monkeypatch.setattr("behavior.sources.plan.look_at_text", lambda _, __, path: opened.append(path))
    with pytest.raises(UserError, match="neither its spec nor --append names") as error:
        append(spec_of(), str(logs), out, [str(logs / "new-1.csv")], full=True)
    assert error.value.where == str(secret)
    assert not opened
    assert files_of(out) == before


@pytest.mark.parametrize("files", [[""], ["1="], []])
def test_an_empty_path_is_refused(files: list[str], logs: Path, out: Path) -> None:
    with pytest.raises(UserError, match=r"the path is empty|no file is named") as error:
        append(spec_of(), str(logs), out, files)
    assert error.value.where == "--append"
