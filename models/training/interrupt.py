"""Ctrl-C while training: the step is finished, and a checkpoint written, before it counts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether Ctrl-C was pressed.

    Pressed once more it ends the training at once, as it would without this; the last checkpoint holds.
    """

    def __init__(self) -> None:
        self.came = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Take notice of Ctrl-C within the block.

        In another thread than the main one, which no signal reaches, and where the program has a handler of
        its own, nothing is changed.
        """
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or before != signal.default_int_handler:
            yield
            return

        def notice(number: int, frame: FrameType | None) -> None:
            self.came = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, notice)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
