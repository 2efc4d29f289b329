"""What a terminal would obey is escaped, and all else is as it was."""

from __future__ import annotations

import json
import os
import unicodedata

import pytest

from behavior.errors import UserError
from behavior.printable import complain, printable, printable_json


def test_controls_are_escaped_and_nothing_else() -> None:
    for code in range(0x110000):
        letter = chr(code)
        # Cc: C0, delete, C1; Cs: surrogates; Zl and Zp: separators of lines and paragraphs.
        control = letter != "\n" and unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"}
        # Explicit directional formatting characters, of which UAX 9 has twelve.
        control |= unicodedata.bidirectional(letter) in [
            "LRE",
            "RLE",
            "PDF",
            "LRO",
            "RLO",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        ]
        control |= letter in "\u061c\u200e\u200f"
        shown = printable(letter)
        assert (shown != letter) == control, hex(code)
        assert shown.isascii() or shown == letter


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jx", r"\x1b[2Jx"),
        ("\x9b31mred\x07", r"\x9b31mred\x07"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("a\tb\r\nc", "a\\x09b\\x0d\nc"),
        (os.fsdecode(b"\x9b2J\xff.csv"), r"\x9b2J\xff.csv"),
        ("Café 日本 \U0001f600 [/] :smile:", "Café 日本 \U0001f600 [/] :smile:"),
    ],
)
def test_known_text(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_json_has_the_same_values() -> None:
    record = {"na\x9bme": ["\x1b[2J", "\u202e", "é\n", "\udc9b", 1.5, None]}
    text = printable_json(record)
    assert json.loads(text) == record
    assert printable(text) == text
    assert "é" in text


def test_errors_are_escaped_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    error = UserError("no '\x1b[2J'", where="\x9bfile", fix="\u202e")
    assert str(error) == "no '\\x1b[2J'\n  where: \\x9bfile\n  to do: \\u202e"
    assert error.what == "no '\x1b[2J'"
    complain(f"\x9b0m{error.where}")
    assert capsys.readouterr().err == "\\x9b0m\\x9bfile\n"
