"""Packing: sequences are bin-packed to a budget, so that no token is padding and packs cost alike.

In: lengths (integers, or Arrow lists). Out: the number of each sequence's pack, or packs over ranks.
May import: nothing but the root's modules.

    pack_sequences          pieces of sequences in packs, an object that packs Arrow lists
    pack_lengths            the number of each sequence's pack: fewest packs (best fit decreasing)
    pack_in_order, NextFit  the same in input order (next fit), for an array and for a stream
    Cost                    cost = linear * n + quadratic * n^2, in place of tokens
    spread, fill_packs      items over parts, a loader's pool over the next packs
    deal_packs              packs over ranks, step by step
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.packing.balance import RankedPacks, deal_packs, fill_packs, spread
    from behavior.packing.cost import TOKENS, Cost
    from behavior.packing.pack import NextFit, pack_in_order, pack_lengths, pack_sequences
    from behavior.packing.packs import Packs
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "TOKENS": "cost",
            "Cost": "cost",
            "NextFit": "pack",
            "Packs": "packs",
            "RankedPacks": "balance",
            "deal_packs": "balance",
            "fill_packs": "balance",
            "pack_in_order": "pack",
            "pack_lengths": "pack",
            "pack_sequences": "pack",
            "spread": "balance",
        },
    )

__all__ = [
    "TOKENS",
    "Cost",
    "NextFit",
    "Packs",
    "RankedPacks",
    "deal_packs",
    "fill_packs",
    "pack_in_order",
    "pack_lengths",
    "pack_sequences",
    "spread",
]
