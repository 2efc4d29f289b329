"""The one error type that is meant for the user's eyes."""

from __future__ import annotations

from behavior.printable import printable


class UserError(Exception):
    """Something the user can put right: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 1. Programs may read the three
    parts as attributes; as a string, control characters in them are escaped.

    Args:
        what: one sentence that says what is wrong.
        where: the file, line, column, field or flag it concerns.
        fix: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

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


def _rebuild(cls: type[UserError], what: str, where: str | None, fix: str | None) -> UserError:
    return cls(what, where=where, fix=fix)
