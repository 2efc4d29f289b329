"""Processes are killed while a job runs: the same bytes come out, or one clear error and nothing torn.

Three kills by default; `LRM_ENGINE_KILLS=20 pytest tests/engines/test_kills.py` is twenty on each engine.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from behavior.shards.folder import open_shards
from behavior.shards.owned import JOB_FOLDER
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.append import append
from pipelines.prepare import prepare
from tests.engines.command import Lrm
from tests.engines.flink import FlinkCluster
from tests.engines.kills import FATAL, SIGNALS, Kill, kills, record
from tests.engines.processes import wait_for
from tests.engines.spark import SparkCluster
from tests.pipelines.conftest import make_rows, make_spec, write_rows
from tests.pipelines.test_prepare import contents

Cluster = FlinkCluster | SparkCluster
ALL = [pytest.param(kill.engine, kill, id=str(kill)) for name in ("flink", "spark") for kill in kills(name)]
_DATA_LOST = "Spark lost a machine or an executor, and with it data"
"""With a machine goes what it has shuffled, which Spark does not always make anew."""
_WHOLE: dict[int, float] = {}
"""Cluster -> seconds that a job takes there which nothing happens to."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, and a later one; what a local run makes of both, with minimum counts and without."""
    folder = tmp_path_factory.mktemp("log")
    write_rows(folder / "part-1.csv", make_rows(users=500, events=12_000), bad=("u1,i1,view",))
    write_rows(folder / "later.csv", make_rows(users=600, events=12_000, seed=1), bad=("u1,i1,view",))
    (folder / "spec.yaml").write_text(spec().model_dump_json())  # JSON is YAML
    (folder / "adding.yaml").write_text(spec(filters={}).model_dump_json())
    prepare(spec(), str(folder), folder / "local")
    prepare(spec(filters={}), str(folder), folder / "before")
    prepare(spec(filters={}), str(folder), folder / "local-added")
    append(spec(filters={}), str(folder), folder / "local-added", [str(folder / "later.csv")])
    return folder


def spec(**changes: object) -> DatasetSpec:
    return make_spec(**{"shards": 12, "filters": {"min_item_events": 2}, "max_rejects": 2, **changes})


def start(cluster: Cluster, folder: Path, out: Path, adds: bool) -> Lrm:
    """A job; it adds to a data set or makes one."""
    named = ["adding.yaml", "--append", str(folder / "later.csv")] if adds else ["spec.yaml"]
    options = ["--out", out, "--runner", "PortableRunner", "--", *cluster.options()]
    options += cluster.outlives_kills
    return Lrm("prepare", folder / named[0], *named[1:], *options, log=out.with_suffix(".log"))


def whole_job(cluster: Cluster, folder: Path, tmp_path: Path) -> float:
    """Seconds that a job takes on a cluster, once it is warm, after its mark is in the folder."""
    if id(cluster) not in _WHOLE:
        out = tmp_path / "whole"
        with start(cluster, folder, out, False) as job:
            marked(job, out)
            begin = time.monotonic()
            assert job.end() == 0, job.said
            _took(cluster, time.monotonic() - begin)
        assert contents(out) == contents(folder / "local")
    return _WHOLE[id(cluster)]


def _took(cluster: Cluster, seconds: float) -> None:
    """The fastest counts, so that most kills come before the end."""
    _WHOLE[id(cluster)] = min(seconds, _WHOLE.get(id(cluster), seconds))


def marked(job: Lrm, out: Path) -> None:
    wait_for(lambda: job.is_over or any(out.glob(f"{JOB_FOLDER}/running-*")), "a job that is sent", 300)


@pytest.mark.parametrize(("engine", "kill"), ALL, indirect=["engine"], scope="session")
def test_killed(
    engine: Cluster, kill: Kill, folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seconds = whole_job(engine, folder, tmp_path)
    out = tmp_path / "out"
    if kill.adds:
        prepare(spec(filters={}), str(folder), out)
    before = contents(out) if out.exists() else {}
    expected = contents(folder / ("local-added" if kill.adds else "local"))
    with start(engine, folder, out, kill.adds) as job:
        marked(job, out)
        begin = time.monotonic()
        wait_for(lambda: job.is_over or time.monotonic() - begin > kill.moment * seconds, "the moment", 600)
        was_over = job.is_over
        if kill.victim in SIGNALS:
            job.signal(SIGNALS[kill.victim])
        else:
            engine.victims(lambda: job.is_over)[kill.victim]()
            engine.processes.mend()
        at = time.monotonic() - begin
        code = job.end()
        if code == 0:
            _took(engine, time.monotonic() - begin)
        said, ended = job.said.strip(), job.seconds
    came = "the same bytes" if code == 0 else f"exit code {code}"
    shown = (said.splitlines() or [""])[0] if code else ""
    came += ", which were there already" if was_over else ""
    record(request, kill, at=at, whole=seconds, came=came, ended=ended, said=shown)
    assert "Traceback" not in said, said
    if code == 0:
        assert contents(out) == expected
        return
    assert kill.victim in FATAL or _DATA_LOST in said, said
    assert not was_over
    check_error(kill, code, said)
    check_nothing_torn(out, before, expected)
    if kill.victim not in SIGNALS:
        engine.processes.mend()
        engine.wait()
    if code == 130:  # the command has waited for the end, and has left nothing
        assert contents(out) == before if before else not out.exists()
        return
    if isinstance(engine, SparkCluster):  # whose job servers run one job at a time
        engine.mend()
    # On Flink at once: what is left of the first may still run there.
    with start(engine, folder, out, kill.adds) as job:
        assert job.end() == 0, job.said
    assert contents(out) == expected
    engine.mend()
    assert contents(out) == expected  # nothing came later


def check_error(kill: Kill, code: int, said: str) -> None:
    """One clear error."""
    if kill.victim == "lrm (SIGKILL)":
        assert (code, said) == (-9, "")
    elif kill.victim in SIGNALS:
        assert code == 130
        assert "interrupted" in said
    else:
        assert code == 1
        assert said.count("error: ") == 1, said
        assert said.startswith("error: ")


def check_nothing_torn(out: Path, before: dict[str, str], expected: dict[str, str]) -> None:
    """What is there is what was there, or all that was to be: a job on an engine commits by itself."""
    name = "manifest.json"
    now = contents(out) if out.exists() else {}
    manifests = [kind.get(name) for kind in (before, expected)]
    assert now.get(name) in manifests
    whole = before if now.get(name) == manifests[0] else expected
    assert {name: now.get(name) for name in whole} == whole
    if whole:
        open_shards(out)
