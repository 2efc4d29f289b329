"""The package as a user gets it: a wheel, in an environment of its own, from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: building leaves files beside the sources.
    source = folder / "source"
    source.mkdir()
    packed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    names = packed.stdout.splitlines() if packed.returncode == 0 else []
    assert names, f"git could not list the sources: {packed.stderr}"
    for name in names:
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; dependencies are seen in ours, the sources are not."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    # A plain path: the .pth files in that folder, our own editable install among them, are not followed.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def run_there(command: list[Path | str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment in a folder, where nothing leads to the sources."""
    apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(command, cwd=folder, env=apart, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found


def test_the_wheel_holds_the_packages_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"behavior", "pipelines", "models", "cli"}
    assert {"behavior/datasets/ml-1m.yaml", "behavior/datasets/taobao.yaml"} <= set(names)
    assert {"models/recipes/ml-1m/hstu.yaml", "models/experiments/ablations/ml-1m/bias.yaml"} <= set(names)
    assert {f"{top}/py.typed" for top in tops} <= set(names)


def test_the_command_runs_from_another_folder(environment: Path, tmp_path: Path) -> None:
    found = run_there([environment / "bin" / "lrm", "--help"], tmp_path)
    for command in ("inspect", "prepare", "train", "evaluate", "demo", "doctor"):
        assert command in found.stdout


def test_behavior_is_imported_from_the_wheel_without_torch_and_beam(
    environment: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, behavior; print(behavior.__file__); "
        "import behavior.flow.memory, behavior.guess.files; "
        "print([name for name in ('torch', 'apache_beam') if name in sys.modules])"
    )
    found = run_there([environment / "bin" / "python", "-c", code], tmp_path)
    origin, loaded = found.stdout.splitlines()
    assert Path(origin).is_relative_to(environment)
    assert loaded == "[]"
