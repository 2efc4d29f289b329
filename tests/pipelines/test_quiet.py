"""A job leaves the process that it runs in as it was."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import numba
import pyarrow as pa
import pytest

from behavior.errors import UserError
from pipelines.prepare import prepare
from pipelines.quiet import dead_workers_passed_over
from pipelines.runner import RunnerOptions
from tests.pipelines.conftest import make_spec


def state() -> tuple[object, ...]:
    pools = pa.cpu_count(), pa.io_thread_count(), numba.get_num_threads()
    return threading.excepthook, list(logging.getLogger().handlers), pools


@pytest.mark.parametrize("name", ["local", "DirectRunner"])
@pytest.mark.parametrize("workers", [0, 1])
def test_what_belongs_to_the_process_is_as_before(name: str, workers: int, raw: Path, tmp_path: Path) -> None:
    before, runner = state(), RunnerOptions(name, workers=workers)
    prepare(make_spec(), str(raw), tmp_path / "out", runner=runner)
    assert state() == before
    with pytest.raises(UserError):
        prepare(make_spec(max_rejects=0), str(raw), tmp_path / "out2", runner=runner)
    assert state() == before


IMPORTS = """
import logging, sys
import pipelines.prepare, pipelines.append, pipelines.finish
assert "apache_beam" not in sys.modules and "grpc" not in sys.modules
before = list(logging.getLogger().handlers)
logging.getLogger("apache_beam").warning("shown")
import pipelines.execution, pipelines.boot, apache_beam
assert logging.getLogger().handlers == before
logging.getLogger("apache_beam").warning("and this")
assert logging.getLogger("apache_beam").level == logging.NOTSET
assert type(apache_beam.__loader__).__name__ == "SourceFileLoader", apache_beam.__loader__
assert not [finder for finder in sys.meta_path if finder.__class__.__module__.startswith("pipelines")]
"""


def test_a_local_run_needs_no_beam_and_its_import_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["shown", "and this"]


def fail() -> None:
    raise RuntimeError("of a thread")


def test_only_threads_that_talk_to_workers_fail_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that outlive the job by little too."""
    shown: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: shown.append(failure.thread.name))
    usual = threading.excepthook
    go = threading.Event()
    with dead_workers_passed_over():
        late = threading.Thread(target=lambda: (go.wait(), fail()), name="run_worker")
        late.start()
        for name in ("read_grpc_client_inputs", "run_worker_1-1", "read_state", "mine"):
            thread = threading.Thread(target=fail, name=name)
            thread.start()
            thread.join()
        threading.Timer(0.2, go.set).start()
    assert not late.is_alive()
    assert shown == ["mine"]
    assert threading.excepthook is usual
