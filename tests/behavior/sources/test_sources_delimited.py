from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from behavior.arrow.values import parse_integers
from behavior.errors import UserError
from behavior.sources.delimited import DelimitedReader, columns_of_header
from behavior.sources.rows import line_starts
from tests.behavior.logs import few, many

Rows = list[tuple[int, bytes, bytes]]


def read(
    block: bytes, separator: str = ",", quote: str | None = '"', encoding: str = "utf-8", width: int = 3
):
    names = ["user", "item", "rest"][:width]
    raw = DelimitedReader(names, ["user", "item"], separator, quote, encoding).read(block)
    users, items = (raw.columns[name].to_pylist() for name in ("user", "item"))
    rows = list(zip(raw.places.tolist(), users, items, strict=True))
    texts = [raw.text_of(index) for index in range(raw.num_rows)]
    return rows, raw.rejects, texts, raw.lines


def fields_of(line: str, separator: str) -> list[str] | None:
    """The fields of one line, letter by letter; None where a quote is not closed."""
    fields, field, place, quoted = [], "", 0, False
    while place < len(line):
        letter = line[place]
        if quoted and letter == '"' and line[place + 1 : place + 2] == '"':
            field, place = field + '"', place + 1
        elif quoted and letter == '"':
            quoted = False
        elif quoted:
            field += letter
        elif letter == separator:
            fields.append(field)
            field = ""
        elif letter == '"' and (place == 0 or line[place - 1] == separator):
            quoted = True
        else:
            field += letter
        place += 1
    return None if quoted else [*fields, field]


@many
@given(st.lists(st.sampled_from(["a", "b", ",", ",", '"', "\n", "\n", "\r\n", " ", "é"]), max_size=40))
@example(['"', "\n", ",", '"', ",", "\n"])
@example(["a", ",", '"', "\n"])
def test_every_line_is_one_row_one_reject_or_blank(letters: list[str]) -> None:
    text = "".join(letters)
    expected, bad = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        fields = fields_of(line, ",")
        if fields is not None and len(fields) == 2:
            expected.append((number, fields[0].encode(), fields[1].encode()))
        elif line.strip():
            bad.append(number)
    rows, rejects, _, lines = read(text.encode(), width=2)
    assert rows == expected
    assert sorted(place for place, _, _ in rejects) == bad
    assert lines == text.count("\n") + (not text.endswith("\n") and text != "")


@few
@given(st.lists(st.sampled_from([b"a,b,c", b'"', b",", b"\r", b"\n", b"\xff", b"\x00", b" "]), max_size=30))
@example([b"\r", b'"'])
@example([b"a,b,c", b"\r", b"a,b,", b'"'])
def test_what_becomes_of_a_line_does_not_depend_on_its_neighbors(pieces: list[bytes]) -> None:
    block = b"".join(pieces)
    rows, rejects, _, _ = read(block)
    alone, bad = [], []
    for number, line in enumerate(block.split(b"\n"), start=1):
        got, refused, _, _ = read(line + b"\n")
        alone += [(number, user, item) for _, user, item in got]
        bad += [(number, text) for _, _, text in refused]
    assert rows == alone
    assert sorted((place, text) for place, _, text in rejects) == bad


@few
@given(st.lists(st.sampled_from(["a", "bc", ":", "::", "::", '"', "\n", "\x1f"]), max_size=40))
def test_a_separator_of_several_characters_splits_as_str_split_does(pieces: list[str]) -> None:
    text = "".join(pieces)
    rows, rejects, texts, _ = read(text.encode(), "::")
    expected, kept, bad = [], [], []
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split("::")
        if len(fields) == 3:
            expected.append((number, fields[0].encode(), fields[1].encode()))
            kept.append(line)
        elif line.strip(" \t\r"):
            bad.append((number, line))
    assert rows == expected
    assert texts == kept
    assert sorted((place, text) for place, _, text in rejects) == bad


def test_all_stand_ins_in_one_file_cost_no_row() -> None:
    text = b"".join(b"u%d::i::%c\n" % (n, mark) for n, mark in enumerate(b"\x1f\x1e\x1d\x1c\x01\x02"))
    rows, rejects, _, _ = read(text, "::")
    assert [user for _, user, _ in rows] == [b"u0", b"u1", b"u2", b"u3", b"u4", b"u5"]
    assert rejects == []


NUMBERS = """
0 -0 +7 007 0x10 0X1f 7.0 7.5 1e3 nan NA null - + . _ x 9223372036854775807 9223372036854775808 "8"
-9223372036854775808 00000000000000000000000000000000000007
"""
BLANKS = ["", " ", " 7", "7 ", '" 7"', "7\t", "\xa07", "7\x00", "\u0663"]
numberlike = st.integers(-(2**65), 2**65).map(str) | st.sampled_from([*NUMBERS.split(), *BLANKS])


@many
@given(st.lists(numberlike, min_size=1, max_size=4))
def test_asking_for_whole_numbers_changes_no_value(texts: list[str]) -> None:
    block = "".join(f"{text},x\n" for text in texts).encode()
    results = []
    for integers in (set(), {"user"}):
        raw = DelimitedReader(["user", "item"], ["user", "item"], ",", '"', "utf-8", integers).read(block)
        values, good = parse_integers(raw.columns["user"])
        results.append((raw.places.tolist(), values.to_pylist(), good.tolist(), raw.rejects))
    assert results[0] == results[1]


def test_a_column_that_is_never_whole_numbers_is_not_tried_for_ever() -> None:
    reader = DelimitedReader(["user", "item"], ["user", "item"], ",", None, "utf-8", {"user", "item"})
    kinds = [str(reader.read(block).columns["item"].type) for block in (b"1,2\n", *[b"1,x\n"] * 3, b"1,2\n")]
    assert kinds == ["int64", "binary", "binary", "binary", "binary"]


def test_wrong_column_counts_are_rejected_with_line_reason_and_text() -> None:
    rows, rejects, _, _ = read(b"1,2,3\n4,5\n6,7,8,9\n1,1,1")
    assert rows == [(1, b"1", b"2"), (4, b"1", b"1")]
    assert rejects == [
        (2, "2 fields where 3 are expected", "4,5"),
        (3, "4 fields where 3 are expected", "6,7,8,9"),
    ]


def test_an_unbalanced_quote_costs_its_own_line_only() -> None:
    rows, rejects, _, _ = read(b'1,"2\n3,4\n5,"6"\n"7,8\n', width=2)
    assert rows == [(2, b"3", b"4"), (3, b"5", b"6")]
    assert [(place, text) for place, _, text in rejects] == [(1, '1,"2'), (4, '"7,8')]
    assert {reason for _, reason, _ in rejects} == {"a quote is not closed"}


def test_an_unbalanced_quote_in_a_column_nobody_reads_is_found_too() -> None:
    rows, rejects, _, _ = read(b'1,2,"x\n3,4,y\n5,6,"z')
    assert rows == [(2, b"3", b"4")]
    assert [place for place, _, _ in rejects] == [1, 3]


def test_a_carriage_return_is_no_line_end_of_ours() -> None:
    rows, rejects, _, lines = read(b'a,b\rc,d\n"x\ny",z\n', width=2)
    assert rows == [(3, b'y"', b"z")]
    assert [place for place, _, _ in rejects] == [1, 2]
    assert rejects[0][1] == "a carriage return within the line"
    assert lines == 3


def test_quotes_can_be_switched_off() -> None:
    rows, rejects, _, _ = read(b'"1,2\n3,"4"\n', quote=None, width=2)
    assert rows == [(1, b'"1', b"2"), (2, b"3", b'"4"')]
    assert rejects == []


def test_a_line_of_separators_is_a_row_and_not_a_blank_line() -> None:
    for separator in ("\t", ",", " "):
        rows, rejects, _, _ = read(
            f"1{separator}2\n{separator}\n\n3{separator}4\n".encode(), separator, width=2
        )
        assert rows == [(1, b"1", b"2"), (2, b"", b""), (4, b"3", b"4")]
        assert rejects == []
    rows, rejects, _, _ = read(b"1\t2\t3\n\t\n", "\t")
    assert [place for place, _, _ in rejects] == [2]


def test_blank_lines_and_windows_line_ends_keep_line_numbers_right() -> None:
    rows, rejects, texts, lines = read(b"1,2,3\r\n\r\n   \r\n\n4,5,6\r\n")
    assert rows == [(1, b"1", b"2"), (5, b"4", b"5")]
    assert (rejects, texts, lines) == ([], ["1,2,3", "4,5,6"], 5)


def test_bytes_that_are_not_text_cost_their_own_line_only() -> None:
    rows, rejects, _, _ = read(b"1,2\n\xff\xfe,3\n4,5\n", width=2)
    assert rows == [(1, b"1", b"2"), (3, b"4", b"5")]
    [(place, reason, text)] = rejects
    assert (place, text) == (2, "\\xff\\xfe,3")
    assert "not utf-8" in reason
    assert "byte 0" in reason


@pytest.mark.parametrize("separator", [",", "§", "¬¬"])
def test_latin_1_with_any_separator(separator: str) -> None:
    rows, rejects, texts, _ = read(
        f"né{separator}ü\n".encode("latin-1"), separator, encoding="latin-1", width=2
    )
    assert rows == [(1, "né".encode(), "ü".encode())]
    assert (rejects, texts) == ([], [f"né{separator}ü"])


@given(st.binary(max_size=50) | st.lists(st.sampled_from([b"\n", b"a"]), max_size=9).map(b"".join))
def test_line_starts(text: bytes) -> None:
    lines = text.split(b"\n")[: text.count(b"\n") + (not text.endswith(b"\n") and text != b"")]
    assert line_starts(text).tolist() == [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines))]


def test_header() -> None:
    assert columns_of_header('user,"a, b", c ', ",", '"', "f") == ["user", "a, b", "c"]
    assert columns_of_header("user::item", "::", '"', "f") == ["user", "item"]
    with pytest.raises(UserError, match="names the column 'a' twice"):
        columns_of_header("a,b,a", ",", None, "f")
    with pytest.raises(UserError, match="is not a header"):
        columns_of_header("a" * 200_000 + ",b", ",", '"', "f")
