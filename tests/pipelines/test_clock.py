"""The times of the parts of stages, as workers leave them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from behavior.shards.storage import Folder
from pipelines.clock import StageClock


def test_parts_of_all_threads_are_kept_and_those_that_fail_are_not(tmp_path: Path) -> None:
    clock = StageClock(Folder(str(tmp_path)))

    def work() -> None:
        with clock.part("read"):
            sum(range(10_000))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(ValueError, match="no"), clock.part("sort"):
        raise ValueError("no")
    parts = clock.parts()
    assert {stage: len(every) for stage, every in parts.items()} == {"read": 3}
    for part in parts["read"]:
        assert part.begin <= part.end
        assert part.user >= 0
        assert part.system >= 0


def test_without_a_folder_nothing_is_kept() -> None:
    clock = StageClock(None)
    with clock.part("read"):
        pass
    assert clock.parts() == {}
