"""Bad rows: every one is accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.flow.memory import prepare_tables
from pipelines.prepare import prepare
from tests.cli.conftest import Lrm, lrm
from tests.pipelines.broken import ONE, check_log, rejected, save
from tests.pipelines.shapes import COLUMNS, make_log, spec_of, write_log

__all__ = ["lrm"]

HUNDRED = ["user,item,behavior,timestamp", *(f"u{n % 7},{n % 9},buy,{n}" for n in range(100))]
for row in (5, 50, 95):
    HUNDRED[row] = "u1,1,buy,soon"


@pytest.mark.parametrize(
    ("limit", "fine"), [(3, True), (2, False), (0.03, True), (0.029, False), (1.0, True), (0, False)]
)
def test_a_limit_on_rejects_is_a_count_or_a_share(limit: float, fine: bool, lrm: Lrm, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("\n".join(HUNDRED))
    spec = spec_of(max_rejects=limit)
    flags = ("--max-rejects", limit, "--workers", 1)
    # The flag goes before the spec, be it stricter or not.
    other = save(spec_of(max_rejects=0 if fine else 1.0), tmp_path / "spec.yaml")
    found = lrm("prepare", other, "--out", tmp_path / "flag", *flags)
    if fine:
        assert prepare(spec, str(tmp_path), tmp_path / "out", runner=ONE).manifest.counts.rejected == 3
        assert (found.code, prepare_tables(spec, tmp_path).counts.rejected) == (0, 3)
        return
    message = "3 of 100 rows were rejected, more than max_rejects"
    with pytest.raises(UserError, match=message) as error:
        prepare(spec, str(tmp_path), tmp_path / "out", runner=ONE)
    assert "log.csv line 6: timestamp 'soon' is not a whole number" in str(error.value.where)
    with pytest.raises(UserError, match=message):
        prepare_tables(spec, tmp_path)
    assert (found.code, message in found.err) == (1, True)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "flag").exists()


def test_the_flag_takes_a_percentage_and_nothing_silly(lrm: Lrm, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("\n".join(HUNDRED))
    command = ("prepare", save(spec_of(), tmp_path / "spec.yaml"), "--out", tmp_path / "out")
    command += ("--workers", 1, "--max-rejects")
    assert lrm(*command, "2%").code == 1
    for silly in ("many", "-1", "1.5", "nan", "101%"):
        found = lrm(*command, silly)
        assert (found.code, "neither a number of rows nor a share" in found.err) == (2, True), silly
    assert lrm(*command, "3%").code == 0


def test_every_bad_row_of_text_is_kept_with_file_line_reason_and_text(tmp_path: Path) -> None:
    log = make_log(20, 60)
    write_log(tmp_path / "log.csv", log, ["user", "item", "behavior", "timestamp"])
    lines = (tmp_path / "log.csv").read_bytes().split(b"\n")
    bad = {
        3: (b"u1,2,buy", "3 fields where 4 are expected"),
        10: (b"u1,2,buy,1700000000,9", "5 fields where 4 are expected"),
        11: (b",2,buy,1700000000", "user (empty)"),
        20: (b"u1,,buy,1700000000", "item (empty)"),
        30: (b"u1,2,sell,1700000000", "behavior 'sell' is not in the spec"),
        31: (b"u1,2,buy,soon", "timestamp 'soon' is not a whole number"),
        40: (b"u\xff,2,buy,1700000000", "not utf-8"),
    }
    for line, (text, _) in bad.items():
        lines.insert(line - 1, text)
    (tmp_path / "log.csv").write_bytes(b"\n".join(lines))
    spec = spec_of(max_rejects=len(bad))
    prepare(spec, str(tmp_path), tmp_path / "out")
    found = rejected(tmp_path / "out")
    assert [(r["file"], r["line"]) for r in found] == [("log.csv", line) for line in bad]
    for record, (text, reason) in zip(found, bad.values(), strict=True):
        assert reason in record["reason"]
        assert record["text"].encode() == text.replace(b"\xff", rb"\xff")
    check_log(tmp_path / "out", spec, log, len(bad))


def test_every_bad_row_of_json_and_parquet_is_kept(tmp_path: Path) -> None:
    good = [{"user": f"u{n % 5}", "item": str(n % 6), "behavior": "buy", "timestamp": n} for n in range(90)]
    rows = [dict(row) for row in good[:60]]
    rows[7]["user"], rows[33]["item"], rows[41]["behavior"] = None, None, "sell"
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    lines = [json.dumps(row) for row in good[60:]]
    lines[4], lines[9] = '{"user": "u1", "item"', '{"user": "u1", "behavior": "buy", "timestamp": 5}'
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    source = {"columns": COLUMNS, "behavior": {"column": "behavior"}}
    spec = spec_of(
        events=[{**source, "files": "a.parquet"}, {**source, "files": "b.jsonl"}], max_rejects=5, shards=2
    )
    prepare(spec, str(tmp_path), tmp_path / "out")
    found = rejected(tmp_path / "out")
    places = [(r["file"], r.get("row_group"), r.get("row"), r.get("line")) for r in found]
    assert places == [
        ("a.parquet", 0, 7, None),
        ("a.parquet", 1, 13, None),
        ("a.parquet", 2, 1, None),
        ("b.jsonl", None, None, 5),
        ("b.jsonl", None, None, 10),
    ]
    reasons = [
        "user (empty)",
        "item (empty)",
        "behavior 'sell' is not in the spec",
        "not JSON",
        "item (empty)",
    ]
    for record, reason in zip(found, reasons, strict=True):
        assert reason in record["reason"]
    assert "'item': '1'" in found[0]["text"]
    assert [record["text"] for record in found[3:]] == [lines[4], lines[9]]
    log = [row for n, row in enumerate(good) if n not in (7, 33, 41, 64, 69)]
    check_log(tmp_path / "out", spec, log, 5)
