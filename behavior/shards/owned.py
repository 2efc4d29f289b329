"""Which files in an output folder are a data set's or a job's: only names that this program gives.

Whatever else lies there is its owner's, and is never removed, not in the folders of a data set either.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from behavior.errors import UserError
from behavior.shards.names import (
    ITEMS,
    PARTITION_STATS,
    REJECTED,
    SEQUENCES,
    STATS,
    USERS,
    VOCABULARY,
    logical,
    version_in,
)
from behavior.shards.storage import Folder, is_temporary

JOB_FOLDER = ".lrm-job"
"""Where a job keeps what is not for the data set; the mark in it says that the output folder is the job's."""
OWN_FOLDERS = (SEQUENCES, VOCABULARY, REJECTED, JOB_FOLDER)

_FILES = {PARTITION_STATS, ITEMS, USERS, STATS}
# A data set of an early version has no number of parts in its names.
_IN_FOLDERS = re.compile(
    rf"{SEQUENCES}/part-\d+(-of-\d+)?\.parquet"
    rf"|{REJECTED}/(part-\d+|tables)\.jsonl(\.gz)?"
    rf"|{VOCABULARY}/((user|event)\.)?\w+\.parquet"
)
_VOCABULARY_COLUMNS = ["index", "value", "count"]


def is_own(name: str, *, job_only: bool = False) -> bool:
    """Whether this program gives such a name, of whatever version, in the output folder.

    Args:
        name: of a file, relative to the folder.
        job_only: whether what is a data set's does not count: only the work of jobs, and unfinished files.
    """
    folder, slash, last = name.rpartition("/")
    if name.startswith(f"{JOB_FOLDER}/") or (is_temporary(last) and (not slash or folder in OWN_FOLDERS)):
        return True
    plain = logical(name)
    return not job_only and (plain in _FILES or _IN_FOLDERS.fullmatch(plain) is not None)


def may_go(out: Folder, name: str) -> bool:
    """Whether a file of such a name is certainly not the user's own.

    Names of features are the spec's: of a file in `vocabulary/` the columns must be a vocabulary's, too.

    Raises:
        OSError: the file cannot be read.
    """
    if not name.startswith(f"{VOCABULARY}/") or version_in(name) > 1 or is_temporary(name.rpartition("/")[2]):
        return True
    try:
        with closing(out.input_file(name)) as source:
            return [c for c in pq.read_schema(source).names if c != "domain"] == _VOCABULARY_COLUMNS
    except (pa.ArrowException, FileNotFoundError):
        return False


def check_output(out: Folder, inputs: Iterable[str]) -> None:
    """Refuse, before anything is written or removed, a folder that a job cannot use as it lies there.

    Args:
        out: the output folder.
        inputs: paths and URLs of all input files.

    Raises:
        UserError: a folder of a data set is a link, or an input file lies in the output folder.
    """
    refuse_links(out)
    root = _real(str(out))
    for path in inputs:
        if _real(path).startswith(f"{root.rstrip('/')}/"):
            raise UserError(
                "this input file lies in the output folder, which is the data set's own",
                where=path,
                fix="copy it to a folder elsewhere, or name another folder with --out",
            )


def refuse_links(out: Folder) -> None:
    """Refuse a data set of which a folder is a link: what is written there would be found by no reader.

    Raises:
        UserError: which folder is one, and where it leads.
    """
    if not out.is_local:
        return
    for name in OWN_FOLDERS:
        folder = out.path / name
        if folder.is_symlink():
            raise UserError(
                f"'{name}' is a link to '{os.readlink(folder)}', not a folder",
                where=str(folder),
                fix=f"put a folder in its place, with what the link leads to; '{out}' itself may be a link",
            )


def _real(path: str) -> str:
    return path if "://" in path else str(Path(path).resolve())
