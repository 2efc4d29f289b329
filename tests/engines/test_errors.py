"""What a user can put right is said as of a local run, and nobody waits for what cannot succeed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import pipelines.prepare
from behavior.errors import UserError
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.engines.conftest import Cluster
from tests.engines.flink import FlinkCluster
from tests.engines.kills import ALL
from tests.engines.processes import wait_for
from tests.pipelines.broken import source_of
from tests.pipelines.shapes import make_log, spec_of, write_log

# By night each error is tried on each engine; otherwise all on Prism, and one on each of the others.
SOME = {"flink": ["rejects"], "spark": ["late"]}


def too_many_rejects(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    write_log(folder / "log.csv", make_log(31, 200))
    with (folder / "log.csv").open("a") as log:
        log.write("u1,3,lick,1700000009,,,\nu1,3,buy\n")
    return spec_of(max_rejects=1)


def a_damaged_file(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """Its footer is whole, so that only a worker finds out."""
    from tests.pipelines.broken import write_parquet

    path = folder / "log.parquet"
    write_parquet(path, make_log(24, 150)[:150], row_group_size=50)
    column, data = pq.ParquetFile(path).metadata.row_group(1).column(1), bytearray(path.read_bytes())
    for place in range(column.data_page_offset, column.data_page_offset + 30):
        data[place] ^= 0xFF
    path.write_bytes(data)
    return spec_of(events=source_of("*.parquet"), max_rejects=0)


def no_right_to_write(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """Nothing is forbidden to root, but to make a file in /sys."""
    write_log(folder / "log.csv", make_log(32, 200))
    run = pipelines.prepare.run_job

    def run_where_it_is_forbidden(job: Any, *arguments: Any) -> Any:
        (Path(str(job.out)) / "sequences").symlink_to("/sys/kernel")
        return run(job, *arguments)

    patch.setattr(pipelines.prepare, "run_job", run_where_it_is_forbidden)
    return spec_of()


def a_spec_that_does_not_fit(folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """No item of the log is in the table, which shows when all has been counted."""
    write_log(folder / "log.csv", make_log(33, 200))
    (folder / "items.csv").write_text("id,brand\nx,lego\ny,sega\n")
    return spec_of(items={"files": "items.csv", "id": "id", "features": [{"name": "brand"}]})


CASES: dict[str, Callable[[Path, pytest.MonkeyPatch], Any]] = {
    "rejects": too_many_rejects,
    "damage": a_damaged_file,
    "rights": no_right_to_write,
    "late": a_spec_that_does_not_fit,
}
EACH = [("prism", case) for case in CASES]
EACH += [(name, case) for name in ("flink", "spark") for case in (CASES if ALL else SOME[name])]


@pytest.mark.parametrize(("engine", "case"), EACH, indirect=["engine"], scope="session")
def test_same_message(engine: Cluster, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, errors = tmp_path / "logs", []
    folder.mkdir()
    spec = CASES[case](folder, monkeypatch)
    for runner in (None, RunnerOptions("PortableRunner", beam=engine.options())):
        with pytest.raises(UserError) as error:
            prepare(spec, str(folder), tmp_path / "out", runner=runner)
        errors.append((type(error.value), re.sub("[0-9a-f]{32}", "NAME", str(error.value))))
        left = list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
        assert [path.name for path in left] == (["sequences"] if case == "rights" else [])
        for path in left:
            path.unlink()
    assert errors[0] == errors[1]
    if isinstance(engine, FlinkCluster):
        # Its workers do nothing more; where even that takes long, it is cancelled.
        wait_for(engine.is_idle, "the end of the job", 300)
        assert engine.newest_state() in ("FINISHED", "CANCELED")
        assert engine.restarts() == 0
