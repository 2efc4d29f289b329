"""Cached histories: keys and values of every layer, a user and event, so that new events alone are computed.

In go users, their new events as a `PackedBatch`, questions and candidates; out come queries and outputs as
the model gives them of whole histories. `growing` is what all caches are: `history_cache` is that of
retrieval, `ranked` that of ranking. `pages` is its memory, `directory` who is in which page and who has to
leave, `histories` what they have told, `window` which events are computed, `events` what is kept of them,
`tokens` which tokens these are.

`calls` makes of all that a `call`, told in one copy (`parcel`); `values` makes of it the columns of events,
`passes` and, of layouts with several sequences a user, `scattered` compute it, `past` is what attention sees,
and `replays` records passes whose shapes come again.
"""

from models.serving.cache.counts import CacheCounts
from models.serving.cache.history_cache import HistoryCache
from models.serving.cache.ranked import RankingCache

__all__ = ["CacheCounts", "HistoryCache", "RankingCache"]
