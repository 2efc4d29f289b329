"""A look at raw files: what their columns seem to hold, how sure that is, and a spec to start from.

In: paths of raw files. Out: a `Guess`. What it proposes was tried on the first rows by the steps themselves.
May import: everything above it, `flow` included.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.guess.files import guess_file, guess_files
    from behavior.guess.guessed import Guess, GuessedColumn
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {"Guess": "guessed", "GuessedColumn": "guessed", "guess_file": "files", "guess_files": "files"},
    )

__all__ = ["Guess", "GuessedColumn", "guess_file", "guess_files"]
