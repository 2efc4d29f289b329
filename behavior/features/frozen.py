"""Numeric features whose fit is taken from a data set that is there, for `--append --frozen`."""

from __future__ import annotations

from collections.abc import Sequence

from behavior.shards.manifest import FeatureEntry, Manifest
from behavior.spec.dataset_spec import DatasetSpec, Feature


class FrozenFeature(Feature):
    """A feature to be standardized with a mean and a standard deviation that are known."""

    mean: float | None
    """The mean to take off."""
    deviation: float | None
    """The standard deviation to divide by."""


def is_fitted(feature: Feature) -> bool:
    """Whether numbers that depend on all values, and no ids, say how a feature is stored."""
    if isinstance(feature, FrozenFeature):
        return False
    return feature.quantiles is not None or (feature.kind == "numeric" and feature.transform == "standardize")


def frozen(spec: DatasetSpec, manifest: Manifest) -> DatasetSpec:
    """The spec, its standardized features and quantiles as they were fitted in a data set.

    Its digest is another one: it is for reading and encoding what is added, not for the manifest.

    Args:
        spec: the spec that the data set was made by.
        manifest: of the data set; it names the same features.
    """
    events = [
        source.model_copy(update={"features": _frozen(source.features, manifest.event_features)})
        for source in spec.events
    ]
    tables = {
        role: [
            table.model_copy(
                update={"features": _frozen(table.features, getattr(manifest, f"{role[:-1]}_features"))}
            )
            for table in getattr(spec, role)
        ]
        for role in ("items", "users")
    }
    return spec.model_copy(update={"events": events, **tables})


def _frozen(features: Sequence[Feature], entries: Sequence[FeatureEntry]) -> list[Feature]:
    by_name = {entry.name: entry for entry in entries}
    return [_frozen_one(each, by_name[each.name]) if is_fitted(each) else each for each in features]


def _frozen_one(feature: Feature, entry: FeatureEntry) -> Feature:
    if feature.quantiles is not None:
        return feature.model_copy(update={"quantiles": None, "boundaries": list(entry.boundaries or [])})
    return FrozenFeature(**feature.model_dump(), mean=entry.mean, deviation=entry.deviation)
