from __future__ import annotations

from pathlib import Path

import pytest

from behavior.flow.memory import prepare
from behavior.summary import doubts
from behavior.summary.doubt import doubt_of_times
from tests.behavior.logs import make_spec


@pytest.mark.parametrize(
    ("unit", "times", "words"),
    [
        ("s", (1_700_000_000, 1_700_000_100), None),
        ("ms", (1_700_000_000, 1_700_000_100), "in s, the last would be of 2023"),
        ("us", (1_700_000_000, 1_700_000_100), "in s, the last would be of 2023"),
        ("us", (1_700_000_000_000, 1_700_000_100_000), "in ms, the last would be of 2023"),
        ("s", (5, 300), "check timestamp_unit"),
        ("s", (0, 1_700_000_000), "far from others"),
        ("s", (8_000_000, 9_000_000), None),
    ],
)
def test_times_in_the_first_weeks_of_1970(
    tmp_path: Path, unit: str, times: tuple[int, int], words: str | None
) -> None:
    rows = "".join(f"1,{n},{time}\n" for n, time in enumerate(times))
    (tmp_path / "log.csv").write_text(f"user,item,time\n{rows}")
    found = doubts(prepare(make_spec(timestamp_unit=unit), tmp_path / "out", tmp_path))
    assert len(found) == (words is not None)
    assert words is None or words in found[0]
    assert ("1970" in found[0]) if words else True


def test_a_log_without_times_is_not_doubted() -> None:
    assert doubt_of_times({"unit": "none", "first": None, "last": None}) is None
