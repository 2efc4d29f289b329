"""Globs become files."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import fsspec

from behavior.config import nearest
from behavior.errors import UserError
from behavior.shards.remote import storage_errors
from behavior.spec.dataset_spec import FileFormat


@dataclass(frozen=True)
class InputFile:
    """One file of the input."""

    path: str
    name: str
    """Relative to the input folder, for messages and digests."""
    size: int
    modified: str


def expand(form: FileFormat, base: str) -> list[InputFile]:
    """The files a list of paths and globs stands for: in the order of the list, globs sorted by name.

    A glob is one listing, sizes and times included; no file is opened. Hidden files are no match of it.

    Raises:
        UserError: a path or glob stands for nothing.
    """
    found: dict[str, InputFile] = {}
    root = fsspec.core.url_to_fs(base)[1]
    for pattern in form.files:
        full = pattern if "://" in pattern or pattern.startswith("/") else f"{base.rstrip('/')}/{pattern}"
        try:
            filesystem, path = fsspec.core.url_to_fs(full)
        except (ImportError, ValueError) as error:
            raise UserError(f"'{full}' cannot be accessed: {error}", where="files of the spec") from None
        is_glob, entries = _looked_up(filesystem, path)
        if not entries:
            what = f"no file matches '{pattern}'" if is_glob else f"there is no file '{full}'"
            fix = _one_above(filesystem, root, pattern) or _near_files(filesystem, path)
            raise UserError(what, where=f"files of the spec, looked up in {base}", fix=fix)
        for each, info in entries:
            modified = info.get("mtime") or info.get("updated") or info.get("LastModified") or ""
            url = filesystem.unstrip_protocol(each) if "://" in full else each
            found.setdefault(
                url, InputFile(url, _relative(each, root) or url, int(info["size"] or 0), str(modified))
            )
    return list(found.values())


def _looked_up(
    filesystem: fsspec.AbstractFileSystem, path: str
) -> tuple[bool, list[tuple[str, dict[str, Any]]]]:
    """Whether a path is a glob, and the files that it stands for.

    Raises:
        UserError: the storage does not let them be seen, or there are no credentials.
    """
    try:
        with storage_errors():
            is_glob = any(mark in path for mark in "*?[") and not filesystem.exists(path)
            return is_glob, _entries(filesystem, path, is_glob)
    except FileNotFoundError:  # of a glob: there is no bucket
        return True, []
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be read: {error.strerror or error}",
            where="files of the spec",
            fix="check the permissions, and the bucket",
        ) from None


def _followed(filesystem: fsspec.AbstractFileSystem, path: str, info: dict[str, Any]) -> dict[str, Any]:
    """What a listing says of a file; of a symbolic link, which a listing does not follow, what it leads to.

    Raises:
        UserError: it leads nowhere.
    """
    if not info.get("islink"):
        return info
    try:
        return dict(filesystem.info(path))
    except FileNotFoundError:
        raise UserError(
            f"'{path}' is a link to a file that is not there",
            where="files of the spec",
            fix="restore the file, or remove the link",
        ) from None


def _entries(
    filesystem: fsspec.AbstractFileSystem, path: str, is_glob: bool
) -> list[tuple[str, dict[str, Any]]]:
    """Path and description of each file."""
    if is_glob:
        listed = sorted(filesystem.glob(path, detail=True).items())
        entries = [
            (name, _followed(filesystem, name, info)) for name, info in listed if not _is_hidden(name, path)
        ]
        return [(name, info) for name, info in entries if info["type"] == "file"]
    try:
        with storage_errors():
            info = filesystem.info(path)
    except PermissionError as error:
        raise UserError(
            f"'{path}' cannot be read: {error.strerror or error}",
            where="files of the spec",
            fix="check the permissions",
        ) from None
    except OSError:
        return []
    if info["type"] == "directory":
        raise UserError(
            f"'{path}' is a folder, not a file",
            where="files of the spec",
            fix=f"name the files in it: '{path}/*'",
        )
    if info["type"] != "file":
        raise UserError(
            f"'{path}' is not a file",
            where="files of the spec",
            fix="name a file: a pipe or a device cannot be read twice",
        )
    return [(path, info)]


def _is_hidden(path: str, pattern: str) -> bool:
    """Whether a match of a glob is hidden, or in a folder that is.

    As in a shell, Spark and pyarrow, a wildcard matches no name that begins with a dot or an underscore
    (partitions such as _day=1 aside), and no checksum (.crc). A pattern that begins likewise does.
    """
    parts = pattern.split("/")
    fixed = next(place for place, part in enumerate(parts) if any(mark in part for mark in "*?["))
    for name in path.split("/")[fixed:]:
        mark = name[:1] if name.startswith(".") or (name.startswith("_") and "=" not in name) else ""
        likewise = (part for part in parts[fixed:] if mark and part.startswith(mark))
        if mark and not any(fnmatchcase(name, part) for part in likewise):
            return True
    return path.endswith(".crc") and not pattern.endswith(".crc")


def _relative(path: str, root: str) -> str | None:
    try:
        return str(PurePosixPath(path).relative_to(root))
    except ValueError:
        return None


def _one_above(filesystem: fsspec.AbstractFileSystem, root: str, pattern: str) -> str | None:
    """What to do where the spec's path names the folder of the input, too; None where that is not it."""
    above, _, name = root.rstrip("/").rpartition("/")
    if not above or pattern.partition("/")[0] != name or "/" not in pattern:
        return None
    try:
        if not _looked_up(filesystem, f"{above}/{pattern}")[1]:
            return None
    except UserError:
        return None
    folder = filesystem.unstrip_protocol(above).removeprefix("file://")
    return f"the spec's path begins with '{name}/' already: use --input {folder}"


def _near_files(filesystem: fsspec.AbstractFileSystem, path: str) -> str:
    folder = path.rpartition("/")[0]
    try:
        with storage_errors():
            there = [entry.rpartition("/")[2] for entry in filesystem.ls(folder, detail=False)]
    except (OSError, ValueError):
        return f"there is no folder '{folder}' either; check the paths, or --input"
    if not there:
        return f"the folder '{folder}' is empty"
    close = nearest(path.rpartition("/")[2], there)
    listed = f"the folder has: {', '.join(sorted(there)[:10])}" + (", ..." if len(there) > 10 else "")
    return f"did you mean '{close}'? {listed}" if close else listed
