"""`lrm` as docs/deploy.md has it on Dataflow, with a stand-in for the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Lrm, lrm, raw, run, shards
from tests.cli.test_recommend_job import histories
from tests.engines.cloud import Cloud
from tests.pipelines.scoring.test_score import contents

__all__ = ["histories", "lrm", "raw", "run", "shards"]


def objects(google: Cloud, url: str) -> dict[str, bytes]:
    return {name: google.storage.read(f"{url}/{name}") for name in google.contents(url)}


def test_prepare(google: Cloud, lrm: Lrm, raw: Path, tmp_path: Path) -> None:
    """What is on the terminal is what there is to say, and no more."""
    logs, out = f"gs://logs-bucket/{tmp_path.name}", f"gs://data-bucket/{tmp_path.name}"
    google.put(raw, logs)
    command = ("prepare", raw / "spec.yaml", "--input", logs, "--out", out, "--runner", "DataflowRunner")
    done = lrm(*command, "--", *google.options())
    assert done.code == 0, done.err
    [job] = google.service.jobs[-1:]
    page = f"https://console.cloud.google.com/dataflow/jobs/europe-west4/{job.id}?project=some-project"
    where, doubt = done.err.splitlines()
    assert where == f"the job {job.id} on Dataflow: {page}"
    assert doubt.startswith("warning: all timestamps are in the first weeks of 1970")
    assert f"small in {out}" in done.out
    again = lrm(*command, "--", *google.options())
    assert (again.code, again.err) == (0, f"{doubt}\n")
    assert "nothing to do" in again.out
    assert google.service.jobs[-1] is job
    assert lrm("prepare", raw / "spec.yaml", "--input", logs, "--out", tmp_path / "local").code == 0
    assert objects(google, out) == contents(tmp_path / "local")


def test_recommend(google: Cloud, lrm: Lrm, run: Path, shards: Path, histories: Path, tmp_path: Path) -> None:
    """Of histories, and for the users of the data set."""
    logs, data = f"gs://logs-bucket/{tmp_path.name}", f"gs://data-bucket/{tmp_path.name}"
    google.put(histories, logs)
    google.put(shards, f"{data}/shards")
    of_users = ["--data", f"{data}/shards"]
    for name, about in (("histories", ["--histories", logs]), ("users", of_users)):
        command = ("recommend", run, *about, "--k", 4, "--at", 2000, "--device", "cpu")
        local = lrm(*command, "--out", tmp_path / name, "--runner", "local", "--workers", 1)
        assert local.code == 0, local.err
        on = ("--out", f"{data}/{name}", "--runner", "DataflowRunner", "--", *google.options())
        done = lrm(*command, *on)
        assert done.code == 0, done.err
        assert objects(google, f"{data}/{name}") == contents(tmp_path / name)


@pytest.mark.parametrize("missing", ["--histories", "--data"])
def test_what_workers_cannot_reach(google: Cloud, lrm: Lrm, run: Path, histories: Path, missing: str) -> None:
    about = ("--histories", histories) if missing == "--histories" else ()
    on = ("--out", "gs://data-bucket/x", "--runner", "DataflowRunner", "--", *google.options())
    refused = lrm("recommend", run, *about, "--device", "cpu", *on)
    assert refused.code == 2
    assert "error: workers on Dataflow cannot reach '/" in refused.err
    assert f"where: {missing}" in refused.err
