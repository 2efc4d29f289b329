"""Features of items, users and events: raw columns become ids and numbers.

In: raw feature columns, counts in the training part. Out: encoded columns, vocabularies, manifest entries.
May import: `spec`, `arrow`, `shards` (entries of the manifest).

columns     raw values in one form for each kind
fit         what must be known of all values first: mergeable, so that Beam can run it
encode      values into what the shards hold
coverage    how many values a table and its features have; too few are an error
vocabulary  ids by descending count, of items, users and categorical features
tables      all of it for the item and user tables
"""

from behavior.features.columns import canonical, domain_names, matched
from behavior.features.encode import FIRST_ID, MISSING, Encoder, restore
from behavior.features.fit import Fitter
from behavior.features.fitters import fitter_of
from behavior.features.quantiles import priorities_of
from behavior.features.tables import EncodedFeatures, encode_features
from behavior.features.vocabulary import IdCounts, Vocabulary

__all__ = [
    "FIRST_ID",
    "MISSING",
    "EncodedFeatures",
    "Encoder",
    "Fitter",
    "IdCounts",
    "Vocabulary",
    "canonical",
    "domain_names",
    "encode_features",
    "fitter_of",
    "matched",
    "priorities_of",
    "restore",
]
