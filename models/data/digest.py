"""The digest by which checkpoints and experiments know a data set."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from behavior.shards.folder import ShardFolder
from behavior.shards.names import ITEMS, SEQUENCES, logical
from behavior.steps.splits import evaluated_targets


def dataset_digest(shards: ShardFolder) -> str:
    """SHA-256 of what models learn from: sequences, items, and the meaning of their ids in the manifest.

    It is taken over the content digests of the files, not over their bytes, which depend on the version of
    pyarrow. Where the manifest lacks the content digest of one of them, as those of earlier versions do, it
    is taken over the checksums of their bytes.
    """
    named = {logical(entry.path): entry for entry in shards.manifest.files}
    files = {n: named[n] for n in sorted(named) if n == ITEMS or n.startswith(f"{SEQUENCES}/")}
    if all(entry.content for entry in files.values()):
        text = json.dumps([_meaning(shards), {name: entry.content for name, entry in files.items()}])
    else:
        text = "".join(f"{name} {entry.sha256}\n" for name, entry in files.items())
    return hashlib.sha256(text.encode()).hexdigest()


def _meaning(shards: ShardFolder) -> list[Any]:
    """What the values in the files stand for; spelled out, because manifests may get more keys."""
    manifest = shards.manifest
    features = [(entry.name, entry.kind, entry.vocabulary_size) for entry in manifest.item_features]
    split = (manifest.split["kind"], evaluated_targets(manifest.split))
    return [manifest.behaviors, manifest.targets, manifest.timestamp_unit, manifest.oov, split, features]
