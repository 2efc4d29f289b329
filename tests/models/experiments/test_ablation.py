"""Tables of settings, the runs they are made of, and the record of results."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from behavior.errors import UserError
from models.config import load_config
from models.evaluate_run import evaluate
from models.experiments import (
    Ablation,
    AblationTable,
    PlannedRun,
    RunRecord,
    append_record,
    load_table,
    plan_runs,
    read_records,
    run_all,
    summarize,
    table_names,
)
from models.experiments.identity import CAME_LATER, earlier_digest, run_digest
from models.experiments.pool import gpus_of
from tests.models.shards import World, leave_one_out, write_shards

SMALL = [
    "model.dim=8",
    "model.max_length=10",
    "train.batch_sequences=4",
    "train.epochs=2",
    "train.device=cpu",
]

SHORT = [*SMALL, "train.epochs=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    users = leave_one_out(*[[2 + (user + step) % 9 for step in range(3 + user % 5)] for user in range(12)])
    return write_shards(tmp_path_factory.mktemp("shards") / "data", users, World(num_items=9))


def test_a_grid_is_all_combinations_for_every_row() -> None:
    table = AblationTable(
        rows={"a": {"model.kind": "hstu"}, "b": {"model.kind": "sasrec"}},
        grid={"model.blocks": [2, 4], "model.bias": ["none", "both"]},
        set={"train.epochs": 5},
    )
    lines = table.lines()
    assert list(lines)[:3] == ["a, blocks 2, bias none", "a, blocks 2, bias both", "a, blocks 4, bias none"]
    assert len(lines) == 8
    config = table.config(lines["b, blocks 4, bias both"], 3, ["model.dim=16"])
    assert (config.model.kind, config.model.blocks, config.model.bias) == ("sasrec", 4, "both")
    assert (config.model.dim, config.train.seed, config.train.epochs) == (16, 3, 5)


@pytest.mark.parametrize("name", table_names())
def test_every_packaged_table_has_lines_that_can_be_built(name: str) -> None:
    table = load_table(name)
    assert table.title
    configs = [table.config(settings, 0, []) for settings in table.lines().values()]
    assert len({config.model_dump_json() for config in configs}) == len(configs)


def test_a_table_that_is_not_there_and_one_without_lines() -> None:
    with pytest.raises(UserError, match="'ml-1m/bais' is neither a file nor a ready table") as caught:
        load_table("ml-1m/bais")
    assert "ml-1m/bias" in (caught.value.fix or "")
    with pytest.raises(ValueError, match="rows, or a grid"):
        AblationTable()


def test_a_wrong_setting_is_found_before_anything_runs(data: Path, tmp_path: Path) -> None:
    table = AblationTable(rows={"fine": {}, "wrong": {"model.blokcs": 3}})
    with pytest.raises(UserError, match="blokcs"):
        plan_runs("t", table, data, tmp_path)


def test_runs_are_recorded_and_the_record_can_be_read(data: Path, tmp_path: Path) -> None:
    table = AblationTable(rows={"hstu": {}, "no bias": {"model.bias": "none"}}, seeds=[0, 1])
    runs = plan_runs("t", table, data, tmp_path / "runs", overrides=SMALL)
    assert [(run.line, run.seed) for run in runs] == [
        ("hstu", 0),
        ("hstu", 1),
        ("no bias", 0),
        ("no bias", 1),
    ]
    assert len({run.digest for run in runs}) == len({run.folder for run in runs}) == 4
    records = list(run_all(runs[1:3], str(data), jobs=1))
    for record in records:
        append_record(tmp_path / "results.csv", record)
    assert read_records(tmp_path / "results.csv") == records
    first = records[0]
    assert (first.line, first.seed, first.epochs, first.digest) == ("hstu", 1, 2, runs[1].digest)
    assert set(first.test) == set(first.valid)
    assert "ndcg@10" in first.test
    assert first.parameters > 0
    assert first.device == "cpu"


@pytest.mark.usefixtures("warm_jobs")
def test_several_jobs_give_what_one_gives_up_to_one_that_fails(data: Path, tmp_path: Path) -> None:
    """What runs beside it is still finished and given, and no other begins."""
    rows = {
        "hstu": {},
        "wrong": {"embedding.features": "add"},
        **{str(n): {"model.blocks": n} for n in (1, 3, 4)},
    }

    def plan(name: str) -> list[PlannedRun]:
        return plan_runs("t", AblationTable(rows=rows, seeds=[0, 1]), data, tmp_path / name, overrides=SHORT)

    alone = {
        run.digest: record
        for run, record in zip(plan("1"), run_all(plan("1")[:2], str(data), 1), strict=False)
    }
    runs = plan("2")
    del runs[3]
    records: list[RunRecord] = []
    with pytest.raises(UserError, match="no item features"):
        records.extend(run_all(runs, str(data), jobs=2))
    begun = [run for run in runs if run.folder.exists()]
    assert len(records) == len(begun) < len(runs) - 1  # what fails before its first step leaves no folder
    done = {record.digest: record for record in records}
    for digest, record in alone.items():
        assert (done[digest].test, done[digest].valid, done[digest].steps) == (
            record.test,
            record.valid,
            record.steps,
        )


def test_what_only_says_where_to_run_does_not_make_another_run(data: Path, tmp_path: Path) -> None:
    table = AblationTable(rows={"hstu": {}})

    def digest(*overrides: str) -> str:
        return plan_runs("t", table, data, tmp_path, overrides=[*SMALL, *overrides])[0].digest

    assert digest("train.log_every_steps=3") == digest()
    assert digest("train.epochs=7") != digest()
    assert digest("train.patience=7") != digest()


def test_slices_are_recorded_where_they_are_asked_for(data: Path, tmp_path: Path) -> None:
    """As metrics of their own, those that `lrm evaluate` gives of them."""
    table = tmp_path / "sliced.yaml"
    table.write_text("rows: {a: {evaluation.by: [popularity]}}\n")
    (record,) = Ablation([str(table)], data, tmp_path / "runs", overrides=SMALL).run()
    (folder,) = [path.parent for path in (tmp_path / "runs").rglob("run.json")]
    report = evaluate(folder, by=["popularity"], device="cpu")["breakdown"]["popularity"]
    assert report
    for part, found in report.items():
        assert record.test[f"hr@10 [popularity={part}]"] == found["hr@10"]
        assert record.test[f"targets [popularity={part}]"] == found["targets"]


def test_what_is_recorded_stays_known_when_settings_are_added() -> None:
    """These digits stand in people's files. A new setting that changes them belongs in `CAME_LATER`."""
    recorded = "38dc38df5f21b111"
    assert run_digest(load_config("ml-1m/hstu", ["train.precision=32-true"]), "data") == recorded
    assert earlier_digest(load_config("ml-1m/hstu"), "data") == recorded


@pytest.mark.parametrize(
    ("own", "known"),
    [({}, True), ({"train.precision": "32-true"}, False), ({"--set": ["train.precision=32-true"]}, False)],
)
def test_what_was_asked_for_in_float32_is_not_the_run_of_a_machines_precision(
    own: dict[str, Any], known: bool, data: Path, tmp_path: Path
) -> None:
    """Earlier versions recorded both by one digest; what does not say which counts for either."""
    table = tmp_path / "table.yaml"
    table.write_text("rows: {a: {}}\n")
    (run,) = plan_runs("table", AblationTable(rows={"a": {}}), data, tmp_path, overrides=SMALL)
    assert run.earlier is not None
    record = replace(RECORD, digest=run.earlier, settings={**own, "model.blocks": 2})
    append_record(tmp_path / "results.csv", record)
    found = Ablation([str(table)], data, tmp_path, overrides=SMALL, metrics=["ndcg@10"])
    assert (not found.todo) is known
    if known:
        assert found.comparisons()[0].records[0].test == RECORD.test
    exact = Ablation([str(table)], data, tmp_path, overrides=[*SMALL, "train.precision=32-true"])
    assert not exact.todo


def test_a_setting_that_came_later_counts_where_it_changes_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    same, other = load_config(), load_config(overrides=["model.blocks=3"])
    before = [run_digest(config, "data") for config in (same, other)]
    monkeypatch.setitem(CAME_LATER, "model.blocks", same.model.blocks)
    after = [run_digest(config, "data") for config in (same, other)]
    assert after[0] not in before  # as if recorded by a version without the setting
    assert after[1] == before[1]


def test_jobs_are_spread_over_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert gpus_of(3) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    assert gpus_of(3) == ["4", "GPU-7", "4"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert gpus_of(2) == [None, None]


RECORD = RunRecord(
    table="t", line="a", seed=0, settings={"model.blocks": 2}, recipe="default", digest="x", data="d",
    time="known", test={"ndcg@10": 0.1}, valid={}, best_epoch=1, epochs=2, steps=3, parameters=4, minutes=2.0,
    device="cpu", version="1",
)  # fmt: skip


def test_the_summary_has_means_and_spreads_over_seeds() -> None:
    values = [0.1, 0.2, 0.6]
    runs = [replace(RECORD, seed=seed, test={"ndcg@10": value}) for seed, value in enumerate(values)]
    one, other = summarize([*runs, replace(RECORD, line="b")], ["ndcg@10"])
    assert (one["line"], one["seeds"]) == ("a", 3)
    assert one["ndcg@10"] == pytest.approx(0.3)
    assert one["ndcg@10 sd"] == pytest.approx(statistics.stdev(values))
    assert (other["line"], other["ndcg@10"], other["ndcg@10 sd"]) == ("b", 0.1, None)


def test_a_file_that_holds_something_else_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_record(path, RECORD)
    path.write_text(path.read_text() + "nonsense\n")
    with pytest.raises(UserError, match="not a line of ablation results") as caught:
        read_records(path)
    assert "line 3" in (caught.value.where or "")


def test_lines_of_ablations_in_several_folders_may_go_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    for seed in range(3):
        append_record(path, replace(RECORD, seed=seed))
    assert [record.seed for record in read_records(path)] == [0, 1, 2]
    assert path.read_text().count("table,line,seed") == 1


@pytest.mark.parametrize("cell", ["9" * 5000, "[" * 100_000, '{"ndcg@10": "x"}', "[]"])
def test_cells_of_another_kind_are_an_error(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_record(path, RECORD)
    path.write_text(path.read_text().replace('"{""ndcg@10"": 0.1}"', '"' + cell.replace('"', '""') + '"'))
    with pytest.raises(UserError, match="not a line of ablation results"):
        read_records(path)


def test_one_ablation_at_a_time_in_a_folder(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("rows: {a: {}}\n")

    def ablation() -> Ablation:
        return Ablation([str(path)], data, tmp_path / "runs", overrides=[*SMALL, "train.epochs=1"])

    first, second, third = ablation(), ablation(), ablation()
    for _ in first.run():  # held until all of it is done
        with pytest.raises(UserError, match="another job is writing"):
            next(second.run())
    assert list(third.run()) == []  # what another has done since is not run again
    assert third.comparisons()[0].lines == first.comparisons()[0].lines
    assert len(read_records(first.results)) == 1


def test_an_ablation_runs_what_was_not_run_and_compares_all_lines(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("title: two\nrows: {a: {}, b: {model.kind: sasrec}, same: {model.kind: hstu}}\n")
    settings = [*SMALL, "train.epochs=1"]

    def ablation(**changes: Any) -> Ablation:
        arguments = {"seeds": [0, 1], "overrides": settings, "metrics": ["mrr@10"], **changes}
        return Ablation([str(path)], data, tmp_path / "runs", **arguments)

    first = ablation(seeds=[0])
    assert (first.num_runs, len(first.todo)) == (2, 2)  # the default is an HSTU: two lines are one run
    assert [record.line for record in first.run()] == ["same", "b"]
    both = ablation()
    assert (both.num_runs, len(both.todo)) == (4, 2)
    assert {record.seed for record in both.run()} == {1}
    assert not ablation().todo
    [found] = both.comparisons()
    assert (found.title, found.times, found.devices) == ("two", "known", "cpu")
    assert [(line["line"], line["seeds"]) for line in found.lines] == [("a", 2), ("b", 2), ("same", 2)]
    assert found.lines[0]["mrr@10"] == found.lines[2]["mrr@10"]
    tests = [record.test["mrr@10"] for record in read_records(both.results) if record.line == "b"]
    assert found.lines[1]["mrr@10"] == statistics.fmean(tests)
    with pytest.raises(UserError, match="no metric 'mrr@11'"):
        ablation(metrics=["mrr@11"])


def test_a_refit_is_a_line_of_its_own(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.yaml"
    table.write_text("title: refits\nrefit: true\nrows: {plain: {}, warm: {loss.temperature: 0.1}}\n")
    ablation = Ablation([str(table)], data, tmp_path / "runs", overrides=SMALL)
    assert [run.line for run in ablation.todo] == ["plain", "plain, refitted", "warm", "warm, refitted"]
    found = {record.line: record for record in ablation.run()}
    for name in ("plain", "warm"):
        chosen, refitted = found[name], found[f"{name}, refitted"]
        assert refitted.epochs == chosen.best_epoch
        assert (refitted.settings["loader.part"], refitted.valid) == ("train+valid", {})
        run = tmp_path / "runs" / f"{name}-seed-0-{chosen.digest[:6]}-refitted"
        assert evaluate(run, device="cpu")["hr@10"] == pytest.approx(refitted.test["hr@10"])
    assert not Ablation([str(table)], data, tmp_path / "runs", overrides=SMALL).todo
    assert [line["line"] for line in ablation.comparisons()[0].lines] == list(found)


@pytest.mark.usefixtures("warm_jobs")
def test_a_refit_stands_in_one_job_with_its_run(data: Path, tmp_path: Path) -> None:
    table = AblationTable(rows={"a": {}, "b": {"model.dim": 16}}, refit=True)
    planned = plan_runs("t", table, data, tmp_path, overrides=SHORT)
    records = list(run_all(planned, str(data), jobs=2))
    assert {record.digest for record in records} == {run.digest for run in planned}


def test_refits_are_not_compared_on_what_they_learned(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="learned the validation events"):
        Ablation(["ml-1m/bias"], data, tmp_path, split="valid", refit=True)
