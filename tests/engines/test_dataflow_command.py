"""`lrm` as docs/deploy.md has it on Dataflow, with a stand-in for the service."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import apache_beam as beam
import pytest

from tests.cli.conftest import Lrm, lrm, raw, run, shards
from tests.cli.test_recommend_job import histories
from tests.engines.cloud import IMAGE, PROJECT, Cloud
from tests.pipelines.conftest import make_rows, write_rows
from tests.pipelines.scoring.test_score import contents

__all__ = ["histories", "lrm", "raw", "run", "shards"]


PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
FINISH = ["gs://BUCKET/data/shop", "--finish"]


def documented() -> list[list[str]]:
    """The commands of the page that use Dataflow, and the one that waits for a job there, by their words."""
    text = PAGE.read_text().replace("\\\n", " ")
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("    lrm ")]
    return [words for words in commands if "DataflowRunner" in words or words[-2:] == FINISH]


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


def test_the_commands_of_the_page(
    google: Cloud,
    lrm: Lrm,
    run: Path,
    raw: Path,
    histories: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As they are, but for the names that stand for others, and the address of the stand-in."""
    bucket = "gs://docs-bucket"
    google.put(raw, f"{bucket}/logs")
    google.put(histories, f"{bucket}/histories")
    later = tmp_path / "later"
    later.mkdir()
    write_rows(later / "later.csv", make_rows(users=60, events=300, seed=1))
    google.put(later, f"{bucket}/logs/new")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dist").mkdir()
    for name in ("dist/lrm_kit-0.1.0.tar.gz", "gcsfs.whl"):
        (tmp_path / name).write_text(f"stands for {name}")
    places = {"spec.yaml": str(raw / "spec.yaml"), "runs/served": str(run)}
    sent = len(google.service.jobs)
    for words in documented():
        command = [places.get(word, word) for word in words[1:]]
        command = [word.replace("gs://BUCKET", bucket).replace("PROJECT", PROJECT) for word in command]
        command = [word.replace("REPOSITORY", "repository") for word in command]
        done = lrm(*command, *(google.service.options() if "--" in command else []))
        assert done.code == 0, (command, done.err)
    jobs = google.service.jobs[sent:]
    images = [job.pool["workerHarnessContainerImage"] for job in jobs]
    own = f"gcr.io/cloud-dataflow/v1beta3/beam_python{sys.version_info[0]}.{sys.version_info[1]}_sdk"
    assert [image.removesuffix(f":{beam.__version__}") for image in images] == [
        f"{IMAGE}-torch",
        IMAGE,
        IMAGE,
        own,
    ]
    packages = {package["name"] for package in jobs[-1].pool["packages"]}
    assert {"lrm_kit-0.1.0.tar.gz", "gcsfs.whl"} <= packages
    staged = google.storage.names("docs-bucket", "tmp/")
    assert any(name.endswith("/lrm_kit-0.1.0.tar.gz") for name in staged)
    local = tmp_path / "local"
    assert lrm("prepare", raw / "spec.yaml", "--input", f"{bucket}/logs", "--out", local).code == 0
    assert objects(google, f"{bucket}/data/trial") == contents(local)
    assert lrm("prepare", raw / "spec.yaml", "--input", f"{bucket}/logs", "--out", local, "--append",
               f"{bucket}/logs/new/*.csv").code == 0  # fmt: skip
    assert objects(google, f"{bucket}/data/shop") == contents(local)
    assert "manifest.json" in google.contents(f"{bucket}/answers")


def test_doctor(google: Cloud, lrm: Lrm, raw: Path, tmp_path: Path) -> None:
    """What workers found comes back through the storage: Dataflow reports no metrics of that kind."""
    logs, out = f"gs://logs-bucket/{tmp_path.name}", f"gs://data-bucket/{tmp_path.name}"
    google.put(raw, logs)
    command = ("doctor", "--runner", "DataflowRunner", "--input", f"{logs}/part-1.csv", "--out", out)
    found = lrm(*command, "--", *google.options())
    assert found.code == 0, found.err
    assert "did not come back" not in found.err
    assert "nothing is wrong" in found.out
    assert google.contents(out) == {}
    bad = lrm(
        "doctor", "--runner", "DataflowRunner", "--", *google.options("--temp_location=gs://no-bucket/x")
    )
    assert bad.code == 1
    assert "the job cannot be staged: there is no such bucket" in bad.out + bad.err


@pytest.mark.parametrize("missing", ["--histories", "--data"])
def test_what_workers_cannot_reach(google: Cloud, lrm: Lrm, run: Path, histories: Path, missing: str) -> None:
    about = ("--histories", histories) if missing == "--histories" else ()
    on = ("--out", "gs://data-bucket/x", "--runner", "DataflowRunner", "--", *google.options())
    refused = lrm("recommend", run, *about, "--device", "cpu", *on)
    assert refused.code == 2
    assert "error: workers on Dataflow cannot reach '/" in refused.err
    assert f"where: {missing}" in refused.err
