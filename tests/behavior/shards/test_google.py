"""What Google's library says while it looks for an account, of each place that has none."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest

from behavior.errors import UserError
from behavior.shards.remote import open_system

LOOKING = ["google.auth._default", "google.auth.compute_engine._metadata"]


@pytest.fixture(autouse=True)
def levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when nobody has set any."""
    for name in LOOKING:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
        logging.getLogger(name)._cache.clear()  # type: ignore[attr-defined]


def test_its_warnings_are_not_shown_and_its_errors_are() -> None:
    logging.getLogger(LOOKING[1]).setLevel(logging.DEBUG)  # whoever wants to see them says so
    with suppress(UserError, OSError):  # the package may not be there
        open_system("gs://bucket/folder")
    assert not logging.getLogger(LOOKING[0]).isEnabledFor(logging.WARNING)
    assert logging.getLogger(LOOKING[0]).isEnabledFor(logging.ERROR)
    assert logging.getLogger(LOOKING[1]).isEnabledFor(logging.WARNING)
    assert logging.getLogger("google.auth.transport").isEnabledFor(logging.WARNING)
