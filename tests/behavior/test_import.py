from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import behavior
import behavior.packing

HEAVY = ("torch", "apache_beam", "lightning")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are loaded after some code has run in a fresh interpreter."""
    code += "\nimport sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import behavior") & {*HEAVY, "numba", "pyarrow", "pydantic", "numpy"}


def test_no_module_of_it_loads_torch_or_beam() -> None:
    code = """
import importlib, pkgutil, behavior
for module in pkgutil.walk_packages(behavior.__path__, "behavior."):
    importlib.import_module(module.name)
"""
    loaded = loaded_by(code)
    assert "numba" in loaded
    assert not loaded & {*HEAVY, "pipelines", "models", "cli"}


def test_every_name_it_promises_is_there() -> None:
    code = "import behavior\nfor name in behavior.__all__: assert getattr(behavior, name).__name__ == name"
    assert "behavior" in loaded_by(code)


def test_every_room_says_what_it_is_and_has_the_names_it_promises() -> None:
    for room in pkgutil.iter_modules(behavior.__path__):
        if not room.ispkg:
            continue
        module = importlib.import_module(f"behavior.{room.name}")
        assert "May import:" in (module.__doc__ or ""), room.name
        assert module.__all__
        for name in module.__all__:
            assert getattr(module, name) is not None
            assert name in dir(module)


def test_an_unknown_name_of_a_room_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"behavior\.packing.*'nothing'"):
        behavior.packing.nothing  # noqa: B018
