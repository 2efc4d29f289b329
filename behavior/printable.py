"""Text of logs, specs and file names as a terminal may show it: control characters are escaped.

A log is text that others wrote. Sent to a terminal as it is, it could clear the screen, set the window's
title, or show lines in another order than they stand in (ECMA-48; bidirectional controls: UAX 9).
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

_CONTROLS = (
    "\x00-\x09\x0b-\x1f"  # C0 but for the line feed
    "\x7f-\x9f"  # delete, and C1: one character that begins a sequence as two of C0 do
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the direction of text
    "\u2028\u2029"  # line and paragraph separator
    "\ud800-\udfff"  # halves of pairs: bytes of a file name that are not UTF-8, which no stream can encode
)
_FOUND = re.compile(f"[{_CONTROLS}]")
_UNDECODED = range(0xDC80, 0xDD00)
"""What Python makes of the bytes 0x80 to 0xff of a name that it cannot decode (PEP 383)."""


def printable(text: str) -> str:
    r"""Text with control characters shown as `\x1b` or `\u202e`; line feeds stay."""
    return _FOUND.sub(_escaped, text)


def printable_json(record: Any, **options: Any) -> str:
    r"""JSON in which control characters are escaped (`\u009b`) and other letters are as they are.

    It is read as the same values. `options` are those of `json.dumps`.
    """
    text = json.dumps(record, ensure_ascii=False, **options)
    return _FOUND.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def cut(text: str, most: int) -> str:
    """Text of so many characters at most, and how many more there were."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most:,} characters more)"


def tell(text: str) -> None:
    """Print a line on standard output, for a process that has no command line."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Print a line on standard error, for a process that has no command line."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code in _UNDECODED:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
