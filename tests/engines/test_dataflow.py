"""Jobs that are sent to a stand-in for Dataflow, which runs what was staged: the bytes of a local run."""

from __future__ import annotations

from pathlib import Path

import pytest

from behavior.errors import UsageError, UserError
from pipelines.append import append
from pipelines.prepare import prepare
from tests.engines.cloud import IMAGE, PROJECT, REGION, Cloud
from tests.engines.dataflow import DataflowJob
from tests.pipelines.conftest import make_rows, make_spec, raw, write_rows
from tests.pipelines.scoring.test_score import contents as bytes_of
from tests.pipelines.scoring.test_score import files, run
from tests.pipelines.shapes import everything
from tests.pipelines.test_prepare import contents

__all__ = ["files", "raw"]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several for each file."""
    monkeypatch.setattr("pipelines.prepare.MIN_CHUNK_BYTES", 2048)


def check_request(job: DataflowJob, google: Cloud) -> None:
    """What the service is told: where the job runs, on which machines, with which image, by which name."""
    assert (job.project, job.region) == (PROJECT, REGION)
    assert job.request["labels"] == {"team": "shop"}
    assert job.request["name"] == "shop-of-today"
    assert job.request["type"] in (1, "JOB_TYPE_BATCH")
    assert (job.pool["machineType"], job.pool["diskSizeGb"]) == ("n2-standard-4", 40)
    assert job.pool["autoscalingSettings"]["maxNumWorkers"] == 50
    assert job.pool["network"] == "net"
    assert job.environment["serviceAccountEmail"] == "workers@some-project.iam.gserviceaccount.com"
    [image] = job.pool["sdkHarnessContainerImages"]
    assert image["containerImage"] == job.pool["workerHarnessContainerImage"] == IMAGE
    # One process a core: Python computes with one core a process.
    assert {"use_runner_v2", "use_multiple_sdk_containers"} <= set(job.environment["experiments"])
    assert "beam:protocol:multi_core_bundle_processing:v1" not in image.get("capabilities", [])
    assert job.environment["tempStoragePrefix"].startswith(
        "storage.googleapis.com/temp-bucket/tmp/shop-of-today."
    )
    staging = job.options["staging_location"]
    assert staging.startswith("gs://temp-bucket/tmp/shop-of-today.")
    assert job.options["pipelineUrl"] == f"{staging}/pipeline.pb"
    assert (
        job.options["environment_cache_millis"] == 0
    )  # the default that other engines get is not for Dataflow
    names = google.storage.names("temp-bucket", staging.removeprefix("gs://temp-bucket/"))
    assert any(name.endswith("/pipeline.pb") for name in names)


@pytest.mark.parametrize("shuffle", [None, "files"])
def test_everything(google: Cloud, tmp_path: Path, shuffle: str | None) -> None:
    """Two groups of events, tables of items and users, several kinds of features, domains, sessions, filters
    that need the whole log, dead letters; from gs:// to gs://, by Dataflow's own shuffle and by files."""
    spec, _ = everything(tmp_path)
    with (tmp_path / "mixed.csv").open("a") as log:
        log.write("u1,3,lick,1700000009,,toys\nu1,3,buy\n")
    logs, out = f"gs://logs-bucket/{tmp_path.name}", f"gs://data-bucket/{tmp_path.name}"
    google.put(tmp_path, logs)
    local = prepare(spec, logs, tmp_path / "local")
    said: list[str] = []
    account = "--service_account_email=workers@some-project.iam.gserviceaccount.com"
    more = ["--labels=team=shop", "--job_name=shop-of-today", "--disk_size_gb=40", "--network=net", account]
    result = prepare(spec, logs, out, runner=google.runner(*more, shuffle=shuffle, say=said.append))
    assert google.contents(out) == contents(tmp_path / "local")
    assert "rejected/part-00000.jsonl" in google.contents(out)
    assert result.manifest == local.manifest
    job = google.service.jobs[-1]
    assert result.counters == {name: value for (_, name), value in job.counters.items()}
    assert result.counters.keys() == local.counters.keys()
    check_request(job, google)
    page = f"https://console.cloud.google.com/dataflow/jobs/{REGION}/{job.id}?project={PROJECT}"
    assert said == [f"the job {job.id} on Dataflow: {page}"]


def test_more_is_added(google: Cloud, raw: Path, tmp_path: Path) -> None:
    logs, out = f"gs://logs-bucket/{tmp_path.name}", f"gs://data-bucket/{tmp_path.name}"
    write_rows(raw / "later.csv", make_rows(users=60, events=300, seed=1))
    google.put(raw, logs)
    for place, runner in ((tmp_path / "local", None), (out, google.runner())):
        prepare(make_spec(), logs, place)
        append(make_spec(), logs, place, [f"{logs}/later.csv"], runner=runner)
    found = google.contents(out)
    assert found == contents(tmp_path / "local")
    assert any("@2" in name for name in found)


def test_what_a_user_can_put_right_is_said_as_of_a_local_run(
    google: Cloud, raw: Path, tmp_path: Path
) -> None:
    logs, out = f"gs://logs-bucket/{tmp_path.name}", f"gs://data-bucket/{tmp_path.name}"
    google.put(raw, logs)
    spec, errors = make_spec(max_rejects=1), []
    for place, runner in ((tmp_path / "local", None), (out, google.runner())):
        with pytest.raises(UserError) as error:
            prepare(spec, logs, place, runner=runner)
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert "2 of 1,502 rows were rejected" in errors[0]
    assert google.contents(out) == {}


def test_batch_scoring(
    google: Cloud, files: tuple[Path, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.scoring.run.CHUNK_BYTES", 300)
    folder, _ = files
    logs, out = f"gs://logs-bucket/{tmp_path.name}", f"gs://data-bucket/{tmp_path.name}"
    google.put(folder, logs)
    run(logs, tmp_path / "local")
    run(logs, out, runner=google.runner())
    local = bytes_of(tmp_path / "local")
    assert google.contents(out).keys() == local.keys()
    assert {name: google.storage.read(f"{out}/{name}") for name in local} == local


def test_paths_of_this_machine_are_refused_before_a_job_is_sent(
    google: Cloud, raw: Path, tmp_path: Path
) -> None:
    sent = len(google.service.jobs)
    logs, out = f"gs://logs-bucket/{tmp_path.name}", f"gs://data-bucket/{tmp_path.name}"
    google.put(raw, logs)
    for base, place, flag in ((logs, str(tmp_path / "out"), "--out"), (str(raw), out, "--input")):
        with pytest.raises(UsageError, match="workers on Dataflow cannot reach '/") as error:
            prepare(make_spec(), base, place, runner=google.runner())
        assert error.value.where == flag
    assert len(google.service.jobs) == sent
    assert google.contents(out) == {}
