"""What kind of file a name says it is."""

from __future__ import annotations

from os import PathLike
from pathlib import PurePath

from behavior.errors import UsageError

KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}
"""What a file is, by the end of its name."""
_COMPRESSED = (".gz", ".zst", ".zstd")


def kind_of(path: str | PathLike[str], flag: str) -> str:
    """Parquet, JSON lines, CSV or TSV, by the name; how it is compressed does not matter.

    Raises:
        UsageError: by none of them.
    """
    suffixes = [suffix.lower() for suffix in PurePath(path).suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in KINDS:
        raise UsageError(
            f"what kind of file '{path}' is cannot be told by its name",
            where=flag,
            fix="let the name end in .parquet, .jsonl, .csv or .tsv",
        )
    return KINDS[suffixes[-1]]
