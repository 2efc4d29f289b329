"""The job as a whole: against plain Python, in one process and several, killed, and with bad input."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.flow.memory import prepare_tables
from behavior.shards.folder import open_shards
from behavior.shards.lock import exclusive
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder
from behavior.spec.dataset_spec import load_spec
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines.conftest import BEHAVIORS, make_rows, make_spec, write_rows

Rows = list[tuple[str, str, str, int]]


def sequences_by_hand(rows: Rows) -> dict[str, Rows]:
    """Each user's rows by time, ties in the order of the log."""
    users: dict[str, Rows] = defaultdict(list)
    for row in rows:
        users[row[0]].append(row)
    return {user: sorted(own, key=lambda row: row[3]) for user, own in users.items()}


def contents(folder: Path) -> dict[str, str]:
    """Path -> checksum of every file in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read_back(folder: Path) -> dict[str, Rows]:
    """The sequences of a data set with raw ids, to be compared with `sequences_by_hand`."""
    shards = open_shards(folder)
    ids = dict(zip(*(shards.items().column(name).to_pylist() for name in ("index", "id")), strict=True))
    users: dict[str, Rows] = {}
    for table in shards.iter_sequences():
        for row in table.to_pylist():
            events = zip(row["item"], row["behavior"], row["timestamp"], strict=True)
            users[row["user"]] = [(row["user"], ids[i], BEHAVIORS[b - 1], t) for i, b, t in events]
    return users


def test_sequences_equal_those_made_by_hand(raw: Path, tmp_path: Path) -> None:
    result = prepare(make_spec(), str(raw), tmp_path / "out")
    assert read_back(tmp_path / "out") == sequences_by_hand(make_rows())
    counts = result.manifest.counts
    assert (counts.read, counts.accepted, counts.rejected, counts.filtered) == (1502, 1500, 2, 0)
    assert result.counters == {"read": 1502, "accepted": 1500, "rejected": 2, "filtered": 0}
    open_shards(tmp_path / "out").verify()
    assert not (tmp_path / "out" / JOB_FOLDER).exists()


def test_rejected_rows_name_file_line_and_reason(raw: Path, tmp_path: Path) -> None:
    prepare(make_spec(), str(raw), tmp_path / "out")
    parts = sorted((tmp_path / "out" / "rejected").glob("part-*.jsonl"))
    records = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    assert [(r["file"], r["line"], r["text"]) for r in records] == [
        ("part-1.csv", 12, "u1,i1,view"),
        ("part-2.csv.gz", 12, "u1,i1,view,soon"),
    ]
    assert "3 fields where 4 are expected" in records[0]["reason"]
    assert "'soon' is not a whole number" in records[1]["reason"]


def test_lines_of_rejects_are_right_when_a_file_is_read_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", 512)
    lines = [",".join(map(str, row)) for row in make_rows(events=400)]
    bad = {60: "no comma", 200: "u,i,view,late", 399: ",i1,view,5"}
    for place, text in bad.items():
        lines[place] = text
    (tmp_path / "part-1.csv").write_text("\n".join(["user,item,behavior,time", *lines]))
    prepare(make_spec(), str(tmp_path), tmp_path / "out")
    text = (tmp_path / "out" / "rejected" / "part-00000.jsonl").read_text()
    assert {r["line"]: r["text"] for r in map(json.loads, text.splitlines())} == {
        place + 2: content for place, content in bad.items()
    }


def test_counts_of_items_and_users(raw: Path, tmp_path: Path) -> None:
    prepare(make_spec(), str(raw), tmp_path / "out")
    shards = open_shards(tmp_path / "out")
    rows = make_rows()
    by_item = Counter(item for _, item, _, _ in rows)
    items = shards.items().to_pylist()
    assert {row["id"]: row["count"] for row in items} == by_item
    assert [row["id"] for row in items] == sorted(by_item, key=lambda item: (-by_item[item], item))
    trained: Counter[str] = Counter()
    for own in sequences_by_hand(rows).values():
        buys = [place for place, row in enumerate(own) if row[2] == "buy"]
        end = buys[-2] if len(own) >= 3 and len(buys) >= 2 else len(own)
        trained.update(row[1] for row in own[:end])
    assert {row["id"]: row["train_count"] for row in items if row["train_count"]} == trained
    assert {row["id"]: row["count"] for row in shards.users().to_pylist()} == Counter(row[0] for row in rows)


@pytest.mark.parametrize(
    "filters", [{}, {"min_item_events": 19, "min_user_events": 27}, {"behaviors": ["buy"]}]
)
def test_same_content_as_the_library(raw: Path, tmp_path: Path, filters: dict) -> None:
    spec = make_spec(filters=filters)
    manifest = prepare(spec, str(raw), tmp_path / "out").manifest
    library = prepare_tables(spec, raw)
    assert manifest.counts == library.counts
    shards = open_shards(tmp_path / "out")
    assert shards.items().equals(library.tables.items)
    assert shards.users().equals(library.tables.users)

    def by_user(rows: list[dict]) -> dict:
        return {row["user"]: {k: v for k, v in row.items() if k != "pack"} for row in rows}

    prepared = [row for table in shards.iter_sequences() for row in table.to_pylist()]
    assert by_user(prepared) == by_user(library.sequences.to_pylist())


@pytest.mark.slow
def test_one_process_and_several_give_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    prepare(make_spec(), str(raw), tmp_path / "one")
    result = prepare(make_spec(), str(raw), tmp_path / "two", runner=RunnerOptions(workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert result.counters == {"read": 1502, "accepted": 1500, "rejected": 2, "filtered": 0}


@pytest.mark.slow
def test_a_portable_runner_shuffles_through_the_engine(raw: Path, tmp_path: Path) -> None:
    options = RunnerOptions("PortableRunner", beam=["--job_endpoint=embed", "--environment_type=LOOPBACK"])
    prepare(make_spec(), str(raw), tmp_path / "one")
    prepare(make_spec(), str(raw), tmp_path / "two", runner=options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_order_of_files_does_not_matter_where_no_times_tie(tmp_path: Path) -> None:
    rows = [(user, item, behavior, 1000 + n) for n, (user, item, behavior, _) in enumerate(make_rows())]
    for name, part in (("a", rows[:700]), ("b", rows[700:])):
        write_rows(tmp_path / f"{name}.csv", part)
    orders = {"one": ["a.csv", "b.csv"], "two": ["b.csv", "a.csv"]}
    for out, files in orders.items():
        events = make_spec().events[0].model_dump(exclude_unset=True) | {"files": files}
        prepare(make_spec(events=events), str(tmp_path), tmp_path / out)
    found = [contents(tmp_path / out) for out in orders]
    assert found[0].pop("manifest.json") != found[1].pop("manifest.json")  # it names the files in order
    assert found[0] == found[1]


def test_filters_count_what_they_leave_out(raw: Path, tmp_path: Path) -> None:
    spec = make_spec(filters={"behaviors": ["buy", "cart"]}, max_events=5)
    counts = prepare(spec, str(raw), tmp_path / "out").manifest.counts
    kept = sequences_by_hand([row for row in make_rows() if row[2] != "view"])
    accepted = sum(min(len(own), 5) for own in kept.values())
    assert (counts.accepted, counts.rejected, counts.filtered) == (accepted, 2, 1500 - accepted)


def test_a_finished_folder_has_nothing_to_do(raw: Path, tmp_path: Path) -> None:
    prepare(make_spec(), str(raw), tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert prepare(make_spec(), str(raw), tmp_path / "out").done_before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_another_spec_or_input_needs_overwrite(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(make_spec(), str(raw), out)
    other = make_spec(shards=2)
    with pytest.raises(UserError, match="of another spec") as error:
        prepare(other, str(raw), out)
    assert "--overwrite" in str(error.value)
    prepare(other, str(raw), out, overwrite=True)
    assert len(open_shards(out).sequence_files()) == 2
    assert len(list((out / "sequences").iterdir())) == 2
    write_rows(raw / "part-4.csv", make_rows(seed=1))
    with pytest.raises(UserError, match=r"(?s)of other input files.*--append FILES"):
        prepare(other, str(raw), out)


def test_a_folder_with_something_else_is_left_alone(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"thesis\.tex"):
            prepare(make_spec(), str(raw), out, overwrite=overwrite)
    assert contents(out).keys() == {"thesis.tex"}


def test_a_job_that_fails_leaves_nothing_behind(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="max_rejects"):
        prepare(make_spec(max_rejects=0), str(raw), out)
    assert not out.exists()
    prepare(make_spec(), str(raw), out)
    with pytest.raises(UserError, match="no event is left"):
        prepare(make_spec(filters={"min_user_events": 10_000}), str(raw), out, overwrite=True)
    assert open_shards(out).manifest.counts.accepted == 1500  # the old data set is still whole


def test_a_log_where_every_row_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "part-1.csv").write_text("user,item,behavior,time\n" + "u,i,stare,1\n" * 5)
    with pytest.raises(UserError, match="every one of the 5 rows was rejected") as error:
        prepare(make_spec(max_rejects=1.0), str(tmp_path), tmp_path / "out")
    assert "line 2" in str(error.value)
    assert "stare" in str(error.value)


def test_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "part-1.csv").write_text("user,item,behavior,time\n")
    with pytest.raises(UserError, match="the log is empty"):
        prepare(make_spec(), str(tmp_path), tmp_path / "out")


def test_runners_are_known_or_refused() -> None:
    with pytest.raises(UserError, match="loses data in silence"):
        RunnerOptions("DaskRunner").check()
    with pytest.raises(UserError, match="did you mean 'FlinkRunner'"):
        RunnerOptions("FlinkRuner").check()


KILLED = """
import sys
from pathlib import Path
from behavior.spec.dataset_spec import load_spec
from behavior.shards.storage import Folder
from behavior.shards.lock import exclusive
from pipelines.prepare import prepare
import pipelines.local

def stall(*arguments):
    Path(sys.argv[3]).touch()
    import time
    time.sleep(600)

pipelines.local.{part} = stall
spec, base = load_spec(sys.argv[1])
prepare(spec, base, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("part", ["sort_and_count", "write_and_clear"])
def test_killed_half_way_it_is_no_data_set_and_is_completed_by_the_next_run(
    raw: Path, tmp_path: Path, part: str
) -> None:
    spec_file = raw / "spec.yaml"
    spec_file.write_text(make_spec().model_dump_json())  # JSON is YAML
    out, reached = tmp_path / "out", tmp_path / "reached"
    script = [sys.executable, "-c", KILLED.format(part=part), str(spec_file), str(out), str(reached)]
    process = subprocess.Popen(script, stderr=subprocess.PIPE, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not reached.exists():
            assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    with pytest.raises(UserError, match="is not a data set"):
        open_shards(out)
    spec, base = load_spec(spec_file)
    with pytest.raises(UserError, match="unfinished job of another spec"):
        prepare(make_spec(shards=1), base, out)
    prepare(spec, base, out)
    assert read_back(out) == sequences_by_hand(make_rows())


def test_one_job_at_a_time_in_a_folder(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with exclusive(Folder(str(out))), pytest.raises(UserError, match="another job is writing"):
        prepare(make_spec(), str(raw), out)
    assert not out.exists()  # nothing was written, so the lock leaves nothing
    prepare(make_spec(), str(raw), out)


def test_overwrite_replaces_data_sets_only(raw: Path, tmp_path: Path) -> None:
    """A user's own tables may have the names of ours."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("items.parquet", "manifest.json"):
        (out / name).write_text("{}")
    with pytest.raises(UserError, match=r"items\.parquet"):
        prepare(make_spec(), str(raw), out, overwrite=True)
    assert (out / "items.parquet").read_text() == "{}"


def test_an_option_that_beam_does_not_know_is_refused() -> None:
    RunnerOptions(beam=["--job_name=x"]).check()
    with pytest.raises(UserError, match="did you mean '--job_name'"):
        RunnerOptions(beam=["--job_nam=x"]).check()


def test_an_interrupt_is_told_from_a_failure(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("behavior.flow.reading.read_events", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(make_spec(), str(raw), tmp_path / "out")
    monkeypatch.undo()
    prepare(make_spec(), str(raw), tmp_path / "out")
    assert read_back(tmp_path / "out") == sequences_by_hand(make_rows())
