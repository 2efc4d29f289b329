"""Only an earlier table of the same kind is written over."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.sources.replace import check_replaceable

COLUMNS = ("user", "rank")
KINDS = {"a.csv": "csv", "a.csv.gz": "csv", "a.tsv": "tsv", "a.jsonl": "jsonl", "a.parquet": "parquet"}


def write(path: Path, names: tuple[str, ...]) -> None:
    mark = "\t" if path.suffix == ".tsv" else ","
    text = mark.join(f'"{name}"' for name in names) + "\n" + mark.join("1" * len(names)) + "\n"
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [1] for name in names}), path)
    elif path.suffix == ".jsonl":
        path.write_text("{" + ", ".join(f'"{name}": 1' for name in names) + "}\n")
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


@pytest.mark.parametrize("name", KINDS)
def test_tables_with_the_columns_may_go_and_others_may_not(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    check_replaceable(path, KINDS[name], COLUMNS, "--out")  # nothing is there
    for names in (COLUMNS, ("rank", "user", "title")):
        write(path, names)
        check_replaceable(path, KINDS[name], COLUMNS, "--out")
    write(path, ("user", "item"))
    before = path.read_bytes()
    with pytest.raises(UserError, match="is there already, and is something else") as caught:
        check_replaceable(path, KINDS[name], COLUMNS, "--out")
    assert caught.value.where == "--out"
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("content", [b"[1]\n", b"{\n", b"\xff\xfe\x00", b"\n\n", b"PAR1"])
def test_what_is_no_such_table_stays(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is something else"):
        check_replaceable(path, kind, COLUMNS, "--out")
    path.write_bytes(b"")
    check_replaceable(path, kind, COLUMNS, "--out")
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is something else"):
        check_replaceable(path, kind, COLUMNS, "--out")
