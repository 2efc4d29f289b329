"""Changes of JSON: other values, missing and more keys, huge numbers, depth; and of the text itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**32 + 5),
    *(
        2**53,
        2**63,
        2**64,
        -(2**63) - 1,
        10**400,
        "",
        "x",
        "0",
        "\x00",
        "\x1b[31m",
        "[/]",
        "x" * 5000,
        "é" * 3,
    ),
    *(
        "../../outside/precious.txt",
        "/etc/passwd",
        [],
        {},
        [[]],
        [None],
        {"": None},
        [1, "x"],
        {"a": {"b": 1}},
    ),
]
TEXTS: dict[str, Any] = {
    "empty": lambda text: b"",
    "half": lambda text: text[: len(text) // 2],
    "binary": lambda text: bytes(range(256)),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "twice": lambda text: text + text,
    "null": lambda text: b"null",
    "list": lambda text: b"[" + text + b"]",
    "deep": lambda text: b"[" * 200_000,
    "deep objects": lambda text: b'{"a":' * 200_000,
    "number": lambda text: b"1" * 10_000,
    "surrogate": lambda text: b'{"\\ud800": "\\ud800"}',
}


def mutate_json(text: bytes, rng: Random) -> tuple[bytes, str]:
    """Other text, and what was changed."""
    if rng.random() < 0.15:
        name = rng.choice(sorted(TEXTS))
        return TEXTS[name](text), f"text: {name}"
    record = json.loads(text)
    words = mutate_value(record, rng)
    return json.dumps(record).encode(), words


def mutate_line(text: bytes, rng: Random) -> tuple[bytes, str]:
    """One line of JSON lines changed."""
    lines = text.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    lines[number], words = mutate_json(lines[number], rng)
    return b"".join([*lines[:number], lines[number].rstrip(b"\n") + b"\n", *lines[number + 1 :]]), words


def mutate_value(record: Any, rng: Random) -> str:
    """Change one place of a record, a dict or a list, in place; in words."""
    keys, parent = _place(record, rng)
    if not keys:
        record["more"] = 1
        return "another key"
    key, name = keys[-1], ".".join(map(str, keys))
    kind = rng.choice(["value", "value", "value", "delete", "text", "list", "twice"])
    old = parent[key]
    if kind == "delete":
        del parent[key]
        return f"{name}: deleted"
    if kind == "twice" and isinstance(parent, list):
        parent.append(copy.deepcopy(old))
        return f"{name}: twice"
    parent[key] = {"text": str(old), "list": [old]}.get(kind, rng.choice(VALUES))
    return f"{name}: {str(parent[key])[:60]!r} instead of {str(old)[:60]!r}"


def _place(record: Any, rng: Random) -> tuple[list[Any], Any]:
    """A place at random: its keys, and what holds it. Places of all depths are chosen alike."""
    keys: list[Any] = []
    parent, here = None, record
    while isinstance(here, dict | list) and here and (not keys or rng.random() < 0.8):
        key = rng.choice(sorted(here) if isinstance(here, dict) else range(len(here)))
        keys.append(key)
        parent, here = here, here[key]
    return keys, parent


def change_file(path: Path, rng: Random, *, lines: bool = False) -> str:
    """Change a file in place; in words."""
    content, words = (mutate_line if lines else mutate_json)(path.read_bytes(), rng)
    path.write_bytes(content)
    return f"{path.name}: {words}"
