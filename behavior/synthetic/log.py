"""A generated log: the tables a company would have, and the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from behavior.synthetic.config import SyntheticConfig
from behavior.synthetic.world import Ints, World
from behavior.synthetic.write import write_log


@dataclass(frozen=True)
class Trace:
    """Every event by index, user after user, each user's in time order; and the latent states."""

    offsets: Ints  # [users + 1]
    item: Ints  # [events]
    behavior: Ints  # [events], 0 = first step of the funnel
    timestamp: Ints  # [events], unix seconds
    new_session: NDArray[np.bool_]  # [events]
    interest: Ints  # [events], latent
    persona: Ints  # [users], latent
    segment: Ints  # [users], the user feature: the persona, or noise; -1 where it is missing


@dataclass(frozen=True)
class SyntheticLog:
    """A synthetic log.

    - `events`: user int64, item string, behavior string, timestamp int64 in unix seconds, and domain string
      where there are several; users one after another, each in order of time.
    - `items`: item string, category string, tags list<string>, price float64, null where missing; title
      string, of which the spec makes no feature.
    - `users`: user int64, segment string; null where missing.
    - `world`, `trace`: the planted parameters, and all events and latent states by index. Index `i` of an
      item or user is row `i` of its table.
    """

    config: SyntheticConfig
    events: pa.Table
    items: pa.Table
    users: pa.Table
    world: World
    trace: Trace

    def write(self, folder: str | Path, *, event_files: int = 4) -> Path:
        """Write the log as raw files with the spec that prepares them; returns the path of the spec.

        `events-<n>.csv.gz` in order of time (ties in the user's order), `items.csv` with tags separated by
        `|`, `users.csv`, `spec.yaml`.

        Raises:
            UserError: the folder holds other files already, or cannot be written.
        """
        return write_log(self.config, self.events, self.items, self.users, Path(folder), event_files)
