"""Dead letters as text: rejected rows in few bytes, ready to be written but for the number of their line.

A chunk knows how many lines it has, not how many are before it. So what comes before and after the number is
kept, column by column, and put together by Arrow once the number is known: many rejects cost little more than
few.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from json.encoder import encode_basestring
from operator import itemgetter

import pyarrow as pa
import pyarrow.compute as pc

from behavior.printable import printable_json
from behavior.sources.raw import MAX_TEXT, Reject

SCHEMA = pa.schema(
    [
        ("head", pa.dictionary(pa.int32(), pa.large_string())),
        ("place", pa.int64()),
        ("counted", pa.bool_()),
        ("tail", pa.large_string()),
    ]
)
"""What comes before the number and after it; whether the lines of the chunks before are added to it."""
_FILE_OF, _PLACE = itemgetter(0, 4), 1
"""Of a `Reject`: by place, since there may be many."""


def letters_of(rejects: list[Reject]) -> pa.RecordBatch:
    """Rejects as columns of `SCHEMA`."""
    heads, codes = list[str](), list[int]()
    for (file, row_group), own in groupby(rejects, key=_FILE_OF):
        codes += [len(heads)] * sum(1 for _ in own)
        heads.append(_head(file, row_group))
    head = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(heads, pa.large_string()))
    place = pa.array([reject[_PLACE] for reject in rejects], pa.int64())
    # 0 stands for a file as a whole; rows of Parquet count in their group.
    in_group = pa.array([row_group is not None for *_, row_group in rejects], pa.bool_())
    counted = pc.and_not(pc.not_equal(place, 0), in_group)
    tails = [
        f', "reason": {_quoted(reason)}, "text": {_quoted(text[:MAX_TEXT])}}}\n'
        for _, _, reason, text, _ in rejects
    ]
    return pa.RecordBatch.from_arrays(
        [head, place, counted, pa.array(tails, pa.large_string())], schema=SCHEMA
    )


def text_of(letters: pa.RecordBatch, before: int) -> pa.Buffer:
    """The lines of a file of dead letters (`Reject.to_json`), UTF-8, each with its line feed.

    Args:
        letters: from `letters_of`.
        before: lines of the file before the chunk.
    """
    if not letters.num_rows:
        return pa.py_buffer(b"")
    place = pc.add(letters.column("place"), pc.multiply(letters.column("counted").cast(pa.int64()), before))
    head = letters.column("head").cast(pa.large_string())
    joined = pc.binary_join_element_wise(
        head, place.cast(pa.large_string()), letters.column("tail"), pa.scalar("", pa.large_string())
    )
    offsets = joined.buffers()[1]
    ends = pa.Array.from_buffers(pa.int64(), len(joined) + 1, [None, offsets])
    return joined.buffers()[2][: ends[-1].as_py()]


def rejects_in(letters: pa.RecordBatch) -> Iterator[Reject]:
    """The inverse of `letters_of`, one by one."""
    for row in range(letters.num_rows):
        yield Reject.from_json(text_of(letters.slice(row, 1), 0).to_pybytes())


@lru_cache(maxsize=64)
def _head(file: str, row_group: int | None) -> str:
    where = {"file": file} if row_group is None else {"file": file, "row_group": row_group}
    number = '"line": ' if row_group is None else '"row": '
    return f"{printable_json(where)[:-1]}, {number}"


def _quoted(text: str) -> str:
    plain = text.isascii() and text.isprintable()
    return encode_basestring(text) if plain else printable_json(text)
