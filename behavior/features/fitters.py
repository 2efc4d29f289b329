"""Which fit a feature needs."""

from __future__ import annotations

from typing import Any

from behavior.features.encode import BucketEncoder, HashEncoder, NumberEncoder
from behavior.features.fit import Fitter, Fixed, VocabularyFitter
from behavior.features.frozen import FrozenFeature
from behavior.features.moments import MomentsFitter
from behavior.features.quantiles import QuantileFitter, SampleFitter
from behavior.spec.dataset_spec import Feature


def fitter_of(feature: Feature, oov: int, *, by: str = "count", sampled: bool = False) -> Fitter[Any]:
    """The fit of a feature.

    Args:
        feature: its kind and settings.
        oov: vocabularies: number of ids that values outside share.
        by: vocabularies: `count`, or `train_count`, which leaves out values that no row with a weight has.
        sampled: quantiles from a sample of the values (for events, which then need priorities) instead of all
            of them (for tables).
    """
    if feature.kind in ("categorical", "multi_categorical"):
        return VocabularyFitter(feature, oov, by)
    if feature.kind in ("hashed", "text"):
        return Fixed(HashEncoder(feature))
    if isinstance(feature, FrozenFeature):
        return Fixed(NumberEncoder(feature, feature.mean, feature.deviation))
    if feature.transform == "standardize":
        return MomentsFitter(feature)
    if feature.boundaries is not None:
        return Fixed(BucketEncoder(feature, tuple(feature.boundaries)))
    if feature.quantiles is not None:
        return SampleFitter(feature) if sampled else QuantileFitter(feature)
    return Fixed(NumberEncoder(feature))
