"""Names of what attention can be given, for settings; without torch."""

from __future__ import annotations

from typing import Literal

DecayKind = Literal["power", "exponential"]
