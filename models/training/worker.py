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
    except UserError:
        sys.exit(1)  # the first process meets the same error, and tells it
    finally:
        processes.close()


if __name__ == "__main__":
    main()
