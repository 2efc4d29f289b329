"""Fixtures of several test files."""

from __future__ import annotations

import pytest

from tests.models.interpreted import import_interpreted, interpret
from tests.models.warm import WarmWorker, warm_context


@pytest.fixture(scope="module")
def interpreted_modules() -> None:
    """Without a GPU, Triton and the kernels of a module's tests are imported anew, interpreted."""
    import_interpreted()


@pytest.fixture
def interpreted(interpreted_modules: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, the kernels take tensors of the CPU."""
    interpret(monkeypatch)


@pytest.fixture
def warm_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training's other processes begin where all has been imported; see `tests.models.warm`."""
    monkeypatch.setattr("models.training.launch._start", WarmWorker)


@pytest.fixture
def warm_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do processes of runs."""
    monkeypatch.setattr("models.experiments.pool._context", warm_context)
