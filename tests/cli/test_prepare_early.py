"""`lrm prepare` starts what its workers are forked from before it reads its flags, where it is wanted."""

from __future__ import annotations

import sys

import pytest

from behavior.runtime import forks
from cli.prepare import begin_early


@pytest.mark.parametrize(
    ("arguments", "cores", "begun"),
    [
        ("prepare spec.yaml --out x", 8, True),
        ("prepare spec.yaml --out x", 1, False),
        ("prepare spec.yaml --out x --workers 2", 1, True),
        ("prepare --workers=2 spec.yaml --out=x", 1, True),
        ("prepare spec.yaml --out x --workers 1", 8, False),
        ("prepare spec.yaml --out x --workers two", 8, False),
        ("prepare spec.yaml --out x --workers", 8, False),
        ("prepare --help", 8, False),
        ("prepare spec.yaml --out x --runner=FlinkRunner", 8, False),
        ("prepare spec.yaml --out x --runner FlinkRunner", 8, False),
        ("prepare spec.yaml --out x -- --job_name=y", 8, False),
        ("prepare --out x --finish", 8, False),
        ("train --data x", 8, False),
        ("", 8, False),
    ],
)
def test_when(arguments: str, cores: int, begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(forks, "FROM_CORES", 4)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr("behavior.runtime.memory.few_collections", lambda: None)
    monkeypatch.setattr(forks, "start_ahead", started.append)
    monkeypatch.setattr(forks, "thread_count", lambda _: cores)
    begin_early(arguments.split())
    assert started == ([["pipelines.work:ready_for_any"]] if begun else [])
