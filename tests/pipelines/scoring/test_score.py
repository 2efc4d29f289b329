"""Scoring jobs with a scorer that counts: what comes out, as which bytes, and what a job that dies leaves."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipelines.scoring.run
from behavior.errors import UserError
from behavior.printable import printable_json
from behavior.shards.owned import JOB_FOLDER
from pipelines.crashed import JobCrashError
from pipelines.runner import RunnerOptions
from pipelines.scoring.folder import read_manifest
from pipelines.scoring.run import DataSetIn, HistoriesIn, ScoreResult, score
from tests.pipelines.scoring.counting import COLUMNS, Stage

ONE = RunnerOptions(workers=1)
Events = list[tuple[str, Any, Any]]


def write_csv(path: Path, events: Events) -> None:
    text = "".join(",".join(map(str, row)) + "\n" for row in [("user", "item", "timestamp"), *events])
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Events]:
    """A folder with three files, in which users come again, and all of their events in order."""
    folder = tmp_path / "in"
    (folder / "day=2").mkdir(parents=True)
    events = [(f"u{n % 23}", 1 + n * n % 37, 1000 + n) for n in range(300)] + [("none", "", "")]
    write_csv(folder / "a.csv", events[:90])
    write_csv(folder / "b.csv.gz", events[90:140])
    rows = [{"user": u, "item": i or None, "timestamp": t or None} for u, i, t in events[140:]]
    pq.write_table(pa.Table.from_pylist(rows), folder / "day=2" / "c.parquet", row_group_size=50)
    (folder / "_SUCCESS").write_text("no file of histories")
    (folder / ".hidden.csv").write_text("nor this")
    return folder, events


def run(folder: Path | str, out: Path, parts: int = 3, limit: int | float = 0, **options: Any) -> ScoreResult:
    given = HistoriesIn(str(folder), COLUMNS, limit, parts)
    return score(given, out, options.pop("stage", Stage()), {"by": "counting"}, **{"runner": ONE, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def rows_of(out: Path) -> list[dict[str, Any]]:
    paths = sorted((out / "recommendations").iterdir())
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def expected(events: Events) -> dict[str, tuple[int, int, int]]:
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for user, item, time in events:
        if item:
            found[user].append((item, time))
    return {user: (sum(i for i, _ in own), len(own), own[-1][1]) for user, own in found.items()}


def test_every_user_is_counted_once_by_any_number_of_workers(
    files: tuple[Path, Events], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small chunks and spills: users are put together from many pieces, in the order of the files."""
    monkeypatch.setattr(pipelines.scoring.run, "CHUNK_BYTES", 300)
    monkeypatch.setattr("pipelines.scoring.pieces.SPILL_BYTES", 400)
    monkeypatch.setattr("pipelines.scoring.users.WINDOW_USERS", 5)
    folder, events = files
    seen: list[tuple[str, int, int]] = []
    result = run(folder, tmp_path / "one", progress=lambda *told: seen.append(told))
    two = run(folder, tmp_path / "two", runner=RunnerOptions(workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert two.manifest == result.manifest == json.loads((tmp_path / "one" / "manifest.json").read_text())
    rows = rows_of(tmp_path / "one")
    assert {row["user"]: (row["sum"], row["events"], row["last"]) for row in rows} == expected(events)
    assert len(rows) == 23
    assert result.manifest["rows"] == {"read": 301, "accepted": 301, "rejected": 0, "written": 23}
    assert result.manifest["users"] == {"in": 24, "answered": 23, "empty": 1, "rejected": 0}
    assert result.manifest["counts"] == {"odd": sum(one[0] % 2 for one in expected(events).values())}
    assert len(result.manifest["files"]) == 3
    assert result.counters == {"read": 301, "rejected": 0, "users": 24, "answered": 23, "empty": 1}
    assert seen[-1][1] == seen[-1][2] == 3
    assert not (tmp_path / "one" / JOB_FOLDER).exists()


def test_within_a_part_users_come_in_order_of_their_first_rows(
    files: tuple[Path, Events], tmp_path: Path
) -> None:
    folder, events = files
    run(folder, tmp_path / "out", parts=1)
    assert [row["user"] for row in rows_of(tmp_path / "out")] == list(expected(events))


def test_rows_with_lists_are_users_of_their_own(tmp_path: Path) -> None:
    """Also where the same name comes again; integers of Parquet stay integers."""
    rows = [
        {"user": 7, "item": [1, 2], "timestamp": [5, 6]},
        {"user": 8, "item": [], "timestamp": []},
        {"user": 7, "item": [4], "timestamp": [9]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(tmp_path / "in.parquet", tmp_path / "out", parts=1)
    run(tmp_path / "in.jsonl", tmp_path / "text", parts=1)
    users = [(row["user"], row["sum"], row["last"]) for row in rows_of(tmp_path / "out")]
    assert users == [(7, 3, 6), (7, 4, 9)]
    assert found.manifest["users"] == {"in": 3, "answered": 2, "empty": 1, "rejected": 0}
    assert [row | {"user": int(row["user"])} for row in rows_of(tmp_path / "text")] == rows_of(
        tmp_path / "out"
    )


def test_bad_rows_are_set_aside_with_file_line_reason_and_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are those of the file, in however many chunks it was read."""
    monkeypatch.setattr(pipelines.scoring.run, "CHUNK_BYTES", 100)
    events = [(f"u{n % 9}", 1 + n % 9, 1000 + n) for n in range(80)]
    lines = ["user,item,timestamp", *(",".join(map(str, event)) for event in events)]
    bad = {
        11: ("u1,500,3", "item 500 is no item"),
        31: ("only,700,3", "item 700 is no item"),
        40: ("u1,2", "2 fields where 3 are expected"),
        71: (",2,3", "a row has no user"),
    }
    for line, (text, _) in bad.items():
        lines.insert(line - 1, text)
    (tmp_path / "in.csv").write_text("\n".join([*lines, ""]))
    found = run(tmp_path / "in.csv", tmp_path / "out", limit=0.05)
    [rejects] = (tmp_path / "out" / "rejected").iterdir()
    records = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(one["line"], one["text"]) for one in records] == [(n, text) for n, (text, _) in bad.items()]
    for record, (_, reason) in zip(records, bad.values(), strict=True):
        assert reason in record["reason"]
        assert record["file"] == str(tmp_path / "in.csv")
    assert found.manifest["rows"] == {"read": 84, "accepted": 80, "rejected": 4, "written": 9}
    # `only` has no other row; u1 has, and an answer from those.
    assert found.manifest["users"] == {"in": 10, "answered": 9, "empty": 0, "rejected": 1}
    assert {row["user"]: row["events"] for row in rows_of(tmp_path / "out")} == {
        user: one[1] for user, one in expected(events).items()
    }
    with pytest.raises(UserError, match=r"^item 500 is no item") as error:
        run(tmp_path / "in.csv", tmp_path / "none")
    assert str(error.value.where).endswith("in.csv line 11")
    assert error.value.fix == "take another"
    with pytest.raises(UserError, match=r"4 of 84 rows were rejected, more than --max-rejects 3 allows"):
        run(tmp_path / "in.csv", tmp_path / "none", limit=3)
    assert not (tmp_path / "none").exists()


def test_a_damaged_file(files: tuple[Path, Events], tmp_path: Path) -> None:
    folder, _ = files
    cut = (folder / "b.csv.gz").read_bytes()[:-60]
    (folder / "b.csv.gz").write_bytes(cut)
    with pytest.raises(UserError, match="it cannot be read as csv: the file is cut off or damaged here"):
        run(folder, tmp_path / "out")
    found = run(folder, tmp_path / "out", limit=5)
    assert found.manifest["rows"]["rejected"] == 1
    (folder / "day=2" / "c.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match="it cannot be read as parquet"):
        run(folder, tmp_path / "other")


@pytest.mark.parametrize("whole", [False, True])
def test_killed_and_run_again(files: tuple[Path, Events], tmp_path: Path, whole: bool) -> None:
    """A worker process dies, or the whole job: nothing is finished, and the next run gives the same bytes."""
    folder, _ = files
    run(folder, tmp_path / "calm")
    out, stage = tmp_path / "out", Stage(tmp_path / "died")
    if whole:
        code = (
            "import sys\nfrom pathlib import Path\n"
            "from tests.pipelines.scoring.test_score import Stage, run\n"
            "run(Path(sys.argv[1]), Path(sys.argv[2]), stage=Stage(Path(sys.argv[3])))"
        )
        command = [sys.executable, "-c", code, str(folder), str(out), str(tmp_path / "died")]
        root = Path(__file__).parents[3]
        assert subprocess.run(command, cwd=root, timeout=120, check=False).returncode == -9
    else:
        with pytest.raises(JobCrashError, match="a worker process died"):
            run(folder, out, stage=stage, runner=RunnerOptions(workers=2))
    with pytest.raises(UserError, match="no finished recommendations"):
        read_manifest(out)
    assert (out / JOB_FOLDER).is_dir()
    run(folder, out, stage=stage)
    assert contents(out) == contents(tmp_path / "calm")


def test_what_a_folder_may_hold(files: tuple[Path, Events], tmp_path: Path) -> None:
    folder, _ = files
    out = tmp_path / "out"
    run(folder, out)
    (out / "note.txt").write_text("mine")
    before = contents(out)
    assert run(folder, out).done_before
    with pytest.raises(UserError, match="holds recommendations of another"):
        run(folder, out, parts=2)
    assert contents(out) == before
    run(folder, out, parts=2, overwrite=True)
    assert (out / "note.txt").read_text() == "mine"
    assert len(list((out / "recommendations").iterdir())) == 2
    with pytest.raises(UserError, match="this input file lies in the output folder"):
        run(folder, folder)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"holds something else \(thesis.txt\)"):
        run(folder, tmp_path / "foreign", overwrite=True)
    for text in ("{}", "no json", printable_json({"format_version": 1, "files": [], "spec_digest": ""})):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "manifest.json").write_text(text)
        with pytest.raises(UserError, match="holds something else than recommendations"):
            run(folder, tmp_path / "data", overwrite=True)


def test_parts_of_a_data_set(tmp_path: Path) -> None:
    found = score(DataSetIn(3), tmp_path / "out", Stage(), {}, runner=ONE)
    assert [row["user"] for row in rows_of(tmp_path / "out")] == ["u0", "u1", "u2"]
    assert found.manifest["users"] == {"in": 3, "answered": 3, "empty": 0, "rejected": 0}
    with pytest.raises(UserError, match="part 3 is damaged"):
        score(DataSetIn(4), tmp_path / "bad", Stage(), {}, runner=ONE)
    assert not (tmp_path / "bad").exists()


def test_in_and_out_on_another_file_system(files: tuple[Path, Events], tmp_path: Path) -> None:
    """Of `fsspec`, as object stores are."""
    import fsspec

    folder, _ = files
    system = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe_file(f"/scores/in/{path.relative_to(folder).as_posix()}", path.read_bytes())
    try:
        run("memory://scores/in", "memory://scores/out")  # type: ignore[arg-type]
        run(folder, tmp_path / "out")
        found = {
            path.removeprefix("/scores/out/"): system.cat_file(path) for path in system.find("/scores/out")
        }
        local = contents(tmp_path / "out")
        assert set(found) == set(local)
        parts = [name for name in local if name.endswith(".parquet")]
        assert [found[name] for name in parts] == [local[name] for name in parts]
    finally:
        system.rm("/scores", recursive=True)
