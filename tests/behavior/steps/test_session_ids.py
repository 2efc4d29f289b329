"""Session ids of the log become numbers of each user's sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import behavior
from behavior.errors import UserError
from behavior.flow.previous import reasons_against
from tests.behavior.logs import few, folder_of, make_spec

SOURCE = {"columns": {"user": "user", "item": "item", "timestamp": "time", "session": "visit"}}
events = st.tuples(st.sampled_from("uv"), st.integers(0, 9), st.sampled_from(["a", "b", "007", "7"]))


@few
@given(st.lists(events, min_size=1, max_size=12))
def test_numbers_against_plain_python(log: list[tuple[str, int, str]]) -> None:
    text = "".join(f"{user},i,{time},{visit}\n" for user, time, visit in log)
    with folder_of(log__csv="user,item,time,visit\n" + text) as folder:
        data = behavior.prepare_tables(make_spec(SOURCE), folder)
    expected = {}
    for user in {user for user, *_ in log}:
        own = [visit for _, visit in sorted([(t, v) for u, t, v in log if u == user], key=lambda e: e[0])]
        expected[user] = [list(dict.fromkeys(own)).index(visit) for visit in own]
    assert {row["user"]: row["session"] for row in data.sequences.to_pylist()} == expected


def test_an_event_without_a_session_is_rejected_and_settings_exclude_each_other() -> None:
    with folder_of(log__csv="user,item,time,visit\nu,a,1,x\nu,b,2,\n") as folder:
        data = behavior.prepare_tables(make_spec(SOURCE, max_rejects=1), folder)
        assert [reject.reason for reject in data.rejects] == ["session (empty) is not an id"]
    with pytest.raises(UserError, match=r"either columns.session or sessions"):
        make_spec(SOURCE, sessions={"gap": 5})
    assert "columns.session: session ids are not stored" in reasons_against(make_spec(SOURCE))


def test_the_data_set_is_read_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time,visit\nu,a,1,x\nu,b,2,y\nu,a,3,x\n")
    shards = behavior.prepare(make_spec(SOURCE), tmp_path / "out", tmp_path)
    [table] = list(shards.iter_sequences(["session"]))
    assert table.column("session").to_pylist() == [[0, 1, 0]]
