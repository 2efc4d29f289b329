"""Counts in sentences."""

from __future__ import annotations

import pytest

from behavior.wording import number_of


@pytest.mark.parametrize(
    ("count", "nouns", "words"),
    [
        (0, ("epoch",), "0 epochs"),
        (1, ("epoch",), "1 epoch"),
        (2, ("epoch",), "2 epochs"),
        (1234567, ("event",), "1,234,567 events"),
        (1, ("process", "processes"), "1 process"),
        (1000, ("process", "processes"), "1,000 processes"),
        (1, ("user is", "users are"), "1 user is"),
    ],
)
def test_nouns_agree_with_their_numbers(count: int, nouns: tuple[str, ...], words: str) -> None:
    assert number_of(count, *nouns) == words
