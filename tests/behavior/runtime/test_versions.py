"""Versions of installed packages."""

from __future__ import annotations

import pytest

from behavior.runtime.versions import installed_version


def test_a_package_that_is_there_and_one_that_is_not() -> None:
    assert installed_version("pytest") == pytest.__version__
    assert installed_version("no-such-package") is None
