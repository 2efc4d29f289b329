"""What a cluster writes is what a local run writes, every byte of every file."""

from __future__ import annotations

from pathlib import Path

import pytest

from behavior.errors import UserError
from pipelines.append import append
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.engines.conftest import Cluster
from tests.pipelines.conftest import make_rows, make_spec, raw, write_rows
from tests.pipelines.test_prepare import contents
from tests.pipelines.test_shapes import everything

__all__ = ["raw"]


def on(cluster: Cluster, **options: str) -> RunnerOptions:
    return RunnerOptions("PortableRunner", beam=cluster.options(), **options)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several for each file."""
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", 2048)


def test_everything(engine: Cluster, tmp_path: Path) -> None:
    """Two groups of events, tables of items and users, several kinds of features, domains, sessions, filters
    that need the whole log, dead letters."""
    spec, _ = everything(tmp_path)
    with (tmp_path / "mixed.csv").open("a") as log:
        log.write("u1,3,lick,1700000009,,toys\nu1,3,buy\n")
    prepare(spec, str(tmp_path), tmp_path / "local")
    local = contents(tmp_path / "local")
    assert "rejected/part-00000.jsonl" in local
    prepare(spec, str(tmp_path), tmp_path / "cluster", runner=on(engine))
    assert contents(tmp_path / "cluster") == local


def test_more_is_added(engine: Cluster, raw: Path, tmp_path: Path) -> None:
    write_rows(raw / "later.csv", make_rows(users=60, events=300, seed=1))
    for name, runner in (("local", None), ("cluster", on(engine))):
        prepare(make_spec(), str(raw), tmp_path / name)
        append(make_spec(), str(raw), tmp_path / name, [str(raw / "later.csv")], runner=runner)
    found = contents(tmp_path / "cluster")
    assert found == contents(tmp_path / "local")
    assert any("@2" in name for name in found)


def test_the_shuffle_of_the_engine(engine: Cluster, raw: Path, tmp_path: Path) -> None:
    prepare(make_spec(), str(raw), tmp_path / "local")
    prepare(make_spec(), str(raw), tmp_path / "cluster", runner=on(engine, shuffle="engine"))
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")


def test_what_a_user_can_put_right_is_said_as_of_a_local_run(
    engine: Cluster, raw: Path, tmp_path: Path
) -> None:
    spec = make_spec(max_rejects=1)
    errors = []
    for name, runner in (("local", None), ("cluster", on(engine))):
        with pytest.raises(UserError) as error:
            prepare(spec, str(raw), tmp_path / name, runner=runner)
        errors.append(str(error.value))
        assert not (tmp_path / name).exists()
    assert errors[0] == errors[1]
    assert "2 of 1,502 rows were rejected" in errors[0]
