"""Asking the pages of engines. Nothing here raises: a page that does not answer says nothing."""

from __future__ import annotations

import json
import urllib.request
from contextlib import suppress
from typing import Any

SECONDS = 3.0
"""That an answer may take."""


def ask(url: str) -> Any:
    """The JSON of a page; None where there is none."""
    with suppress(ValueError):
        return json.loads(read(url))
    return None


def read(url: str) -> str:
    """The text of a page; empty where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return str(answer.read().decode("utf-8", errors="replace"))
    except (OSError, ValueError):
        return ""
