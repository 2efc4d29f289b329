from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from behavior.sources.lines import SequenceLinesReader
from tests.behavior.logs import few


def read(block: bytes, separator: str = " ") -> tuple[list[tuple[int, str, str]], list[tuple[int, str, str]]]:
    raw = SequenceLinesReader(separator, "utf-8").read(block)
    columns = (raw.columns[name].to_pylist() for name in ("user", "item"))
    return list(zip(raw.places.tolist(), *columns, strict=True)), sorted(raw.rejects)


@few
@given(st.lists(st.sampled_from(["a", "b", "12", " ", " ", "\n", "\r\n", "é"]), max_size=40))
def test_lines_read_as_str_split_reads_them(pieces: list[str]) -> None:
    text = "".join(pieces)
    expected, bad = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        user, *items = line.split() or [None]
        expected += [(number, user, item) for item in items]
        if user is not None and not items:
            bad.append(number)
    rows, rejects = read(text.encode())
    assert rows == expected
    assert [place for place, _, _ in rejects] == bad


def test_a_user_without_items_is_rejected() -> None:
    rows, rejects = read(b"u1 3 1 2\n\nu2\r\nu3 5\n")
    assert rows == [(1, "u1", "3"), (1, "u1", "1"), (1, "u1", "2"), (4, "u3", "5")]
    assert rejects == [(3, "a user without items", "u2")]


def test_other_separators() -> None:
    assert read(b"u,1,2,,3\n", ",")[0] == [(1, "u", "1"), (1, "u", "2"), (1, "u", "3")]
    assert read(b"u\t1\t2\n", "\t")[0] == [(1, "u", "1"), (1, "u", "2")]
    assert read(b"u::1::2\n", "::")[0] == [(1, "u", "1"), (1, "u", "2")]


def test_bytes_that_are_not_text_cost_their_own_line_only() -> None:
    rows, rejects = read(b"u 1\n\xff 2\nv 3\n")
    assert rows == [(1, "u", "1"), (3, "v", "3")]
    assert [place for place, _, _ in rejects] == [2]


def test_the_text_of_a_row_is_its_whole_line() -> None:
    raw = SequenceLinesReader(" ", "utf-8").read(b"u 1\nv 2 3\n")
    assert [raw.text_of(index) for index in range(3)] == ["u 1", "v 2 3", "v 2 3"]
    assert raw.lines == 2
