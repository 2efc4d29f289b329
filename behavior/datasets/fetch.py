"""Fetching the data of a ready spec: download, check, unpack."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from behavior.datasets.disk import make_folder
from behavior.datasets.download import Progress, download, verify
from behavior.datasets.sources import Check, Source, SourceFile, layout_of, source_of, spec_of
from behavior.datasets.unpack import unpack
from behavior.datasets.web import size_of
from behavior.errors import UserError


@dataclass(frozen=True)
class Fetched:
    """One file that was fetched.

    Attributes:
        path: the file.
        bytes: its size.
        verified: how it was compared with what is published: sha256, md5, size, or none where nothing is.
        was_there: it was there before, and is the published one as far as one can tell.
        members: what was taken out of it.
    """

    path: Path
    bytes: int
    verified: str
    was_there: bool
    members: list[Path]

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"path": str(self.path), "members": [str(member) for member in self.members]}


def fetch(
    name: str,
    folder: Path,
    *,
    variant: str | None = None,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Fetched]:
    """Fetch the files that a ready spec reads.

    Files that are there and right stay, so that the call can be repeated until it succeeds.

    Args:
        name: of the ready spec.
        folder: where to put the files; is made where there is none.
        variant: size or category, where the data set has several.
        progress: see `behavior.datasets.download`.
        sleep: waits some seconds between attempts; for tests.

    Raises:
        UserError: whatever hinders: an unknown name, a license that people must agree to in person, the
            network, the disk, or a file that is not the published one.
    """
    source = source_of(name)
    if source.by_hand is not None:
        raise _by_hand(name, source)
    files = source.files_of(variant)
    make_folder(folder)
    return [_fetch_one(file, source.check_of(file), folder, progress, sleep) for file in files]


def _fetch_one(
    file: SourceFile,
    check: Check,
    folder: Path,
    progress: Progress | None,
    sleep: Callable[[float], None],
) -> Fetched:
    target = folder / file.name
    was_there = target.exists()
    if was_there:
        how = _verify_present(target, check, file.url)
    else:
        how = download(file.url, target, check, progress=progress, sleep=sleep)
    members = [] if file.unpack == "none" else unpack(target, file.unpack, file.members, folder)
    return Fetched(target, target.stat().st_size, how, was_there, members)


def _verify_present(target: Path, check: Check, url: str) -> str:
    """Check a file that is there; where nothing is published about it, against the server's size.

    So that another variant of the same name is not taken for this one.
    """
    if check == Check():
        check = Check(bytes=size_of(url))
    try:
        return verify(target, check)
    except UserError as error:
        raise UserError(
            f"'{target}' is there already and is not the published file: {error.what}",
            where="--out",
            fix="remove it, or name another folder",
        ) from None


def _by_hand(name: str, source: Source) -> UserError:
    spec = spec_of(name)
    files = ", ".join(layout_of(spec))
    return UserError(
        f"'{name}' has to be downloaded by hand: {source.by_hand}",
        where=spec.homepage,
        fix=f"put {files} into one folder; then: lrm prepare {name} --input FOLDER --out DIR",
    )
