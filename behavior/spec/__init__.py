"""The dataset spec (docs/spec.md): what a log looks like and what becomes of it, as one YAML file.

In: a YAML file, or the name of a ready-made spec. Out: a checked, immutable `DatasetSpec`.
May import: nothing but the root's modules.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.spec.dataset_spec import DatasetSpec, load_spec
    from behavior.spec.events import EventSource
    from behavior.spec.formats import FileFormat
    from behavior.spec.rules import TICKS_PER_SECOND, Filters, SplitSpec, VocabularySpec
    from behavior.spec.tables import Feature, FeatureTable
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "TICKS_PER_SECOND": "rules",
            "DatasetSpec": "dataset_spec",
            "EventSource": "events",
            "Feature": "tables",
            "FeatureTable": "tables",
            "FileFormat": "formats",
            "Filters": "rules",
            "SplitSpec": "rules",
            "VocabularySpec": "rules",
            "load_spec": "dataset_spec",
        },
    )

__all__ = [
    "TICKS_PER_SECOND",
    "DatasetSpec",
    "EventSource",
    "Feature",
    "FeatureTable",
    "FileFormat",
    "Filters",
    "SplitSpec",
    "VocabularySpec",
    "load_spec",
]
