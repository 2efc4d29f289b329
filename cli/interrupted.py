"""What there is to do after Ctrl-C, which each command knows best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

AGAIN = "run the same command again"

_said: list[str] = []


@contextmanager
def advised(advice: str | Callable[[], str]) -> Iterator[None]:
    """Around work that Ctrl-C may end: what to do then; a function is asked when that has happened."""
    try:
        yield
    except KeyboardInterrupt as error:
        # Work that has had something to do about it says what.
        done = [str(error)] if str(error) else []
        _said[:] = ["; ".join([*done, advice if isinstance(advice, str) else advice()])]
        raise


def take_advice() -> str:
    """What the work that was interrupted has to say; empty where it has nothing."""
    advice = "".join(_said)
    _said.clear()
    return advice
