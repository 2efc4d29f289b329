"""Where data sets and intermediate files live: a local folder, or one of any `fsspec` file system.

This is the one place that writes output. Every file appears under its name whole or not at all, and a job
that is tried again replaces what its first attempt left.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import pyarrow as pa

from behavior.errors import UserError
from behavior.files import check_regular
from behavior.shards.hashing import HashingFile
from behavior.shards.remote import move, open_system, remove_all, storage_errors

# Their uploads become visible when they are complete, so no temporary name is needed; they have no folders.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs"}
_LOCAL_PREFIXES = ("file://", "local://")
# pyarrow writes page headers of a few bytes between pages of megabytes.
_BUFFER_BYTES = 1 << 20
_TEMPORARY = ".tmp"
_TEMPORARY_NAME = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(_TEMPORARY)}")


def is_temporary(name: str) -> bool:
    """Whether a file has the name, without its folder, that `Folder.create` gives to one it is writing."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Folder:
    """A folder for output, local or remote; small, so that it travels to workers.

    Names within it are relative and have forward slashes. Folders between are made as they are needed.

    Attributes:
        url: an absolute local path without scheme, or `scheme://...` of a file system `fsspec` knows.

    Raises:
        UserError: the URL is empty; from all methods: the file system is unknown, its package is not
            installed, or there are no credentials. All else is an `OSError`.
    """

    url: str

    def __post_init__(self) -> None:
        url = str(self.url)
        for prefix in _LOCAL_PREFIXES:
            url = url.removeprefix(prefix)
        if not url:
            raise UserError("the path of a folder is empty", fix="name a folder")
        if "://" not in url:
            url = str(Path(url).absolute())
        elif not url.endswith("://"):
            url = url.rstrip("/")
        object.__setattr__(self, "url", url)

    def __str__(self) -> str:
        return self.url

    @property
    def is_local(self) -> bool:
        """Whether it is reached through the operating system (mounted folders too)."""
        return "://" not in self.url

    @property
    def path(self) -> Path:
        """The local folder.

        Raises:
            ValueError: it is not local.
        """
        if not self.is_local:
            raise ValueError(f"'{self.url}' is not a local folder")
        return Path(self.url)

    def child(self, name: str) -> Folder:
        """The folder `name` within this one."""
        return Folder(self.where(name))

    def where(self, name: str = "") -> str:
        """How messages name a file."""
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    @storage_errors()
    def exists(self, name: str) -> bool:
        """Whether there is a file (or folder) of this name."""
        if self.is_local:
            return (self.path / name).exists()
        system, path = self._remote(name)
        system.invalidate_cache()  # listings are remembered, and other processes write too
        return bool(system.exists(path))

    @storage_errors()
    def size(self, name: str) -> int:
        """Size of a file in bytes.

        Raises:
            FileNotFoundError: there is none.
        """
        if self.is_local:
            return (self.path / name).stat().st_size
        system, path = self._remote(name)
        system.invalidate_cache()
        return int(system.size(path))

    def names(self, prefix: str = "") -> list[str]:
        """Names of all files, those in folders within included, that begin with a prefix; sorted."""
        return list(self.sizes(prefix))

    @storage_errors()
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Name -> size in bytes of all files that begin with a prefix, sorted by name."""
        top = prefix.rpartition("/")[0]
        found = self._local_sizes(top) if self.is_local else self._remote_sizes(top)
        return dict(sorted(pair for pair in found if pair[0].startswith(prefix)))

    def _local_sizes(self, top: str) -> Iterator[tuple[str, int]]:
        for folder, _, files in os.walk(self.path / top):
            inner = Path(folder).relative_to(self.path).as_posix()
            for file in files:
                with suppress(FileNotFoundError):  # it may go, and be a dangling link
                    size = os.stat(os.path.join(folder, file)).st_size
                    yield (file if inner == "." else f"{inner}/{file}"), size

    def _remote_sizes(self, top: str) -> Iterator[tuple[str, int]]:
        system, root = self._remote()
        system.invalidate_cache()
        start = f"{root.rstrip('/')}/"
        try:
            for path, info in system.find(f"{start}{top}".rstrip("/"), detail=True).items():
                # Some systems list a folder as an empty file, and answer with or without a leading slash.
                outside, found, name = path.lstrip("/").partition(start.lstrip("/"))
                if found and not outside and name and not name.endswith("/"):
                    yield name, int(info["size"])
        except FileNotFoundError:
            return

    @storage_errors()
    def remove(self, name: str) -> None:
        """Remove a file; that it is not there is fine."""
        with suppress(FileNotFoundError):
            if self.is_local:
                (self.path / name).unlink()
            else:
                system, path = self._remote(name)
                system.rm_file(path)

    @storage_errors()
    def remove_tree(self, name: str = "") -> None:
        """Remove a file or a folder with all that is in it; that it is not there is fine."""
        with suppress(FileNotFoundError):
            if not self.is_local:
                system, path = self._remote(name)
                system.invalidate_cache()
                remove_all(system, path)
            elif (self.path / name).is_dir():
                shutil.rmtree(self.path / name)
            else:
                (self.path / name).unlink()

    def remove_empty(self, name: str) -> None:
        """Remove a folder in which there is nothing; one with anything in it stays."""
        if self.is_local:
            with suppress(OSError):
                (self.path / name).rmdir()
        elif not self.names(f"{name}/"):
            self.remove_tree(name)  # which only some file systems have

    @storage_errors()
    def make(self) -> None:
        """Make the folder and those above it, where the file system has folders."""
        if self.is_local:
            self.path.mkdir(parents=True, exist_ok=True)
        elif not self._is_object_store:
            system, path = self._remote()
            system.makedirs(path, exist_ok=True)

    @storage_errors()
    def rename(self, source: str, target: str) -> None:
        """Rename a file within the folder; a file that has the new name is replaced.

        On object stores this copies, so that for a moment both are there.
        """
        if self.is_local:
            (self.path / target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.path / source, self.path / target)
            return
        self._make_parent(target)
        system, path = self._remote(source)
        system.invalidate_cache()
        move(system, path, self._remote(target)[1])

    @storage_errors()
    def read_bytes(self, name: str) -> bytes:
        """The contents of a file."""
        if self.is_local:
            return self._local_file(name).read_bytes()
        system, path = self._remote(name)
        return cast(bytes, system.cat_file(path))

    def read_text(self, name: str) -> str:
        """The contents of a UTF-8 file."""
        return self.read_bytes(name).decode("utf-8")

    @storage_errors()
    def open(self, name: str, *, cache_type: str = "readahead") -> BinaryIO:
        """Open a file for reading; it can seek.

        Args:
            name: of the file.
            cache_type: fsspec's name for what of a remote file is fetched beyond what is asked for.
        """
        if self.is_local:
            return self._local_file(name).open("rb")
        system, path = self._remote(name)
        return cast(BinaryIO, system.open(path, "rb", cache_type=cache_type))

    def input_file(self, name: str) -> Any:
        """A file as pyarrow reads it best: a memory map of a local one. A context manager, like any file."""
        return pa.memory_map(str(self._local_file(name))) if self.is_local else self.open(name)

    def sha256(self, name: str) -> str:
        """SHA-256 of a file's contents, in hexadecimal."""
        if self.is_local:
            with self._local_file(name).open("rb") as local:
                return hashlib.file_digest(local, "sha256").hexdigest()
        digest = hashlib.sha256()
        with self.open(name) as file:  # remote files cannot `readinto` everywhere, as `file_digest` does
            while block := file.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 file whole or not at all, in place of one that is there."""
        self.write_bytes(name, text.encode("utf-8"))

    @storage_errors()
    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, in place of one that is there."""
        if self._is_object_store:
            system, path = self._remote(name)
            system.pipe_file(path, data)  # one request
            return
        with self.create(name) as file:
            file.write(data)

    @contextmanager
    def create(self, name: str, *, checksum: bool = True) -> Iterator[HashingFile]:
        """Write a file that appears, in place of one that is there, when the block ends without an exception.

        Size and, unless it is not wanted, checksum are computed on the way: they stand in the yielded file
        after the block.
        """
        if self._is_object_store:
            yield from self._upload(name, checksum)
            return
        # A dot, an ending of its own, and nothing of the name: no glob finds it, no other attempt writes to
        # it, and it is never too long.
        head, slash, _ = name.rpartition("/")
        temporary = f"{head}{slash}.{uuid.uuid4().hex}{_TEMPORARY}"
        file = self._open_new(temporary)
        sink = HashingFile(file, checksum=checksum)
        try:
            yield sink
            file.close()
            self.rename(temporary, name)
        except BaseException:
            # What went wrong is on its way; that the rest cannot be cleared away must not take its place.
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                self.remove(temporary)
            raise

    def _open_new(self, name: str) -> Any:
        if self.is_local:
            local = self.path / name
            local.parent.mkdir(parents=True, exist_ok=True)
            return local.open("wb", buffering=_BUFFER_BYTES)
        self._make_parent(name)
        system, path = self._remote(name)
        return system.open(path, "wb")

    def _upload(self, name: str, checksum: bool) -> Iterator[HashingFile]:
        """`create` on an object store: closing completes the upload, discarding leaves no trace."""
        system, path = self._remote(name)
        with storage_errors():
            file = system.open(path, "wb")
            try:
                yield HashingFile(file, checksum=checksum)
                file.close()
            except BaseException:
                with suppress(Exception):
                    file.discard()
                file.closed = True  # or the garbage collector would close, and so complete it
                raise

    @property
    def _is_object_store(self) -> bool:
        return self.url.partition("://")[0] in _OBJECT_STORES and not self.is_local

    def _make_parent(self, name: str) -> None:
        if not self._is_object_store:
            self.child(name.rpartition("/")[0]).make()

    def _local_file(self, name: str) -> Path:
        """Where a file is that is to be read.

        Raises:
            OSError: it is none, but a pipe, say, which would be waited for.
        """
        check_regular(self.path / name)
        return self.path / name

    def _remote(self, name: str = "") -> tuple[Any, str]:
        """The file system and a path in it."""
        system, root = open_system(self.url)
        return system, f"{root.rstrip('/')}/{name}" if name else root


FolderLike: TypeAlias = Folder | Path | str
"""What functions that take a folder accept."""


def as_folder(place: FolderLike) -> Folder:
    """A `Folder` for a local path or a URL."""
    return place if isinstance(place, Folder) else Folder(str(place))
