"""A file that is hashed as it is written."""

from __future__ import annotations

import hashlib
from typing import Any


class HashingFile:
    """A writable binary file that computes checksum and size of what passes through, as pyarrow's sink.

    Attributes:
        bytes: bytes written so far.
        closed: whether the writer is done with it. `Folder.create` closes the file behind it.
    """

    def __init__(self, file: Any, *, checksum: bool = True) -> None:
        self._file = file
        self._digest = hashlib.sha256() if checksum else None
        self.bytes = 0
        self.closed = False

    @property
    def sha256(self) -> str:
        """SHA-256 of what was written, in hexadecimal.

        Raises:
            ValueError: the file was created without a checksum.
        """
        if self._digest is None:
            raise ValueError("the file was created without a checksum")
        return self._digest.hexdigest()

    def write(self, data: Any) -> int:
        """Write anything that has a buffer; returns its size in bytes."""
        view = memoryview(data)
        self._file.write(view)
        if self._digest is not None:
            self._digest.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Position, which is the number of bytes written."""
        return self.bytes

    def flush(self) -> None:
        """Nothing to do: the file is complete when `Folder.create` ends, and not seen before."""

    def close(self) -> None:
        """The writer is done."""
        self.closed = True

    def readable(self) -> bool:
        """No."""
        return False

    def seekable(self) -> bool:
        """No."""
        return False

    def writable(self) -> bool:
        """Until closed."""
        return not self.closed
