"""What is compiled ahead is all that preparing needs: afterwards nothing is compiled or loaded any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from behavior.flow.ahead import compile_ahead
from behavior.flow.preparation import Preparation
from behavior.shards.storage import Folder
from behavior.sources.chunks import Plan
from tests.behavior.logs import make_spec

COMPILED = """
import sys
import numba.core.event as event
from behavior.flow import ahead
from behavior.flow.memory import prepare
from behavior.flow.preparation import Preparation, count_partitions
from behavior.shards.storage import Folder
from behavior.sources.plan import plan_input
from behavior.spec.dataset_spec import load_spec

class Listener(event.Listener):
    found = []
    def on_start(self, happened):
        self.found.append(happened.data["dispatcher"].py_func.__name__)
    def on_end(self, happened):
        pass

event.register("numba:compile", Listener())
ahead.compile_common()
spec, base = load_spec(sys.argv[1])
plan = plan_input(spec, base)
ahead.compile_ahead(Preparation(spec, base, plan, Folder("nowhere"), count_partitions(spec, plan)))
before = len(Listener.found)
prepare(spec, sys.argv[2], base)
print(before, *Listener.found[before:])
"""
SPEC = """
name: shop
events:
  files: log.csv
  columns: {user: user, item: item, timestamp: time}
  behavior: {constant: view}
timestamp_unit: s
behaviors: [view]
targets: [view]
shards: 2
"""


@pytest.mark.slow
def test_nothing_is_left_to_compile(tmp_path: Path) -> None:
    rows = [f"u{n % 7},i{n * 5 % 11},{(n * 37) % 900}" for n in range(400)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows, ""]))
    (tmp_path / "spec.yaml").write_text(SPEC)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", COMPILED, str(tmp_path / "spec.yaml"), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    before, *later = done.stdout.split()
    assert int(before) > 10
    assert not later
    # Little is compiled: each function costs those who prepare a data set for the first time some tenths.
    assert int(before) < 80


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"domains": ["a", "b"], "domain_ids": {"users": "separate", "items": "separate"}},
        {"vocabulary": {"hash_size": 50}},
        {"filters": {"k_core": 2, "duplicates": True, "repeats": True}, "max_events": 9},
        {"split": {"kind": "temporal", "valid_at": 5, "test_at": 9}},
        {"split": {"kind": "random"}},
    ],
)
def test_specs_of_all_forms_take_the_whole_way(changes: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    finish = "behavior.flow.ahead.finish_sequences"
    monkeypatch.setattr(finish, lambda cut, *_: ended.append(cut.num_rows))
    source = {"files": "log.csv"}
    if "domains" in changes:
        source["domain"] = "a"
    spec = make_spec(source, **changes)
    for kind in ("integer", "string"):
        compile_ahead(Preparation(spec, ".", Plan([], [], 0, kind, kind, ""), Folder("nowhere"), 2))
    assert ended == [2, 2]
