"""What a cluster writes is what a local run writes, every byte, by whichever runner it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from behavior.config import parse_config
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.engines.command import Lrm
from tests.engines.conftest import Cluster
from tests.pipelines.conftest import make_rows, make_spec, raw, write_rows
from tests.pipelines.shapes import everything
from tests.pipelines.test_prepare import contents

__all__ = ["raw"]

SMALL = 2048


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several for each file."""
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", SMALL)


def really_everything(folder: Path) -> DatasetSpec:
    """Two groups of events, tables of items and of users, features of every kind, domains with ids of their
    own, a window of time, a k-core, a maximum of events, sessions, baskets as test parts, dead letters."""
    spec, _ = everything(folder)
    with (folder / "mixed.csv").open("a") as log:
        log.write("u1,3,lick,1700000009,,toys\nu1,3,buy\n")
    record = spec.model_dump(exclude_unset=True)
    for table in record["items"]:
        table["features"] += [{"name": "words", "column": "tags", "kind": "text", "hash_size": 20}]
    record["filters"] |= {"k_core": 2, "end": 1_700_000_070}
    return parse_config(DatasetSpec, record, where="test")


def test_everything(engine: Cluster, tmp_path: Path) -> None:
    spec = really_everything(tmp_path)
    prepare(spec, str(tmp_path), tmp_path / "local")
    local = contents(tmp_path / "local")
    written = {"rejected/part-00000.jsonl", "vocabulary/tags.parquet", "users.parquet", "items.parquet"}
    assert written < set(local)
    prepare(
        spec,
        str(tmp_path),
        tmp_path / "cluster",
        runner=RunnerOptions("PortableRunner", beam=engine.options()),
    )
    assert contents(tmp_path / "cluster") == local


def test_more_is_added_by_the_engines_own_runner(engine: Cluster, raw: Path, tmp_path: Path) -> None:
    """To a job server that is named by its address, with an option that only the job server knows."""
    write_rows(raw / "later.csv", make_rows(users=60, events=300, seed=1))
    runner = RunnerOptions(engine.runner, beam=[*engine.options(), *engine.known_there])
    for name, used in (("local", None), ("cluster", runner)):
        prepare(make_spec(), str(raw), tmp_path / name)
        append(make_spec(), str(raw), tmp_path / name, [str(raw / "later.csv")], runner=used)
    found = contents(tmp_path / "cluster")
    assert found == contents(tmp_path / "local")
    assert any("@2" in name for name in found)


def test_the_shuffle_of_the_engine_by_a_job_server_that_lrm_starts(
    engine: Cluster, raw: Path, tmp_path: Path
) -> None:
    """The program is named by its path, and ends with the command."""
    spec, out = raw / "spec.yaml", tmp_path / "cluster"
    spec.write_text(make_spec(max_rejects=2).model_dump_json())  # JSON is YAML
    prepare(make_spec(max_rejects=2), str(raw), tmp_path / "local")
    options = ["--runner", engine.runner, "--shuffle", "engine", "--", *engine.by_path(tmp_path)]
    with Lrm("prepare", spec, "--out", out, *options, log=tmp_path / "log", chunk=SMALL) as job:
        assert job.end() == 0, job.said
        assert "Traceback" not in job.said
        assert job.left == []
    assert contents(out) == contents(tmp_path / "local")
