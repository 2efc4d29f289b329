"""What holds for all tests of check-ups."""

from __future__ import annotations

from tests.pipelines.engines.conftest import own_temporary_folder

__all__ = ["own_temporary_folder"]
