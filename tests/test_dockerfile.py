"""What the worker images install: the programs in the Dockerfile are run here, on this package."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def stages() -> dict[str, str]:
    """Name -> text of each stage, in order."""
    parts = re.split(r"^FROM (.*)$", TEXT, flags=re.MULTILINE)[1:]
    return {
        head.split(" AS ")[1]: f"{head}\n{body}" for head, body in zip(parts[::2], parts[1::2], strict=True)
    }


def arguments(text: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in re.findall(r"^ARG (\w+)=(.*)$", text, re.MULTILINE)}


def installed(stage: str, **changes: str) -> set[str]:
    """Names of the packages that a stage installs besides the package itself."""
    text = stages()[stage]
    [program] = re.findall(r"<<END\n(.*?)\nEND\n", text, re.DOTALL)
    for name, value in (arguments(text) | changes).items():
        program = program.replace("${" + name + "}", value)
    assert "${" not in program
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {Requirement(line).name for line in shown.stdout.splitlines()}


def test_stages() -> None:
    """A build without a target makes the last stage: that without torch."""
    found = stages()
    assert list(found) == ["base", "worker-torch", "worker"]
    assert found["base"].startswith("apache/beam_python3.11_sdk:${BEAM} AS")
    assert all(found[name].startswith("base AS") for name in ("worker-torch", "worker"))
    assert "ENTRYPOINT" not in TEXT


def test_what_is_installed() -> None:
    needs = {need.name for need in map(Requirement, metadata("lrm-kit").get_all("Requires-Dist") or [])}
    left_out, serving = arguments(TEXT)["LEFT_OUT"].split(), arguments(TEXT)["SERVING"].split()
    assert set(left_out) <= needs
    assert set(serving) <= set(left_out)
    base = installed("base")
    assert {"apache-beam", "pyarrow", "numba", "gcsfs"} <= base
    assert not base & {*left_out, "s3fs", "pytest"}
    assert {"gcsfs", "s3fs"} <= installed("base", EXTRAS="gcp,s3")
    assert installed("worker-torch") == set(serving)
    assert "/whl/cpu" in arguments(TEXT)["TORCH_INDEX"]
    assert {"torch", "lightning"} <= installed("base", LEFT_OUT="")


@pytest.mark.parametrize("extra", ["gcp", "s3"])
def test_extras_that_are_named_are_there(extra: str) -> None:
    assert extra in (metadata("lrm-kit").get_all("Provides-Extra") or [])
    assert extra in TEXT


def test_a_model_is_served_without_what_is_left_out(tmp_path: Path) -> None:
    """Train here; then load and recommend where only what `worker-torch` has can be imported."""
    missing = sorted(set(arguments(TEXT)["LEFT_OUT"].split()) - set(arguments(TEXT)["SERVING"].split()))
    from tests.models.serving.recommend_world import prepare, run_on

    run = run_on(prepare(tmp_path), tmp_path / "run")
    program = (
        "import sys\n"
        f"for name in {missing!r}: sys.modules[name] = None\n"
        "import models\n"
        "from behavior.shards.storage import Folder\n"
        "from models.serving.recommend.job import recommend_job\n"
        "from models.serving.recommend.request import Wanted\n"
        f"model = models.load_model({str(run)!r}, device='cpu')\n"
        "job = recommend_job(model, Wanted(k=2, at='2001-10-01'), device='cpu')\n"
        f"scorer = job.stage(Folder({str(tmp_path / 'work')!r}))()\n"
        "print(sum(rows.num_rows for part in range(job.parts) for rows, _ in scorer.part(part)))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert shown.stdout.split() == ["80"], shown.stderr
