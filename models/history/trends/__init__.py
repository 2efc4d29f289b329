"""Trend logits: items that were popular just before the query compete in the softmax once more.

In: a table of decayed counts (`behavior.trends`), what a backbone knows after each event, and when each query
asks. Out: for training the mass on the target and on the rest (`logits`), for ranking the mass of all items
(`mass`).
"""
