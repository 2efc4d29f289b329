"""Beam's log, kept off the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_beam() -> Iterator[None]:
    """Keep Beam's log off the terminal while it is imported or while a job runs.

    Importing Beam, and its first warning, add a handler to the root logger; one of ours that does nothing
    keeps them from it. The user's error is kept in a file by the worker and shown by the launcher.
    """
    root, beam = logging.getLogger(), logging.getLogger("apache_beam")
    before, level = list(root.handlers), beam.level
    root.handlers = [logging.NullHandler()]
    beam.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.handlers = before
        beam.setLevel(level)
