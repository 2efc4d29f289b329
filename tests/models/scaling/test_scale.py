"""Grids of small runs: the same results however often they are killed, and by however many workers."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import signal
import time
import weakref
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import yaml

from behavior.errors import UserError
from models.experiments.identity import earlier_digest
from models.experiments.results import RunRecord
from models.runs.metrics_log import read_metrics
from models.scaling.grid import ScaleGrid
from models.scaling.lines import plan_lines
from models.scaling.plan import Planner, expected_seconds
from models.scaling.points import points_csv, read_points
from models.scaling.scale import Scale
from models.scaling.store import Failure, Store
from tests.models.training.training_runs import SETTINGS, circle
from tests.models.warm import start, warm_context

SMALL = {key: yaml.safe_load(value) for key, value in (setting.split("=") for setting in SETTINGS)}
SMALL |= {"train.epochs": 2, "evaluation.log_loss": True}
del SMALL["model.dim"], SMALL["model.blocks"]
CLOCK = {"minutes", "seconds", "gpu_seconds", "device"}


def grid(**changes: Any) -> ScaleGrid:
    rule = {"rates": [0.001, 0.01], "rule": "transfer", "blocks": 1, "widths": 1, "width_power": -1.0}
    rule |= {"widen": 0}
    base = {"title": "tiny", "set": SMALL, "backbones": {"HSTU": {}}, "blocks": [1, 2], "widths": [8]}
    return ScaleGrid(**{**base, "data": [0.5, 1.0], "learning_rate": rule, **changes})


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run in one go."""
    out = tmp_path_factory.mktemp("scale") / "whole"
    found = list(Scale(grid(), shards, out).run())
    assert all(isinstance(record, RunRecord) for record in found)
    assert len(found) == 5  # two rates of the smallest size, of which one is its run; three others
    return out


def facts(out: Path) -> list[dict[str, Any]]:
    points = [{k: v for k, v in point.items() if k not in CLOCK} for point in read_points(out)]
    return sorted(points, key=lambda point: (point["run"], point["step"]))


def drive(shards: Path, out: Path, stale: float = 60.0) -> None:
    for _ in Scale(grid(), shards, out, stale_seconds=stale).run():
        pass


def test_what_is_done_is_not_run_again_and_points_are_complete(shards: Path, whole: Path) -> None:
    scale = Scale(grid(), shards, whole)
    assert not scale.look().todo
    assert list(scale.run()) == []
    points = read_points(whole)
    assert len(points) == 5 * 2
    for point in points:
        names = ("loss", "tokens", "flops", "unique_events", "parameters_backbone", "ndcg@10", "width")
        assert all(name in point for name in names)
    assert sum(point["final"] for point in points) == 5
    assert sum(point["final"] and point["rate_chosen"] for point in points) == 4
    large = [point for point in points if point["data_fraction"] == 1.0]
    small = [point for point in points if point["data_fraction"] == 0.5]
    assert {p["unique_events"] for p in small} < {p["unique_events"] for p in small + large}
    assert max(p["unique_events"] for p in small) < min(p["unique_events"] for p in large)
    assert points_csv(points).count("\n") == len(points) + 1
    assert all(call.command for call in Store(whole).read_calls())


def test_the_plan_says_what_runs_then_take(shards: Path, whole: Path) -> None:
    """Parameters exactly; operations too, since all of an epoch's batches are looked at here."""
    scale = Scale(grid(), shards, whole)
    rows = {(row["label"], row["learning_rate"]): row for row in scale.plan()}
    assert {row["status"] for row in rows.values()} == {"done"}
    for result in Store(whole).read_results().values():
        summary = json.loads((whole / result.run / "summary.json").read_text())
        row = rows[result.size.label, result.rate]
        assert row["parameters_backbone"] == summary["parameters"]["backbone"]
        assert row["flops"] == pytest.approx(summary["flops"], rel=1e-9)
        assert row["steps"] == summary["steps"]


def test_a_grid_killed_again_and_again_ends_with_the_same_points(
    shards: Path, whole: Path, tmp_path: Path
) -> None:
    """Killed as soon as a few more lines were logged: within runs, between them, and while rates are open."""
    out, killed = tmp_path / "broken", 0
    for more in (2, 3, 5):
        wanted = _logged(out) + more
        process = start(drive, shards, out)
        _wait(process, lambda wanted=wanted: _logged(out) >= wanted)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed
    drive(shards, out)
    assert facts(out) == facts(whole)
    assert not list((out / "claims").glob("*.?"))
    for run in (out / "runs").iterdir():  # no step stands there twice
        steps = [line["step"] for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "train"]
        assert steps == sorted(set(steps))


def test_two_workers_share_a_folder_and_no_run_is_run_twice(
    shards: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shared"
    processes = [start(drive, shards, out) for _ in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert facts(out) == facts(whole)
    results = Store(out).read_results().values()
    assert len({result.pid for result in results}) == 2
    for result in results:  # resumed or begun anew it would have several event files
        boards = list((out / result.run / "tensorboard").iterdir())
        assert len(boards) == 1


@pytest.mark.slow
def test_workers_of_one_call_are_replaced_when_they_are_killed(
    shards: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they had begun goes on, in their place or another's."""
    monkeypatch.setattr("models.scaling.scale._CONTEXT", warm_context())
    out = tmp_path / "jobs"
    before = multiprocessing.active_children()
    made, killed = Scale(grid(), shards, out), 0
    for _ in made.run(jobs=2, budget_minutes=30.0, plan=made.plan()):
        if not killed:
            worker = next((each for each in multiprocessing.active_children() if each not in before), None)
            if worker is not None:
                worker.kill()
                killed += 1
    assert killed
    assert facts(out) == facts(whole)
    assert {result.sharing for result in Store(out).read_results().values()} == {2}


def test_a_worker_takes_over_what_another_machine_has_left(shards: Path, tmp_path: Path) -> None:
    """Its claim is old; nothing else is known of it."""
    out = tmp_path / "left"
    scale = Scale(grid(data=[1.0]), shards, out, stale_seconds=30.0)
    digest = scale.look().todo[0][1].digest
    claim = out / "claims" / f"{digest}.1"
    claim.parent.mkdir(parents=True)
    claim.write_text(json.dumps({"token": "x", "place": "elsewhere", "pid": 1, "started": "1"}))
    assert scale.workers() == [scale.look().todo[0][1].line]
    os.utime(claim, (time.time() - 60, time.time() - 60))
    assert len(list(scale.run())) == 3
    assert not list((out / "claims").glob("*.?"))


def test_what_fails_is_recorded_and_stops_nothing_else(shards: Path, tmp_path: Path) -> None:
    """Features that the data do not have; of two backbones one."""
    wrong = {"HSTU": {}, "wrong": {"embedding.features": "add"}}
    made = grid(backbones=wrong, blocks=[1], data=[1.0])
    whole_grid = Scale(made, shards, tmp_path / "out")
    plan = whole_grid.plan()
    assert [row["flops"] is None for row in plan] == [row["backbone"] == "wrong" for row in plan]
    assert "2 will fail:\nthe data set has no item features" in plan_lines(plan)[-1]
    found = list(whole_grid.run(plan=plan, budget_minutes=30.0))
    failures = [each for each in found if isinstance(each, Failure)]
    assert len(found) == 4
    assert len(failures) == 2
    assert "no item features" in failures[0].error
    assert sorted(each.label for each in failures) == [
        "wrong, blocks 1, width 8, rate 0.001", "wrong, blocks 1, width 8, rate 0.01"
    ]  # fmt: skip
    scale = Scale(made, shards, tmp_path / "out")
    assert (len(scale.look().results), len(scale.look().failures), scale.look().todo) == (2, 2, [])
    assert len(list(scale.run(retry=True))) == 2
    assert list(scale.run()) == []


def test_a_budget_stops_a_run_with_a_checkpoint_and_it_goes_on_from_there(
    shards: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "train.epochs": 400}
    made = grid(set=settings, blocks=[1], data=[1.0], learning_rate=None)
    out = tmp_path / "out"
    assert list(Scale(made, shards, out).run(budget_minutes=1.0 / 60.0)) == []
    (run,) = (out / "runs").iterdir()
    assert (run / "checkpoints" / "last.safetensors").exists()
    assert not list((out / "claims").glob("*.?"))
    scale = Scale(made, shards, out)
    too_long = [{"label": size.label, "seconds": 1e9} for size in made.sizes()]
    assert list(scale.run(budget_minutes=1.0, plan=too_long)) == []
    shorter = Scale(grid(set=settings, blocks=[1], data=[1.0], learning_rate=None), shards, out)
    assert [pair[1].digest for pair in shorter.look().todo] == [pair[1].digest for pair in scale.look().todo]


def drive_for_a_second(made: ScaleGrid, shards: Path, out: Path) -> None:
    """As a shell starts what runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert list(Scale(made, shards, out).run(budget_minutes=1.0 / 60.0)) == []
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_so_does_one_that_was_started_in_the_background(shards: Path, tmp_path: Path) -> None:
    made = grid(set={**SMALL, "train.epochs": 4000}, blocks=[1], data=[1.0], learning_rate=None)
    process = start(drive_for_a_second, made, shards, tmp_path / "out")
    process.join(60.0)
    alive = process.is_alive()
    process.kill()
    assert not alive
    assert process.exitcode == 0
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert (run / "checkpoints" / "last.safetensors").exists()


def test_finished_runs_keep_what_they_are_to_keep(shards: Path, tmp_path: Path) -> None:
    made = grid(blocks=[1], data=[1.0], learning_rate=None)
    for keep, left in (("all", {"last", "best"}), ("best", {"best"}), ("none", set())):
        out = tmp_path / keep
        list(Scale(made, shards, out, keep=keep).run())  # type: ignore[arg-type]
        (run,) = (out / "runs").iterdir()
        assert {path.stem for path in run.glob("checkpoints/*")} == left
        assert len(read_points(out)) == 2


def test_a_folder_has_runs_of_one_data_set(shards: Path, whole: Path, tmp_path: Path) -> None:
    """Another one would have its points in the same laws."""
    other = tmp_path / "other"
    shutil.copytree(shards, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "name": "another"}))
    with pytest.raises(UserError, match=r"the folder has runs of the data set .* and this is 'another'"):
        Scale(grid(), other, whole)
    Scale(grid(), other, tmp_path / "out")


@pytest.mark.parametrize("told", [True, False])
def test_nor_of_two_versions_of_it(told: bool, shards: Path, whole: Path, tmp_path: Path) -> None:
    """Results of earlier versions of lrm-kit do not tell, and their runs do."""
    other, out = circle(tmp_path / "other", ("view", "buy")), tmp_path / "out"
    shutil.copytree(whole, out)
    for path in (out / "results").iterdir():
        result = json.loads(path.read_text())
        assert len(result.pop("dataset")) == 64
        if not told:
            path.write_text(json.dumps(result))
    assert list(Scale(grid(), shards, out).run()) == []
    with pytest.raises(UserError, match=r"runs of another version of the data set .*: digest .*, here "):
        Scale(grid(), other, out)


@pytest.mark.parametrize("named", [True, False])
def test_a_result_of_float32_is_not_the_run_of_a_machines_precision(
    named: bool, shards: Path, whole: Path, tmp_path: Path
) -> None:
    """Earlier versions recorded both by one digest; a result whose settings do not say which counts."""
    settings = {key: value for key, value in SMALL.items() if key != "train.precision"}
    auto = grid(set=settings, data=[1.0], blocks=[1], learning_rate=None)
    scale = Scale(auto, shards, tmp_path)
    ((_, run),) = scale.look().todo
    result = json.loads(next((whole / "results").iterdir()).read_text())
    earlier = earlier_digest(run.config, scale.progress.dataset["digest"])
    asked = settings | ({"train.precision": "32-true"} if named else {})
    result["record"] |= {"digest": earlier, "settings": asked}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / f"{earlier}.json").write_text(json.dumps(result))
    assert len(Scale(auto, shards, tmp_path).look().todo) == named


def test_estimates_are_made_once_a_size(shards: Path, tmp_path: Path) -> None:
    scale = Scale(grid(seeds=[0, 1, 2]), shards, tmp_path / "out")
    planner = Planner(scale.progress, str(shards))
    first, *others = (planner.estimate(size) for size in grid(seeds=[0, 1, 2]).sizes()[:3])
    assert all(other is first for other in others)


def test_what_runs_took_beside_others_tells_what_they_take(shards: Path, whole: Path, tmp_path: Path) -> None:
    """Runs that took a minute each as one of 12 on a device are expected to take a minute so again."""
    out = tmp_path / "shared"
    shutil.copytree(whole, out)
    for path in (out / "results").glob("*.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps({**result, "sharing": 12, "wall_seconds": 60.0}))
    rows = Scale(grid(), shards, out).plan()
    assert sorted(expected_seconds(rows, 12).values())[1] == pytest.approx(60.0, rel=0.5)
    alone, crowded = expected_seconds(rows, 1), expected_seconds(rows, 12)
    assert all(crowded[label] == pytest.approx(4 * alone[label]) for label in alone)


def test_a_run_whose_checkpoint_was_not_carried_along_begins_anew(
    shards: Path, whole: Path, tmp_path: Path
) -> None:
    """What a tar without checkpoints leaves of a run that was cut off."""
    out = tmp_path / "carried"
    shutil.copytree(whole, out)
    result = sorted((out / "results").glob("*.json"))[0]
    run = out / json.loads(result.read_text())["run"]
    result.unlink()
    shutil.rmtree(run / "checkpoints")
    (run / "summary.json").unlink()
    drive(shards, out)
    assert not list((out / "failures").glob("*"))
    assert facts(out) == facts(whole)


def test_what_a_run_leaves_is_collected(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captured steps and their training refer to each other; the next run needs the memory."""
    left: list[weakref.ref[Any]] = []

    class Training:
        def __init__(self) -> None:
            self.again = self

    def run_one(*_: Any) -> Any:
        training = Training()
        left.append(weakref.ref(training))
        raise ValueError("out of memory")

    monkeypatch.setattr("models.scaling.worker.run_one", run_one)
    gc.disable()
    try:
        found = list(Scale(grid(learning_rate=None), shards, tmp_path / "out").run())
    finally:
        gc.enable()
    assert len(found) == len(left) == 4
    assert all(isinstance(each, Failure) and each.error == "out of memory" for each in found)
    assert all(each() is None for each in left)


def _logged(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("runs/*/metrics.jsonl"))


def _wait(process: BaseProcess, until: Any) -> None:
    while process.is_alive() and not until():
        time.sleep(0.01)
