"""Worker processes, forked from one process that has imported and compiled what they need.

A process of Python that starts by itself imports for a second, and loads compiled code for half of one. Here
one does so while the caller is still at other things, without any thread, and is forked as often as there are
workers: they start within milliseconds and share its memory. Each is given one call after the other, as soon
as it is done with the last.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any

from behavior.printable import complain
from behavior.runtime.cores import POOLS, thread_count
from behavior.runtime.imports import python_of_our_own, without
from behavior.runtime.memory import few_collections, keep_freed

_SECONDS_TO_END = 5.0
FROM_CORES = 4
"""Threads share one interpreter's lock and one table of memory: with fewer cores, at little cost."""
FROM = "LRM_FORK_FROM_CORES"
"""Environment variable with another number, for measurements."""
FORKED = "LRM_FORKED_WORKER"
"""Environment variable that is set in the process that is forked, and in its workers."""


class WorkerDiedError(Exception):
    """A worker process ended before it was done; often the system ends one for want of memory."""


def processes(asked: int) -> int:
    """How many processes to fork; 0: threads of one process do as well, or none can be forked here.

    Args:
        asked: a number; 0: one a free core, where those are so many that threads wait for each other.
    """
    if not hasattr(os, "fork"):
        return 0
    cores = thread_count(os.environ)
    number = asked or (cores if cores >= int(os.environ.get(FROM, FROM_CORES)) else 0)
    return number if number > 1 else 0


class Forks:
    """Workers that run functions by their names, each with a value that all of them have.

    Args:
        modules: what is imported before they are forked: `module`, or `module:function`, which is called.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._tasks: queue.SimpleQueue[tuple[Future, bytes] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # a signal may come while it is held
        self._pids: list[int] = []
        self._failed: Exception | None = None
        self._threads: list[threading.Thread] = []
        ours, theirs = socket.socketpair()
        command, environment = python_of_our_own(__name__, ",".join(modules), str(theirs.fileno()))
        environment |= {**dict.fromkeys(POOLS, "1"), FORKED: "1"}
        nowhere = subprocess.DEVNULL
        with theirs:
            self._server = subprocess.Popen(
                command,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=nowhere,
                stdout=nowhere,
                stderr=nowhere,
            )
        self._control = Connection(ours.detach())

    def begin(self, number: int, shared: Any, before: Callable[[Any], object], log: Path) -> None:
        """Fork the workers.

        Args:
            number: of workers, from 1.
            shared: the first argument of each call.
            before: called with it once, by the process that is then forked; an error of it is passed over.
            log: file that what they print is added to.
        """
        pairs = [socket.socketpair() for _ in range(number)]
        with suppress(OSError):  # it has ended: so will every call
            self._control.send_bytes(pickle.dumps((str(log), before, shared)))
            self._control.send_bytes(str(number).encode())
            for _, their in pairs:
                send_handle(self._control, their.fileno(), self._server.pid)
        for our, their in pairs:
            their.close()
            connection = Connection(our.detach())
            self._threads.append(
                threading.Thread(target=self._feed, args=(connection,), name="lrm-worker", daemon=True)
            )
            self._threads[-1].start()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Have `function(shared, *arguments)` called by the next worker that is free.

        The future raises what the function raises, or `WorkerDiedError`.
        """
        future: Future = Future()
        self._tasks.put((future, pickle.dumps((function, arguments))))
        return future

    def close(self) -> None:
        """End the workers, which are done or not wanted any more.

        They are not waited for: the system takes their memory back for a while, gigabytes of many workers.
        """
        for _ in self._threads:
            self._tasks.put(None)
        self._control.close()  # the process ends its workers, and then itself
        threading.Thread(target=self._end, name="lrm-workers-end", daemon=True).start()

    def _end(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(_SECONDS_TO_END)
            with self._lock:
                self._pids = []  # by now somebody else may have them
        self.kill()

    def kill(self) -> None:
        """End the workers at once, whatever they are at."""
        with self._lock:
            self._failed = self._failed or WorkerDiedError("the workers were ended")
            self._server.kill()
            self._server.wait()
            for pid in self._pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._pids = []

    def _feed(self, connection: Connection) -> None:
        """Give one worker call after call, until there are no more or it ends."""
        try:
            with suppress(EOFError, OSError):
                pid = int(connection.recv_bytes())
                with self._lock:
                    self._pids.append(pid)
                    if self._failed is not None:
                        os.kill(pid, signal.SIGKILL)
            while (task := self._tasks.get()) is not None:
                self._call(connection, *task)
        finally:
            connection.close()

    def _call(self, connection: Connection, future: Future, call: bytes) -> None:
        if self._failed is not None:
            future.set_exception(self._failed)
            return
        try:
            connection.send_bytes(call)
            good, result = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            # Its part of the work is lost, and so is the whole: the others need do no more of it.
            self._failed = self._failed or WorkerDiedError("a worker process died")
            future.set_exception(self._failed)
            return
        if good:
            future.set_result(result)
        else:
            future.set_exception(result)


_ahead: dict[tuple[str, ...], Forks] = {}


def start_ahead(modules: Sequence[str]) -> None:
    """Start what `started` will ask for, unless that is done; it ends with this process, wanted or not."""
    if tuple(modules) not in _ahead:
        _ahead[tuple(modules)] = Forks(modules)


def started(modules: Sequence[str]) -> Forks:
    """`Forks(modules)`, started ahead or now."""
    return _ahead.pop(tuple(modules), None) or Forks(modules)


def _main(modules: str, descriptor: str) -> None:
    """The process that is forked: import, await what all have in common, fork, and end with the caller."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller says when
    keep_freed()
    without("pandas", "scipy")
    for name in filter(None, modules.split(",")):
        module, _, function = name.partition(":")
        found = import_module(module)
        if function:
            getattr(found, function)()
    few_collections()
    control = Connection(int(descriptor))
    try:
        log, before, shared = pickle.loads(control.recv_bytes())
        connections = [Connection(recv_handle(control)) for _ in range(int(control.recv_bytes()))]
    except (EOFError, OSError):
        return
    with open(log, "ab") as printed:
        for stream in (1, 2):
            os.dup2(printed.fileno(), stream)
    try:
        before(shared)
    except Exception:
        complain(traceback.format_exc())
    sys.stderr.flush()
    children = []
    while connections:
        connection = connections.pop()
        pid = os.fork()
        if pid == 0:
            for other in (control, *connections):
                other.close()
            _work(connection, shared)
        connection.close()
        children.append(pid)
    with suppress(EOFError, OSError):
        control.recv_bytes()
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _work(connection: Connection, shared: Any) -> None:
    """A worker: does not return."""
    try:
        connection.send_bytes(str(os.getpid()).encode())
        while True:
            function, arguments = pickle.loads(connection.recv_bytes())
            connection.send_bytes(_answer(function, shared, arguments))
    except (EOFError, OSError):  # the caller is gone
        os._exit(0)
    except BaseException:
        complain(traceback.format_exc())
        os._exit(1)


def _answer(function: Callable[..., Any], shared: Any, arguments: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps((True, function(shared, *arguments)))
    except Exception as error:
        complain(traceback.format_exc())
        sys.stderr.flush()
        try:
            answer = pickle.dumps((False, error))
            pickle.loads(answer)  # not every error comes out again
        except Exception:
            answer = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        return answer


if __name__ == "__main__":
    _main(*sys.argv[1:])
