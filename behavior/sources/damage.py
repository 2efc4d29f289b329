"""Bad files: those of which nothing can be read, and those that are cut off or damaged halfway."""

from __future__ import annotations

from behavior.errors import UserError
from behavior.sources.raw import Reject

SKIP_HINT = "`lrm prepare --skip-bad-files` sets such files aside"


class UnreadableFileError(UserError):
    """A file of which nothing can be used: it cannot be opened, or is not what the spec says.

    Whoever skips bad files turns it into a reject by `reject`.
    """

    def reject(self, path: str, name: str) -> Reject:
        """One reject for the whole file, at line 0.

        Args:
            path: the file.
            name: how messages name it: what is rejected must not depend on where the input lies.
        """
        return Reject(name, 0, self.what.replace(path, name), "")

    def with_hint(self) -> UnreadableFileError:
        """The same, with a mention of the flag that would pass over the file."""
        if SKIP_HINT in (self.fix or ""):
            return self
        fix = f"{self.fix}; {SKIP_HINT}" if self.fix else SKIP_HINT
        return UnreadableFileError(self.what, where=self.where, fix=fix)

    def without_hint(self) -> UserError:
        """The same for a file that cannot be passed over, such as a table's."""
        fix = (self.fix or "").replace(SKIP_HINT, "").removesuffix("; ")
        return UserError(self.what, where=self.where, fix=fix or None)


class DamagedFileError(UserError):
    """A compressed file ends too early or is damaged within.

    Attributes:
        reason: what became of the rest, in words, for the reject.
        tail: what came before the damage on the line where reading stopped.
    """

    reason = ""
    tail = b""


def unreadable(path: str, problem: object, fix: str = "get the file again") -> UnreadableFileError:
    """The error for a file that cannot be read at all."""
    return UnreadableFileError(f"'{path}' cannot be read: {problem}", fix=f"{fix}; {SKIP_HINT}")


def damaged(path: str, problem: str, tail: bytes) -> DamagedFileError:
    """The error for a file that can be read up to some line."""
    error = DamagedFileError(
        f"'{path}' cannot be read to its end: {problem}",
        fix="the file may be cut off or damaged: get it again",
    )
    error.reason = f"the file is cut off or damaged here: what follows is lost: {problem}"
    error.tail = tail
    return error
