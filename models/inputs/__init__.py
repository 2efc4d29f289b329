"""Inputs: from the events of a batch to what a backbone is given, token vectors and `Tokens`.

In: a `PackedBatch` and the `ItemCatalog`. Out: `[tokens, dim]` vectors; where tokens stand, when they ask and
what they may see (`tokens.Tokens`); and the vectors of items, which candidates are scored by.

- `item_features`, `event_features`: one vector an item or event and feature.
- `fusion`, `tower`: item vectors with their features.
- `layout`: which tokens an event becomes (`Layout`); `layouts`: those there are (`LAYOUTS`).
- `embedding`: events to vectors, put together.

May import `behavior`, and of `models`: data, attention (sequences, masks), layers, distributed (item tables).
Backbones import `tokens`.
"""
