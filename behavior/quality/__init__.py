"""How good data are: how predictable and repetitive histories are, how skewed the popularity of items is.

In: a shard folder of any size, or arrays of histories. Out: measures of each user, and of the data set
with confidence intervals, in sums of whole numbers that merge in any order (`pipelines.quality` merges them
on Beam).
May import: `behavior.shards`, `behavior.runtime`.

    measure_quality       of a shard folder, a row group at a time
    quality_of_arrays     of histories in memory
    user_quality          of each user: approximate, Lempel-Ziv and Shannon entropy, repeats
    approximate_entropy, match_lengths, lempel_ziv_entropy, shannon_entropy   one measure alone
    QualitySums           what is summed up, with the weights of a Poisson bootstrap
    Popularity            counts of items, and what they say of an event
    DataQuality           the result
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.quality.approximate import approximate_entropy
    from behavior.quality.histories import Part
    from behavior.quality.lempel_ziv import lempel_ziv_entropy, match_lengths
    from behavior.quality.measure import measure_quality, quality_of_arrays
    from behavior.quality.popularity import Popularity
    from behavior.quality.result import DataQuality, Estimate
    from behavior.quality.sums import QualitySums
    from behavior.quality.users import UserQuality, shannon_entropy, user_quality
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "DataQuality": "result",
            "Estimate": "result",
            "Part": "histories",
            "Popularity": "popularity",
            "QualitySums": "sums",
            "UserQuality": "users",
            "approximate_entropy": "approximate",
            "lempel_ziv_entropy": "lempel_ziv",
            "match_lengths": "lempel_ziv",
            "measure_quality": "measure",
            "quality_of_arrays": "measure",
            "shannon_entropy": "users",
            "user_quality": "users",
        },
    )

__all__ = [
    "DataQuality",
    "Estimate",
    "Part",
    "Popularity",
    "QualitySums",
    "UserQuality",
    "approximate_entropy",
    "lempel_ziv_entropy",
    "match_lengths",
    "measure_quality",
    "quality_of_arrays",
    "shannon_entropy",
    "user_quality",
]
