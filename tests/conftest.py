"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import signal

from hypothesis import HealthCheck, settings

from behavior.runtime import forks

# Before numpy and torch are imported, and for all processes that tests start: workers are as many as
# cores, and more threads would wait for each other. Tests of threads ask for them.
for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# A script starts what it runs in the background with Ctrl-C ignored, and processes that tests start and
# interrupt would be born so. (What nohup ignores is left to tests that ask: `no_signal_ignored`.)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests change functions of this process: those of processes ask for them.
forks.FROM_CORES = 1 << 30


# How long an example takes says how busy a machine is. Tests with settings of their own start from these.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


def pytest_collection_finish() -> None:
    """What has been imported stays: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
