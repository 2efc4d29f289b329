"""Workers beside this machine: what differs is told, with the remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipelines.checkup.facts import Facts, Place, facts
from pipelines.checkup.findings import compare

HERE = facts()


def worker(**changes: Any) -> Facts:
    versions = {**HERE.versions, **changes.pop("versions", {})}
    return replace(HERE, **{"pid": 7, "host": "far", "compiled": "kept", **changes}, versions=versions)


def test_facts_survive_the_way_back() -> None:
    one = worker(places=[Place("/in", "read"), Place("/out", "write", "no", "fix")])
    assert Facts.from_json(one.to_json()) == one
    assert "\n" not in one.to_json()


def test_like_workers_have_nothing_wrong() -> None:
    other = {
        "cores": 1,
        "memory": 1,
        "pool": "far:1",
        "worker": "1-1",
        "versions": {"torch": None, "gcsfs": "1"},
    }
    assert compare(HERE, [worker(), worker(**other)]) == []


@pytest.mark.parametrize(
    ("changes", "what", "fix", "wrong"),
    [
        ({"python": "3.9.1"}, "workers have Python 3.9.1, this machine", "same minor version", True),
        ({"versions": {"apache-beam": "2.1"}}, "workers have apache-beam 2.1", "install apache-beam==", True),
        ({"versions": {"apache-beam": None}}, "workers have no installed apache-beam", "install", True),
        ({"versions": {"lrm-kit": "0.0.9"}}, "workers have lrm-kit 0.0.9", "", True),
        ({"versions": {"pyarrow": "1.0"}}, "workers have pyarrow 1.0", "install pyarrow==", False),
        ({"versions": {"numba": None}}, "workers have no installed numba", "install numba==", True),
        ({"code": "other"}, "workers have other files of lrm-kit", "install it anew", False),
        ({"compiled": "not kept"}, "workers cannot keep compiled code", "NUMBA_CACHE_DIR", False),
        ({"compiled": "OSError: no llvm"}, "Numba does not work there: OSError: no llvm", "llvmlite", True),
        (
            {"places": [Place("/in", "read", "Permission denied", "a right"), Place("/out", "write")]},
            "a worker cannot read '/in': Permission denied",
            "a right",
            True,
        ),
    ],
)
def test_differences(changes: dict[str, Any], what: str, fix: str, wrong: bool) -> None:
    [found] = compare(HERE, [worker(), worker(**changes, pid=8), worker(**changes, pid=9)])
    assert found.what.startswith(what)
    assert fix in found.fix
    assert found.wrong == wrong
    assert found.where in ("workers on far", "--input")
    assert found.error().what == found.what


def test_a_pool_that_task_managers_share() -> None:
    """Each gives its first worker the same name; those of a machine with pools of their own do as well."""
    shared = [worker(pool="far:1", worker="1-1", pid=pid) for pid in (7, 8)]
    [found] = compare(HERE, shared)
    assert found.wrong
    assert "share one worker pool" in found.what
    assert "far:1" in found.where
    assert compare(HERE, [shared[0], replace(shared[1], pool="far:2")]) == []
    assert compare(HERE, [shared[0], replace(shared[1], worker="1-2")]) == []
    assert compare(HERE, [replace(one, pool="") for one in shared]) == []


def test_what_is_wrong_comes_first() -> None:
    found = compare(HERE, [worker(code="other", python="2.7.1")])
    assert [finding.wrong for finding in found] == [True, False]
