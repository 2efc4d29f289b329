"""Trends: how popular items were of late, at any moment, without looking ahead.

In: events as arrays of items and times. Out: a table of decayed counts, from which the count of any item just
before any time is read by one search.
May import: `behavior.runtime`.

    TrendTable    decayed counts of every item at each of its events
    count_trends  makes the table
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.trends.table import TrendTable, count_trends
else:
    __getattr__, __dir__ = lazy_exports(__name__, {"TrendTable": "table", "count_trends": "table"})

__all__ = ["TrendTable", "count_trends"]
