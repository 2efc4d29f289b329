"""Work that holds much memory is done by few threads of a process at once, whatever the engine asks for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from behavior.runtime.cores import usable_cores
from pipelines.threads import one_of_few


def test_few_at_once() -> None:
    lock, working, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal working, most
        with one_of_few():
            with lock:
                working += 1
                most = max(most, working)
            time.sleep(0.02)
            with lock:
                working -= 1

    allowed = max(2, usable_cores())
    with ThreadPoolExecutor(4 * allowed) as pool:
        list(pool.map(work, range(8 * allowed)))
    assert most == allowed
