"""Tables of co-occurrence by which of two events follows which, by name, for settings."""

from __future__ import annotations

from typing import Literal

Direction = Literal["both", "forward", "backward", "session"]

DIRECTIONS: dict[Direction, str] = {
    "both": "what comes after an item, and before it",
    "forward": "what comes after it",
    "backward": "what comes before it",
    "session": "what is near in time, on either side",
}
"""By name."""
