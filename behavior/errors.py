"""The one error type that is meant for the user's eyes."""

from __future__ import annotations

from behavior.printable import cut, printable

_MOST = 1_000
_MOST_ADVICE = 4_000  # it may list all settings there are


class UserError(Exception):
    """Something the user can put right: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 1. Programs may read the three
    parts as attributes; as a string, control characters in them are escaped. What is longer than a line of
    text is cut.

    Args:
        what: one sentence that says what is wrong.
        where: the file, line, column, field or flag it concerns.
        fix: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        # What was read may be one line of megabytes.
        self.what = cut(what, _MOST)
        self.where = None if where is None else cut(where, _MOST)
        self.fix = None if fix is None else cut(fix, _MOST_ADVICE)
        super().__init__(self.what, self.where, self.fix)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments do not survive Exception's default pickling, and errors cross process borders.
        return (_rebuild, (type(self), self.what, self.where, self.fix))

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  to do: {self.fix}")
        return printable("\n".join(lines))


class UsageError(UserError):
    """The command line itself is wrong: a value that a flag cannot have, flags that exclude each other.

    Not what it names, such as a file that is missing. The command line exits with code 2.
    """


def _rebuild(cls: type[UserError], what: str, where: str | None, fix: str | None) -> UserError:
    return cls(what, where=where, fix=fix)
