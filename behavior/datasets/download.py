"""Download of one file: resumed where it broke off, tried again, checked, and only then given its name."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from behavior.datasets.disk import BLOCK_BYTES, open_to_write, require_space, write
from behavior.datasets.sources import Check
from behavior.datasets.web import BrokenOffError, ask, content_length
from behavior.errors import UserError

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are there, and those there will be (None: not known)."""

PART = ".part"
_ATTEMPTS = 5


@dataclass(frozen=True)
class _State:
    """What must hold for a partial file to be continued; kept beside it."""

    url: str
    validator: str | None
    """The server's mark of this version of the file: a strong ETag, or a date."""

    @staticmethod
    def path(part: Path) -> Path:
        return part.with_name(part.name + ".json")

    @classmethod
    def read(cls, part: Path) -> _State | None:
        try:
            record = json.loads(cls.path(part).read_text(encoding="utf-8"))
            return cls(str(record["url"]), record["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # without it the download begins anew, which is never wrong

    def save(self, part: Path) -> None:
        with open_to_write(self.path(part), "wb") as handle:
            text = json.dumps({"url": self.url, "validator": self.validator})
            write(handle, text.encode(), self.path(part))


def download(
    url: str,
    target: Path,
    check: Check,
    *,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Download a file.

    What has arrived lies in `target` + ".part" until it is whole and right. A broken transfer is continued
    there, in this call or in a later one, if the server can send the rest and says that the file has not
    changed. Tried again are lost connections and busy servers, with growing pauses, until five attempts in a
    row have brought nothing.

    Args:
        url: the address (HTTP or HTTPS).
        target: the file to make.
        check: its published size and checksum.
        progress: called after every block.
        sleep: waits some seconds; for tests.

    Returns:
        How the file was checked: see `verify`.

    Raises:
        UserError: no connection, no such file, no space, or not the published file.
    """
    part = target.with_name(target.name + PART)
    failures = 0
    while True:
        before = _size(part)
        try:
            _transfer(url, part, target.name, check, progress)
            break
        except BrokenOffError as problem:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= _ATTEMPTS:
                raise UserError(
                    f"the download failed: {problem.reason}",
                    where=url,
                    fix="check the network; the same command later goes on where it stopped",
                ) from None
            sleep(max(problem.wait, 2.0 ** (failures - 1)))
    try:
        how = verify(part, check)
    except UserError as error:
        _forget(part)
        raise UserError(
            error.what, where=url, fix="run the same command again; if it fails again, the file has changed"
        ) from None
    os.replace(part, target)
    _State.path(part).unlink(missing_ok=True)
    return how


def verify(path: Path, check: Check) -> str:
    """Check a file against what is published about it.

    Returns:
        The strongest check there was: sha256, md5, size, or none.

    Raises:
        UserError: it is another file.
    """
    size = path.stat().st_size
    if check.bytes is not None and size != check.bytes:
        raise UserError(f"the file has {size:,} bytes, the published one {check.bytes:,}", where=str(path))
    for algorithm, expected in (("sha256", check.sha256), ("md5", check.md5)):
        if expected is not None:
            found = _digest(path, algorithm)
            if found != expected:
                raise UserError(f"wrong checksum: {algorithm} {found}, published {expected}", where=str(path))
            return algorithm
    return "size" if check.bytes is not None else "none"


def _transfer(url: str, part: Path, name: str, check: Check, progress: Progress | None) -> None:
    """One attempt: fill up the partial file."""
    state = _State.read(part)
    have = _size(part)
    # Without the server's mark only a checksum can tell that both halves belong together.
    certain = state is not None and (state.validator or check.md5 or check.sha256)
    if state is None or state.url != url or not certain:
        have = 0
    with ask(url, _headers(have, state)) as response:
        if response.status == 416:
            _require_end(response, part, have)
            return
        start = _start_of(response, have)
        if start and state is not None and state.validator not in (None, _validator(response)):
            _forget(part)  # a server that does not heed If-Range
            raise BrokenOffError("the file has changed on the server; starting anew")
        length = content_length(response)
        total = None if length is None else start + length
        if check.bytes is not None and total is not None and total != check.bytes:
            raise UserError(
                f"the server has a file of {total:,} bytes, the published one has {check.bytes:,}",
                where=url,
                fix="the file has changed: see the home page of the data set",
            )
        if total is not None:
            require_space(part.parent, total - start, f"'{name}'")
        if not start:
            part.unlink(missing_ok=True)  # before the new mark, which does not hold for old bytes
        _State(url, _validator(response)).save(part)
        _receive(response, part, start, lambda done: progress and progress(name, done, total))
    if total is not None and _size(part) < total:
        raise BrokenOffError(f"the connection broke off after {_size(part):,} of {total:,} bytes")


def _receive(response: IO[bytes], part: Path, start: int, tell: Callable[[int], Any]) -> None:
    """Write what is sent to the partial file, from byte `start` on."""
    with open_to_write(part, "r+b" if start else "wb") as handle:
        handle.seek(start)
        handle.truncate()
        done = start
        while True:
            tell(done)
            try:
                block = response.read(BLOCK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise BrokenOffError(f"the connection broke off: {error}") from None
            if not block:
                return
            write(handle, block, part)
            done += len(block)


def _headers(have: int, state: _State | None) -> dict[str, str]:
    """Headers that ask for the file from byte `have` on, if it is still the same; otherwise for all of it."""
    if not have:
        return {}
    headers = {"Range": f"bytes={have}-"}
    if state is not None and state.validator:
        headers["If-Range"] = state.validator
    return headers


def _start_of(response: Any, have: int) -> int:
    """Position of the first byte that is sent."""
    if response.status != 206:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None or int(match.group(1)) != have:
        raise UserError("the server returned another byte range than requested", where=response.url)
    return have


def _require_end(response: Any, part: Path, have: int) -> None:
    """Check that there is nothing after byte `have`: the partial file is whole."""
    if response.headers.get("Content-Range") != f"bytes */{have}":
        _forget(part)
        raise BrokenOffError("the partial file does not fit the server's; starting anew")


def _validator(response: Any) -> str | None:
    etag = response.headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):  # a weak one does not promise equal bytes
        return str(etag)
    return response.headers.get("Last-Modified")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _State.path(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as handle:
        while block := handle.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
