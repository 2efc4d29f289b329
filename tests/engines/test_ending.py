"""A job that ends before its time, on Flink, which is told to try again what fails."""

from __future__ import annotations

import signal
from pathlib import Path

from behavior.shards.owned import JOB_FOLDER
from tests.engines.command import Lrm
from tests.engines.flink import FlinkCluster
from tests.engines.processes import wait_for
from tests.pipelines.conftest import make_spec, raw

__all__ = ["raw"]


def test_a_starting_process_that_is_ended_cancels_the_job(
    flink: FlinkCluster, raw: Path, tmp_path: Path
) -> None:
    spec, out = raw / "spec.yaml", tmp_path / "out"
    spec.write_text(make_spec().model_dump_json())  # JSON is YAML
    command = ["prepare", spec, "--out", out, "--runner", "PortableRunner", "--", *flink.options()]
    with Lrm(*command, log=tmp_path / "log") as job:
        read = out / JOB_FOLDER / "reports"
        wait_for(lambda: read.exists() or job.is_over, "a worker that reads", 300)
        job.signal(signal.SIGTERM)
        code = job.end()
    assert code == 130, job.said
    assert "interrupted; the " in job.said  # and what has become of the job
    assert "Traceback" not in job.said
    wait_for(flink.is_idle, "the end of the job", 300)
    assert flink.newest_state() in ("FINISHED", "CANCELED")
    assert not out.exists()
