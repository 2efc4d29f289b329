"""Which versions of packages are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

OWN = "lrm-kit"
NOT_INSTALLED = "not installed"
"""What is said in place of a version; of this package where it runs from a checkout."""


def installed_version(package: str = OWN) -> str | None:
    """The version of a package, as its files say; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
