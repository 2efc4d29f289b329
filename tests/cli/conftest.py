"""The command line called in this process, with its exit code and what it prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import cli.console
from tests.pipelines.conftest import make_rows, make_spec, write_rows


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Lrm = Callable[..., Outcome]


@pytest.fixture
def lrm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lrm:
    """Run `lrm` with arguments."""
    # Wide enough that no message is wrapped.
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Outcome:
        from cli.main import main

        monkeypatch.setattr(sys, "argv", ["lrm", *map(str, arguments)])
        monkeypatch.setattr(cli.console.out, "_file", sys.stdout)
        monkeypatch.setattr(cli.console.err, "_file", sys.stderr)
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a raw log and its spec; not to be changed."""
    folder = tmp_path_factory.mktemp("raw")
    write_rows(folder / "part-1.csv", make_rows(events=2400))
    (folder / "spec.yaml").write_text(yaml.safe_dump(make_spec().model_dump(exclude_unset=True)))
    return folder


@pytest.fixture(scope="session")
def shards(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished shards of that log; not to be changed."""
    from behavior.spec.dataset_spec import load_spec
    from pipelines.prepare import prepare

    out = tmp_path_factory.mktemp("shards") / "data"
    spec, base = load_spec(raw / "spec.yaml")
    prepare(spec, base, out)
    return out


SMALL = ("--set", "model.dim=8", "--set", "model.max_length=20", "--set", "train.batch_sequences=16")


@pytest.fixture(scope="session")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run; not to be changed."""
    from models.config import load_config
    from models.training import train

    out = tmp_path_factory.mktemp("runs") / "small"
    settings = [setting for setting in SMALL if setting != "--set"]
    train(load_config("default", [*settings, "model.kind=hstu", "train.epochs=2"]), shards, out)
    return out
