"""What `fsspec` file systems need beyond its interface."""

from __future__ import annotations

import errno
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from behavior.errors import UserError

_EXTRAS = {"gs": "gcp", "gcs": "gcp", "s3": "s3", "s3a": "s3"}
_GOOGLE = {"gs", "gcs"}
_TELL_OF_PLACES = ("google.auth._default", "google.auth.compute_engine._metadata")
# Packages whose errors (no credentials, say) are none of the operating system's.
_FORBIDDEN = re.compile(r"Forbidden\b|Access ?Denied\b", re.IGNORECASE)
_FOREIGN_ERRORS = {"aiobotocore", "aiohttp", "botocore", "gcsfs", "google"}


@contextmanager
def storage_errors() -> Iterator[None]:
    """Callers need to know one kind of error only: `OSError`, wherever the folder is.

    Raises:
        PermissionError: with its number, as of a local file: the store forbids it.
        UserError: there are no credentials.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is None and _FORBIDDEN.match(str(error)):
            raise PermissionError(errno.EACCES, " ".join(str(error).split())) from error
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] not in _FOREIGN_ERRORS:
            raise
        if "Credentials" in type(error).__name__:
            fix = "set up the account, on this machine and on the workers, as the storage's own tools need it"
            raise UserError(f"the storage cannot be used: {error}", fix=fix) from error
        raise OSError(str(error)) from error


def open_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, which `fsspec` keeps one of a process, and the path in it.

    Raises:
        UserError: the file system is unknown, or its package is not installed.
    """
    if url.partition("://")[0] in _GOOGLE:
        _hush_google()
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        scheme = url.partition("://")[0]
        extra = _EXTRAS.get(scheme)
        raise UserError(
            f"the file system '{scheme}://' cannot be used: {error}",
            where=url,
            fix=f"pip install 'lrm-kit[{extra}]'" if extra else "install its package, or use another path",
        ) from None
    return system, root


def _hush_google() -> None:
    """While Google's library looks for an account it warns of each place that has none; that there is none at
    all is an error, which is raised."""
    for name in _TELL_OF_PLACES:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Your application has authenticated using end user credentials")


def move(system: Any, source: str, target: str) -> None:
    if type(system).mv is not fsspec.AbstractFileSystem.mv:
        system.mv(source, target)  # one that renames
        return
    # What `mv` would do, but that takes stars and brackets in a name for a glob.
    system.cp_file(source, target)
    system.rm_file(source)


def remove_all(system: Any, path: str) -> None:
    if "/" in path.strip("/") and not any(mark in path for mark in "*?["):
        system.rm(path, recursive=True)
        return
    # `rm` would remove a whole bucket itself, and take a star for a glob and remove what is not meant.
    for file in system.find(path):
        system.rm_file(file)
