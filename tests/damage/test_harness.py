"""The harness itself: seeds repeat, faults are found; and one command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.cli.conftest import Outcome
from tests.damage.mutations_json import change_file
from tests.damage.mutations_parquet import change_parquet
from tests.damage.mutations_safetensors import change_safetensors
from tests.damage.trial import Trials

GOOD = {
    "stats.json": change_file,
    "items.parquet": change_parquet,
    "best.safetensors": change_safetensors,
}


@pytest.mark.parametrize("name", GOOD)
def test_a_seed_makes_the_same_of_a_file_each_time(name: str, good_run: Path, tmp_path: Path) -> None:
    original = next(good_run.rglob(name)).read_bytes()
    made = set()
    for seed in range(20):
        contents = []
        for _ in range(2):
            path = tmp_path / name
            path.write_bytes(original)
            assert GOOD[name](path, Random(seed))
            contents.append(path.read_bytes())
        # Tensors' order in a file is safetensors' own.
        assert name.endswith("safetensors") or contents[0] == contents[1]
        made.add(contents[0])
    assert len(made - {original}) > 10


ANSWERS = {
    "trace": Outcome(1, "", "Traceback (most recent call last)"),
    "no advice": Outcome(1, "", "error: it is damaged\nwhere: there\n"),
    "not a number": Outcome(0, '{"loss": NaN}', ""),
    "exit code": Outcome(-11, "", ""),
    "too long": Outcome(1, "", f"error: {'x' * 5000}\nwhere: there\nto do: this\n"),
    "control": Outcome(1, "", "error: \x1b[31m\nwhere: there\nto do: this\n"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_wrong_answers_are_found(answer: str, tmp_path: Path) -> None:
    assert _tried(tmp_path, lambda *_: ANSWERS[answer]).failures


def test_what_is_touched_is_found(tmp_path: Path) -> None:
    right = Outcome(1, "", "error: it is damaged\nwhere: there\nto do: this\n")

    def touching(name: str) -> Callable[..., Outcome]:
        def run(folder: str) -> Outcome:
            (Path(folder) / name).write_text("other")
            return right

        return run

    assert not _tried(tmp_path / "a", lambda *_: right).failures
    assert "files changed: ['file.json']" in _tried(tmp_path / "b", touching("file.json")).failures[0]
    assert "outside" in _tried(tmp_path / "c", touching("../../precious.txt")).failures[0]


def _tried(folder: Path, run: Callable[..., Outcome]) -> Trials:
    good, scratch = folder / "good", folder / "scratch"
    good.mkdir(parents=True)
    scratch.mkdir()
    (good / "file.json").write_text('{"a": [1, 2]}')
    trials = Trials(good, run, scratch)
    trials.run(1, lambda copy, rng: change_file(copy / "file.json", rng), "DATA")
    return trials


def test_in_a_process_of_its_own(good_data: Path, tmp_path: Path) -> None:
    """No signal, and nothing that the tests' process hides."""
    record = json.loads((good_data / "manifest.json").read_text())
    record["format_version"] = [1]
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    command = [sys.executable, "-m", "cli.main", "inspect", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "to do: " in done.stderr
    assert "Traceback" not in done.stderr
