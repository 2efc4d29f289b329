"""`lrm recommend --runner`: what the command without gives, as a Beam job; and what it says of bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import models
import pipelines.runner
from behavior.errors import UserError
from behavior.shards.storage import Folder
from models.serving.recommend.job import recommend_job
from models.serving.recommend.request import Wanted
from pipelines.runner import RunnerOptions
from pipelines.scoring.run import HistoriesIn, score
from tests.cli.conftest import Lrm
from tests.cli.test_recommend import BAD, HISTORY, SAID, read, write_csv
from tests.models.serving.recommend_world import prepare, run_on
from tests.pipelines.conftest import make_rows

COMMON = ("--k", 4, "--at", 2000, "--exclude-seen", "--device", "cpu")


def parts(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "recommendations").iterdir()) for row in read(path)]


def by_user(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["user"], row["rank"]))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of three kinds; users have events in several of them."""
    folder = tmp_path_factory.mktemp("histories")
    rows = make_rows(users=31, events=700, seed=5)
    names = ("user", "item", "behavior", "timestamp")
    text = [",".join(map(str, row)) for row in [names, *rows[:300]]]
    (folder / "a.csv").write_text("\n".join([*text, "nobody,,,", ""]))
    records = [dict(zip(names, row, strict=True)) for row in rows[300:]]
    (folder / "b.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records[:200]))
    pq.write_table(pa.Table.from_pylist(records[200:]), folder / "c.parquet")
    return folder


def test_histories_as_the_command_without_has_them(
    lrm: Lrm, run: Path, histories: Path, tmp_path: Path
) -> None:
    """Users and items are the same, scores to rounding: others are in the batch of a user."""
    arguments = ("recommend", run, "--histories", histories, *COMMON, "--columns", "count")
    plain = lrm(*arguments, "--out", tmp_path / "all.parquet")
    found = lrm(*arguments, "--out", tmp_path / "out", "--runner", "local", "--workers", 1)
    assert (plain.code, found.code) == (0, 0), found.err
    assert "128 recommendations for 32 users" in plain.out
    assert "128 recommendations for 32 users" in found.out
    assert sorted(found.err.splitlines()) == sorted(plain.err.splitlines())
    rows, expected = by_user(parts(tmp_path / "out")), by_user(read(tmp_path / "all.parquet"))
    for row, like in zip(rows, expected, strict=True):
        assert row.pop("score") == pytest.approx(like.pop("score"), rel=1e-5, abs=1e-6)
        assert row == like
    assert {row["answer"] for row in rows if row["user"] == "nobody"} == {"popularity"}
    again = lrm(*arguments, "--out", tmp_path / "out", "--runner", "local", "--json")
    record = json.loads(again.out)
    assert record["done_before"]
    assert record["users"] == {"in": 32, "answered": 32, "empty": 0, "rejected": 0}
    assert record["rows"] == {"read": 701, "accepted": 701, "rejected": 0, "written": 128}
    assert record["counts"]["by_popularity"] == 1


def test_the_same_bytes_by_any_workers_and_when_the_run_goes_away(
    run: Path, histories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    model = models.load_model(tmp_path / "run", device="cpu")
    job = recommend_job(model, Wanted(k=4, at=2000), histories=True, device="cpu")
    given = HistoriesIn(str(histories), job.columns, parts=5)

    def stage_and_remove(folder: Folder) -> Any:
        factory = job.stage(folder)
        shutil.rmtree(tmp_path / "run")
        return factory

    score(given, tmp_path / "one", job.stage, job.about, runner=RunnerOptions(workers=1))
    monkeypatch.setattr(pipelines.runner, "_cores", lambda: 3)
    score(given, tmp_path / "threads", job.stage, job.about)
    score(given, tmp_path / "two", stage_and_remove, job.about, runner=RunnerOptions(workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "threads")
    assert len(list((tmp_path / "one" / "recommendations").iterdir())) == 5
    with pytest.raises(UserError, match="the run cannot be copied for workers: No such file"):
        score(given, tmp_path / "late", job.stage, job.about, runner=RunnerOptions(workers=1))
    assert not (tmp_path / "late").exists()
    expected = model.recommend(histories=histories, k=4, at=2000).table().to_pylist()
    for row, like in zip(by_user(parts(tmp_path / "one")), by_user(expected), strict=True):
        assert row.pop("score") == pytest.approx(like.pop("score"), rel=1e-5, abs=1e-6)
        assert row == like


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As jobs compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_users_of_the_data_set(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    """Bit for bit, and in the same order: the same users are scored together. Named ones come in theirs."""
    (tmp_path / "users.txt").write_text("u3\nu17\nu5\n")
    answers = []
    for more in ((), ("--users", tmp_path / "users.txt")):
        plain = lrm("recommend", run, *COMMON, *more, "--out", tmp_path / "all.parquet")
        found = lrm(
            *("recommend", run, *COMMON, *more, "--out", tmp_path / "out", "--overwrite"),
            *("--runner", "local", "--workers", 1),
        )
        assert (plain.code, found.code) == (0, 0), found.err
        answers.append((parts(tmp_path / "out"), read(tmp_path / "all.parquet")))
    assert answers[0][0] == answers[0][1]
    by_job, named = answers[1]
    assert list(dict.fromkeys(row["user"] for row in named)) == ["u3", "u17", "u5"]
    for row, like in zip(by_user(by_job), by_user(named), strict=True):
        assert row.pop("score") == pytest.approx(like.pop("score"), rel=1e-5)
        assert row == like


@pytest.mark.parametrize(
    ("bad", "said"), [one for one in zip(BAD, SAID, strict=True) if one[0][0] == "--histories"]
)
def test_bad_files_are_told_as_without(
    lrm: Lrm, run: Path, tmp_path: Path, bad: tuple[str, str, str, int], said: str
) -> None:
    flag, name, text, code = bad
    if text is not None:
        (tmp_path / name).write_text(text)
    arguments = ("recommend", run, "--device", "cpu", flag, tmp_path / name)
    plain = lrm(*arguments, "--out", tmp_path / "out.csv")
    found = lrm(*arguments, "--out", tmp_path / "out", "--runner", "local", "--workers", 1)
    assert (found.code, plain.code) == (code, code)
    assert said in found.err
    for label in ("error: ", "to do: "):
        [line] = [line for line in found.err.splitlines() if line.startswith(label)]
        assert line in plain.err.splitlines()
    assert not (tmp_path / "out").exists()


def test_times_of_another_unit_name_their_file(lrm: Lrm, tmp_path: Path) -> None:
    run = run_on(prepare(tmp_path), tmp_path / "run")  # on a log of 2001
    (tmp_path / "h.csv").write_text("user,item,behavior,timestamp\na,i1,buy,1000000\nb,i2,buy,1000001\n")
    arguments = ("recommend", run, "--device", "cpu", "--histories", tmp_path / "h.csv")
    for more in (("--out", tmp_path / "out.csv"), ("--out", tmp_path / "out", "--runner", "local")):
        found = lrm(*arguments, *more)
        assert (found.code, "has times of 1970 alone" in found.err) == (1, True), found.err
        assert f"where: {tmp_path / 'h.csv'}" in found.err


def test_rejected_rows(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "h.csv")
    with (tmp_path / "h.csv").open("a") as file:
        file.write("eve,i1,byu,1100\nann,i1,buy\nann,i1,buy,soon\n")
    arguments = ("recommend", run, "--histories", tmp_path / "h.csv", *COMMON, "--runner", "local")
    found = lrm(*arguments, "--workers", 1, "--out", tmp_path / "out", "--max-rejects", "50%")
    assert found.code == 0, found.err
    assert "3 of 8 rows were rejected, and with them 1 user:" in found.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == {"read": 8, "accepted": 5, "rejected": 3, "written": 12}
    assert manifest["users"] == {"in": 4, "answered": 3, "empty": 0, "rejected": 1}
    lines = (tmp_path / "out" / "rejected" / "part-00000.jsonl").read_text().splitlines()
    first = len(HISTORY) + 2
    assert [(one["line"], one["text"]) for one in map(json.loads, lines)] == [
        (first, "eve,i1,byu,1100"),
        (first + 1, "ann,i1,buy"),
        (first + 2, "ann,i1,buy,soon"),
    ]
    reasons = [json.loads(line)["reason"] for line in lines]
    assert reasons[0] == "behavior 'byu' is not in the data set"
    assert "3 fields where 4 are expected" in reasons[1]
    assert reasons[2].startswith("timestamp 'soon'")
    few = lrm(*arguments, "--out", tmp_path / "few", "--max-rejects", 2)
    assert (few.code, "more than --max-rejects 2 allows" in few.err) == (1, True)


def test_flags_that_do_not_go_together(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out.csv")
    for arguments, said in (
        (("--runner", "local"), "a job writes a folder"),
        ((*out, "--workers", 2), "--workers goes with --runner"),
        ((*out, "--overwrite"), "--overwrite goes with --runner"),
        ((*out, "--max-rejects", 1), "--max-rejects goes with --runner"),
        ((*out, "--", "--parallelism=2"), "--parallelism=2 goes with --runner"),
        ((*out, "--runner", "local", "--max-rejects", 1), "rows of a data set are all good"),
        ((*out, "--runner", "local", "--index", "ann"), "takes no index"),
        ((*out, "--runner", "DaskRunner"), "DaskRunner cannot be used"),
        ((*out, "--runner", "local", "--", "--no_option=2"), "Beam knows no option '--no_option'"),
    ):
        found = lrm("recommend", run, "--device", "cpu", *arguments)
        assert (found.code, said in found.err) == (2, True), found.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    found = lrm("recommend", run, "--device", "cpu", "--runner", "local", "--out", tmp_path / "mine")
    assert (found.code, "holds something else (notes.txt)" in found.err) == (1, True)
