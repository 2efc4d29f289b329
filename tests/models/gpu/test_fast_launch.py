"""Launches by Triton's private interface where its version was tested, and public ones elsewhere.

Without a GPU: what would be compiled and run is only noted (`noted_gpu`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.models.gpu.noted_gpu import Case, Gpu, case, compiled_modules, launches_of, noted, watched

pytest.importorskip("triton", reason="triton is not installed")

CASES: list[dict[str, Any]] = [
    {},
    {"bias": "position time"},
    {"bias": "decay position"},
    {"dtype": torch.float32},
]


@pytest.fixture(scope="module", autouse=True)
def _compiled_modules() -> Iterator[None]:
    with compiled_modules():
        yield


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    from models.gpu import fast_launch

    # Each test is warned of its version again.
    fast_launch._is_tested.cache_clear()
    fast_launch._warn_of.cache_clear()
    return noted(monkeypatch)


def assert_all_public(gpu: Gpu, one: Case) -> None:
    """Each call, the later ones too, does what Triton does with the same arguments."""
    one.both()
    found = launches_of(gpu, one)
    with watched():
        truth = launches_of(gpu, one)
    assert found
    assert not any(launch.private for launch in found)
    assert [(launch.kernel.name, launch.grid, launch.stream, launch.kernel.seen) for launch in found] == [
        (launch.kernel.name, launch.grid, launch.stream, launch.kernel.seen) for launch in truth
    ]


def test_the_installed_version_was_tested(gpu: Gpu) -> None:
    """Else all launches are public ones, and nobody notices."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = case(bias="time")
        one.both()
        assert all(launch.private for launch in launches_of(gpu, one))


@pytest.mark.parametrize("version", ["3.5.1", "3.8.0", "4.0.0", "3.70.0"])
def test_other_versions_are_launched_publicly(
    gpu: Gpu, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triton.__version__", version)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for settings in CASES:
            assert_all_public(gpu, case(**settings))
    assert [f"Triton {version} is not one of" in str(one.message) for one in warned] == [True]
    assert "finalize_kernel" in gpu.compiled


@pytest.mark.parametrize("version", ["3.6.0", "3.7.1", "3.7.2+git1234"])
def test_tested_versions(gpu: Gpu, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.gpu import fast_launch

    monkeypatch.setattr("triton.__version__", version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fast_launch.is_tested()


def test_what_cannot_be_launched_privately_is_launched_publicly(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.gpu import fast_launch

    monkeypatch.setattr(fast_launch, "load", lambda kernel, num_arguments: None)
    for settings in CASES:
        assert_all_public(gpu, case(**settings))


def run(x: int, y: int, z: int, stream: int, function: str, metadata: str, *rest: object) -> None:
    """As `CompiledKernel.run` of Triton 3.6 and 3.7."""


def other_run(grid: tuple[int, int, int], stream: int, arguments: list[object]) -> None:
    """As that of some later version might be."""


def test_a_private_interface_that_differs_is_not_used(gpu: Gpu) -> None:
    """Also in a version that was tested: patched, say."""
    from models.gpu import fast_launch

    known: dict[str, Any] = {"run": run, "function": 1, "packed_metadata": 2}
    assert fast_launch.load(SimpleNamespace(**known), 5) is not None
    others = [{name: value for name, value in known.items() if name != missing} for missing in known]
    for other in [*others, known | {"run": other_run}, known | {"run": None}]:
        fast_launch._warn_of.cache_clear()
        with pytest.warns(UserWarning, match="private interface has changed"):
            assert fast_launch.load(SimpleNamespace(**other), 5) is None
    assert fast_launch.load(None, 5) is None, "a hook of Triton's kept it from being compiled"
