"""Numbers and nouns of sentences that users read."""

from __future__ import annotations


def number_of(count: int, noun: str, several: str | None = None) -> str:
    """`1 epoch`, `2 epochs`, `1,000 entries`: a count, with commas between thousands, and what is counted.

    Args:
        count: how many.
        noun: of one, with whatever follows it in the sentence.
        several: the same of any other number; None: `noun` and an s.
    """
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"
