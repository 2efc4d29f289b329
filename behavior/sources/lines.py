"""One user a line: the user's id, then the items in order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.sources.delimited import to_utf8
from behavior.sources.raw import RawBatch
from behavior.sources.rows import line_starts

USER = "user"
ITEM = "item"


class SequenceLinesReader:
    """Turns blocks of sequence lines into raw batches with the columns `user` and `item`, one row an event.

    Args:
        separator: between the ids of a line; several in a row count as one.
        encoding: of the text.
    """

    def __init__(self, separator: str, encoding: str) -> None:
        self.separator = separator
        self.encoding = encoding

    def read(self, block: bytes) -> RawBatch:
        """Parse one block of whole lines."""
        text, rejects = to_utf8(block, self.encoding)
        starts = line_starts(text)
        lines = pa.array(text.decode("utf-8").split("\n")[: len(starts)], pa.string())
        fields = pc.split_pattern(pc.utf8_trim(lines, self.separator + " \r\t"), self.separator)
        flat, line_of = pc.list_flatten(fields), pc.list_parent_indices(fields).to_numpy()
        filled = pc.not_equal(flat, "").to_numpy(zero_copy_only=False)
        flat, line_of = flat.filter(pa.array(filled)), line_of[filled]
        is_user = np.ones(len(line_of), bool)
        is_user[1:] = line_of[1:] != line_of[:-1]
        counts = np.bincount(line_of, minlength=len(starts))
        for line in np.flatnonzero(counts == 1):
            rejects.append((int(line) + 1, "a user without items", lines[int(line)].as_py().rstrip("\r")))
        users = flat.filter(pa.array(is_user))
        per_event = np.cumsum(is_user)[~is_user] - 1
        places = line_of[~is_user] + 1
        columns = {USER: users.take(pa.array(per_event)), ITEM: flat.filter(pa.array(~is_user))}
        return RawBatch(
            columns, places, lambda index: lines[int(places[index]) - 1].as_py(), rejects, lines=len(starts)
        )
