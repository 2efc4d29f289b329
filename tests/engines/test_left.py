"""A job that is left on Flink makes the data set by itself."""

from __future__ import annotations

from pathlib import Path

from behavior.shards.owned import JOB_FOLDER
from pipelines.finish import finish
from pipelines.left import EngineJob
from pipelines.prepare import prepare, start
from pipelines.runner import RunnerOptions
from tests.engines.flink import FlinkCluster
from tests.engines.processes import wait_for
from tests.pipelines.conftest import make_spec, raw
from tests.pipelines.test_prepare import contents

__all__ = ["raw"]


def test_a_job_that_is_left_makes_the_data_set(flink: FlinkCluster, raw: Path, tmp_path: Path) -> None:
    out, sent = tmp_path / "out", flink.sent()
    runner = RunnerOptions("PortableRunner", beam=flink.options(), detach=True)
    assert isinstance(start(make_spec(), str(raw), out, runner=runner), EngineJob)
    wait_for((out / "manifest.json").exists, "the manifest", 200)
    assert not finish(out).done_before
    prepare(make_spec(), str(raw), tmp_path / "local")
    assert contents(out) == contents(tmp_path / "local")
    assert not (out / JOB_FOLDER).exists()
    assert flink.sent() == sent  # which it has done without Beam's jars, that Flink has already
