"""Functions of Arrow arrays that know nothing of logs.

In: arrays and record batches. Out: parsed values and which are good, dictionary codes, hash partitions.
May import: `behavior.spec` (units and formats of timestamps).
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.arrow.coded import codes_of, looked_up
    from behavior.arrow.hashing import split_by_hash, stable_hash
    from behavior.arrow.times import parse_times
    from behavior.arrow.values import parse_floats, parse_integers, parse_text
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "codes_of": "coded",
            "looked_up": "coded",
            "parse_floats": "values",
            "parse_integers": "values",
            "parse_text": "values",
            "parse_times": "times",
            "split_by_hash": "hashing",
            "stable_hash": "hashing",
        },
    )

__all__ = [
    "codes_of",
    "looked_up",
    "parse_floats",
    "parse_integers",
    "parse_text",
    "parse_times",
    "split_by_hash",
    "stable_hash",
]
