"""What a training has compiled ahead is what it calls; and when anything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import pytest

from behavior.packing import balance
from behavior.sampling import kernels
from models.attention import loops
from models.attention.loops.ahead import BUCKET_ARGUMENTS, arguments, gradient_arguments
from models.data import ahead as loading
from models.data import origins
from models.evaluation import targets
from models.training import ahead, train
from tests.models.training.training_runs import circle, settings

CALLED = {
    "fill_units": kernels,
    "choose_inputs": kernels,
    "least_loaded": balance,
    "_first_events": origins,
    "_count_up": origins,
    "_copy_own": origins,
    "_copy_next": origins,
    "latest_earlier": targets,
    "forward": loops,
    "backward": loops,
    "find_all_buckets": loops,
}


class Told:
    """A compiled function that notes the types that it is called with."""

    def __init__(self, function: Any, called: list[tuple[Any, ...]]) -> None:
        self.function, self.called = function, called

    def __call__(self, *arguments: Any) -> Any:
        self.called.append(tuple(map(numba.typeof, arguments)))
        return self.function(*arguments)


def test_types_are_those_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, list[tuple[Any, ...]]] = {name: [] for name in CALLED}
    for name, module in CALLED.items():
        monkeypatch.setattr(module, name, Told(getattr(module, name), called[name]))
    config = settings("train.epochs=1")
    train(config, circle(tmp_path / "shards"), tmp_path / "run")
    monkeypatch.undo()
    compiled: dict[str, set[tuple[Any, ...]]] = {name: set() for name in CALLED}
    for function, kinds in loading.signatures():
        compiled[function.py_func.__name__].add(tuple(kinds))
    compiled["forward"] = {tuple(map(numba.typeof, arguments()))}
    compiled["backward"] = {tuple(map(numba.typeof, gradient_arguments()))}
    compiled["find_all_buckets"] = {tuple(map(numba.typeof, BUCKET_ARGUMENTS))}
    for name, types in called.items():
        assert types, name
        for each in types:
            given = [kinds for kinds in compiled[name] if kinds[: len(each)] == each]
            assert given, (name, each, compiled[name])
            assert all(isinstance(left, numba.types.Omitted) for left in given[0][len(each) :])


@pytest.mark.parametrize(
    ("cores", "device", "card", "asked"),
    [
        (1, "cpu", False, ["both"]),
        (2, "cpu", True, ["loading", "both"]),
        (2, "auto", False, ["loading", "both"]),
        (2, "auto", True, ["loading"]),
        (8, "cuda", True, ["loading"]),
        (8, "auto", False, ["loading", "forward", "backward"]),
    ],
)
def test_when(
    cores: int, device: Any, card: bool, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(ahead, "usable_cores", lambda: cores)
    monkeypatch.setattr(ahead, "_CARDS", tmp_path if card else tmp_path / "none")
    monkeypatch.setattr(ahead, "compile_elsewhere", lambda call, functions: calls.append(call))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ahead.compile_ahead(device)
    assert [call.rpartition("_")[2] for call in calls] == asked
    if card:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        calls.clear()
        ahead.compile_ahead("auto")
        assert len(calls) >= 2
