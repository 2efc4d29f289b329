"""Compiled code on disk that can be damaged, foreign, stale or in the way, and never ends a program.

Numba's own cache believes what it finds. A truncated file then ends every command, a damaged one may end the
process; a full disk or a file that cannot be read is an error; and a change in a file that a function calls,
or takes a constant from, goes unnoticed. Here each entry is one file with a checksum, under a name that
follows from all that its code depends on. What cannot be read, fits not or belongs to somebody else is not
there: the function is compiled anew.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite.binding import address_of_symbol
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from behavior.runtime.ahead import awaited
from behavior.runtime.code_stamp import stamp_of
from behavior.runtime.object_code import undefined_symbols

_MAGIC = b"lrm compiled code 1\n"
_CHECKSUM = hashlib.sha256().digest_size
_VERSIONS = f"numba {numba.__version__}, llvmlite {llvmlite.__version__}, numpy {np.__version__}"


class CodeCache(FunctionCache):
    """The cache of one function.

    Args:
        dispatcher: the function, compiled by `numba.njit`.

    Raises:
        RuntimeError: there is no folder that can be written.
    """

    def __init__(self, dispatcher: Any) -> None:
        super().__init__(dispatcher.py_func)
        self._dispatcher = dispatcher
        self._stamp: str | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code for a signature, or None: compile it."""
        found = self._load(sig, target_context)
        if found is None and awaited(
            self._py_func, lambda: self._path(sig, target_context.codegen()).exists()
        ):
            found = self._load(sig, target_context)
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
        try:
            payload = self._read(sig, target_context.codegen())
            if payload is None:
                return None
            if not _stands_alone(payload, target_context):
                target_context.refresh()
            return self._impl.rebuild(target_context, payload)
        except Exception:  # whatever unpickling finds: it is compiled anew, and then replaced
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled code; without room or rights, this process goes on without."""
        try:
            if self._enabled and self._impl.check_cachable(data):
                self._write(sig, data.codegen, self._impl.reduce(data))
        except Exception:  # a full disk, a folder in its place, rights that went
            self.disable()

    def kept(self) -> bool:
        """Whether code of the function as it is now lies on disk."""
        return self._enabled and any(Path(self.cache_path).glob(f"{self._prefix()}*.nbc"))

    def lacks(self) -> bool:
        """Whether none does, where it could be kept."""
        return self._enabled and not self.kept()

    def flush(self) -> None:
        """Remove all entries of this function."""
        self._remove(keep=None)

    def _read(self, sig: Any, codegen: Any) -> Any:
        if not self._enabled:
            return None
        content = _own_file(self._path(sig, codegen), Path(self._impl.locator._py_file))
        body = content[len(_MAGIC) + _CHECKSUM :]
        if content != _sealed(body):
            return None
        key, payload = pickle.loads(body)
        return payload if key == self._index_key(sig, codegen) else None

    def _write(self, sig: Any, codegen: Any, payload: Any) -> None:
        self._impl.locator.ensure_cache_path()
        path = self._path(sig, codegen)
        partial = path.with_name(f"{path.name}.tmp.{uuid.uuid4().hex[:16]}")
        try:
            partial.write_bytes(_sealed(dumps((self._index_key(sig, codegen), payload))))
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        self._remove(keep=self._prefix())

    def _path(self, sig: Any, codegen: Any) -> Path:
        key = hashlib.sha256(repr(self._index_key(sig, codegen)).encode()).hexdigest()[:16]
        return Path(self.cache_path, f"{self._prefix()}{key}.nbc")

    def _prefix(self) -> str:
        """Of the names of entries for the code as it is: entries with another are stale."""
        if self._stamp is None:
            text = f"{_VERSIONS}\n{self._dispatcher.targetoptions}\n{stamp_of(self._dispatcher)}"
            self._stamp = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"{self._impl.filename_base}.lrm-{self._stamp}-"

    def _remove(self, keep: str | None) -> None:
        for path in Path(self.cache_path).glob(f"{self._impl.filename_base}.lrm-*.nbc"):
            if keep is None or not path.name.startswith(keep):
                with suppress(OSError):
                    path.unlink()


def _stands_alone(payload: Any, target_context: Any) -> bool:
    """Whether compiled code can be loaded as it is: all that it calls is known by its address.

    Numba would first import all that it can compile (and scipy): half a second and more in each process,
    where there is nothing to compile. It does so itself before it compiles.
    """
    _, kind, code = payload[0]
    rtsys.initialize(target_context)
    symbols = undefined_symbols(code[0]) if kind == "object" else None
    return symbols is not None and all(address_of_symbol(name) for name in symbols)


def _sealed(body: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(body).digest() + body


def _own_file(path: Path, source: Path) -> bytes:
    """The content of an ordinary file of this user, of root, or of whoever owns the source: code is run.

    Raises:
        OSError: it is not there, cannot be read, is something else or somebody else's.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        trusted = {0, source.stat().st_uid, *([os.geteuid()] if hasattr(os, "geteuid") else [])}
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in trusted:
            raise PermissionError(f"not one's own file: {path}")
        return file.read()
