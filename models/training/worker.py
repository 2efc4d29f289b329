"""One of several training processes, started by `models.training.launch` as `python -m` this module."""

from __future__ import annotations

import json
import sys

from behavior.errors import UserError
from models.observer import Silent
from models.training.launch import meet
from models.training.run import train_in


def main() -> None:
    """Take part in the training that standard input tells of."""
    job, processes = meet(json.load(sys.stdin))
    try:
        train_in(job, processes, Silent())
    except UserError as error:
        # The first process mostly meets the same error; what this one alone met is told nowhere else.
        print(f"training process {processes.rank}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    finally:
        processes.close()


if __name__ == "__main__":
    main()
