"""Preprocessing of behavior logs as a library: Arrow in, Arrow out; never torch, never Beam.

    import behavior

    behavior.prepare("spec.yaml", "data/shop")          # a data set in a folder, as `lrm prepare` writes it
    data = behavior.prepare_tables("spec.yaml")         # the same in memory
    shards = behavior.open_shards("data/shop")          # and read again

The names below are loaded when they are first used, so that `import behavior` costs nothing. Everything else
is imported from its room. A room imports rooms above it only:

    errors config versions lazy             what everything uses
    cores                                   how many threads to compute with
    code_stamp code_cache compiled          compiled loops, and their code kept on disk
    spec        the dataset spec: what a log looks like and what becomes of it
    arrow       functions of Arrow arrays: parsing, dictionary codes, hash partitioning
    shards      the data set on disk: manifest, files, atomic commit
    sources     raw files: planning, chunks, readers
    features    side features: fitting (mergeable) and encoding
    packing     bin packing of sequences to a token budget
    sampling    which events of a long history a training sample takes
    cooccurrence  which items come near which in histories: counts, of everybody or cross-fitted
    quality     how predictable, repetitive and skewed histories are
    steps       the steps of `prepare`, each a pure function of Arrow tables
    flow        a whole data set: the steps in order, rejects, counts, manifest, append; in memory
    datasets    ready-made specs and downloads of public data sets (imports spec only)
    synthetic   generated logs with planted structure (imports none)
    summary     a data set for people: facts, tables, a picture (imports shards and spec only)
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.config import parse_config
    from behavior.errors import UserError
    from behavior.flow.memory import PreparedTables, prepare, prepare_tables
    from behavior.guess.files import guess_file
    from behavior.packing.cost import Cost
    from behavior.packing.pack import pack_lengths, pack_sequences
    from behavior.packing.packs import Packs
    from behavior.sampling.config import SamplingConfig
    from behavior.sampling.sampler import Sampler
    from behavior.shards.folder import ShardFolder, open_shards
    from behavior.shards.manifest import Manifest, load_manifest
    from behavior.shards.storage import Folder
    from behavior.spec.dataset_spec import DatasetSpec, load_spec
    from behavior.spec.tables import Feature
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Cost": "packing",
            "DatasetSpec": "spec",
            "Feature": "spec",
            "Folder": "shards",
            "Manifest": "shards",
            "Packs": "packing",
            "PreparedTables": "flow",
            "Sampler": "sampling",
            "SamplingConfig": "sampling",
            "ShardFolder": "shards",
            "UserError": "errors",
            "guess_file": "guess.files",
            "load_manifest": "shards",
            "load_spec": "spec",
            "open_shards": "shards",
            "pack_lengths": "packing",
            "pack_sequences": "packing",
            "parse_config": "config",
            "prepare": "flow",
            "prepare_tables": "flow",
        },
    )

__all__ = [
    "Cost",
    "DatasetSpec",
    "Feature",
    "Folder",
    "Manifest",
    "Packs",
    "PreparedTables",
    "Sampler",
    "SamplingConfig",
    "ShardFolder",
    "UserError",
    "guess_file",
    "load_manifest",
    "load_spec",
    "open_shards",
    "pack_lengths",
    "pack_sequences",
    "parse_config",
    "prepare",
    "prepare_tables",
]
