"""`lrm doctor --warm`: compile what commands would compile when they first need it, for images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from behavior.wording import number_of
from cli.console import print_json, say

_USERS, _EVENTS = 40, 12
_SPEC: dict[str, Any] = {
    "name": "warm",
    "events": {
        "files": "log.csv",
        "columns": {"user": "user", "item": "item", "timestamp": "time"},
        "behavior": {"column": "behavior"},
    },
    "timestamp_unit": "s",
    "behaviors": ["view", "buy"],
}
_SMALL = ["model.dim=8", "train.epochs=1", "train.batch_sequences=16", "train.device=cpu"]
_TRAINED = [("default", []), ("ml-1m/sasrec", ["loader.sampling.stochastic_length.alpha=1.6"])]
"""Recipes that are trained, with changes: SiLU and softmax attention, ways to sample."""


def warm(*, json: bool) -> None:
    """Prepare small data sets of several forms, and where that is installed, train and evaluate models."""
    begin = time.perf_counter()
    compiled = _counted()
    with tempfile.TemporaryDirectory(prefix="lrm-warm-") as folder:
        _prepare(Path(folder))
        trains = all(map(find_spec, ("torch", "lightning")))
        if trains:
            _train(Path(folder))
    found, seconds = compiled(), time.perf_counter() - begin
    if json:
        print_json({"compiled": found, "seconds": seconds, "training": trains})
        return
    what = (
        "preparing, training and evaluating" if trains else "preparing (training wants torch and Lightning)"
    )
    functions = number_of(found, "function was", "functions were")
    say(f"{functions} compiled for {what}, in {seconds:.0f} s; what was there already is kept")


def _counted() -> Callable[[], int]:
    """How many functions are compiled from now on."""
    from numba.core import event

    found: list[str] = []

    class Counting(event.Listener):
        def on_start(self, happened: Any) -> None:
            function = happened.data["dispatcher"].py_func
            if not function.__module__.startswith("numba."):
                found.append(function.__name__)

        def on_end(self, happened: Any) -> None:
            pass

    event.register("numba:compile", Counting())
    return lambda: len(found)


def _prepare(folder: Path) -> None:
    from behavior.flow.ahead import compile_common, compile_forms
    from behavior.flow.memory import prepare
    from behavior.spec.dataset_spec import DatasetSpec

    compile_common()
    compile_forms()
    rows = [
        f"u{n % _USERS},i{n * 7 % 31},{'buy' if n % 3 else 'view'},{n * 97 % 4_001}"
        for n in range(_USERS * _EVENTS)
    ]
    (folder / "log.csv").write_text("\n".join(["user,item,behavior,time", *rows, ""]))
    prepare(DatasetSpec.model_validate(_SPEC), folder / "shards", folder)


def _train(folder: Path) -> None:
    import models

    for number, (recipe, changes) in enumerate(_TRAINED):
        config = models.load_config(recipe, [*_SMALL, *changes])
        run = folder / f"run-{number}"
        models.train(config, folder / "shards", run)
        models.evaluate(run, split="test", device="cpu")
