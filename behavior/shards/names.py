"""Names of the files of a data set.

A finished data set is extended or replaced without ever being half: files that change are written under a new
name with a version before the ending (`items@2.parquet`), the manifest that names them is the commit, and
the files that it no longer names go afterwards. Readers ask for files by logical names, without a version.
"""

from __future__ import annotations

import re

SEQUENCES = "sequences"
VOCABULARY = "vocabulary"
REJECTED = "rejected"
ITEMS = "items.parquet"
USERS = "users.parquet"
STATS = "stats.json"
PARTITION_STATS = "buckets.json"

# No name of a feature, and so no logical name, has an at sign.
_VERSION_MARK = re.compile(r"@([1-9][0-9]*)(?=\.[^./@]+(\.gz)?$)")


def sequence_file(partition: int, partitions: int) -> str:
    """Logical name of the sequence file of a hash partition of users.

    >>> sequence_file(3, 8)
    'sequences/part-00003-of-00008.parquet'
    """
    return f"{SEQUENCES}/part-{partition:05d}-of-{partitions:05d}.parquet"


def rejects_file(number: int) -> str:
    """Logical name of the rejected rows of one input file."""
    return f"{REJECTED}/part-{number:05d}.jsonl"


def versioned(name: str, version: int) -> str:
    """The path of a file as a version of the data set writes it.

    >>> versioned("items.parquet", 1), versioned("items.parquet", 2)
    ('items.parquet', 'items@2.parquet')

    Args:
        name: logical name of the file.
        version: of the data set; the first has no mark.
    """
    if version == 1:
        return name
    stem, dot, ending = name.rpartition(".")
    return f"{stem}@{version}{dot}{ending}"


def logical(path: str) -> str:
    """The name of a file without the mark of its version.

    >>> logical("sequences/part-00003-of-00008@2.parquet")
    'sequences/part-00003-of-00008.parquet'
    """
    return _VERSION_MARK.sub("", path)


def version_in(path: str) -> int:
    """The version that a file's name says; 1 where it has no mark.

    >>> version_in("items@12.parquet")
    12
    """
    match = _VERSION_MARK.search(path)
    return int(match.group(1)) if match else 1
