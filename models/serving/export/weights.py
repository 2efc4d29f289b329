"""Weights as one safetensors file, and the tables that say which id each of their rows is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.torch import save_file

from behavior.files import write_whole
from models.serving.export.scoring import retrieval_model
from models.serving.load import TrainedModel

WEIGHTS, ITEMS, VOCABULARY = "weights.safetensors", "items.parquet", "vocabulary"


def write_weights(trained: TrainedModel, folder: Path) -> dict[str, Any]:
    """Write all parameters and kept buffers as they are; returns shape and type of each, by name."""
    state = trained.module.state_dict()
    # Tied weights would otherwise be refused, and views saved with all of their storage.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    # Made for the owner alone, unlike all files beside it.
    shutil.copymode(folder / ITEMS, folder / WEIGHTS)
    return {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in tensors.items()
    }


def write_ids(trained: TrainedModel, folder: Path) -> dict[str, Any]:
    """Write the table of items, and the vocabularies of features; returns what every id means.

    Returns:
        `items`: the file of known items, of which the one at row j has the id `first + j`; below are padding
        (0) and unknown items. `behaviors`, `domains`: names, the first has id 1. `features`: of items, users
        and events, as the manifest has them, and the file of their vocabulary, where they have one.
    """
    shards, manifest = trained.shards, trained.shards.manifest
    pq.write_table(shards.items(), folder / ITEMS)
    features: dict[str, list[dict[str, Any]]] = {}
    kinds = {"item": manifest.item_features, "user": manifest.user_features, "event": manifest.event_features}
    for kind, entries in kinds.items():
        features[kind] = []
        for entry in entries:
            record = entry.model_dump(exclude_none=True)
            if entry.encoding == "vocabulary":
                name = entry.name if kind == "item" else f"{kind}.{entry.name}"
                record["file"] = f"{VOCABULARY}/{name}.parquet"
                (folder / VOCABULARY).mkdir(exist_ok=True)
                pq.write_table(shards.vocabulary(name), folder / record["file"])
            features[kind].append(record)
    first = shards.first_item
    return {
        "items": {"file": ITEMS, "column": "id", "first": first, "known": shards.num_items, "padding": 0},
        "unknown_items": list(range(1, first)),
        "behaviors": {name: number for number, name in enumerate(manifest.behaviors, start=1)},
        "targets": list(manifest.targets),
        "domains": {name: number for number, name in enumerate(manifest.domains, start=1)},
        "timestamp_unit": manifest.timestamp_unit,
        "features": features,
    }


def item_rows(trained: TrainedModel) -> str:
    """Name of the weight that has a row an item id."""
    table = retrieval_model(trained).embedding.item
    return next(name for name, one in trained.module.named_parameters() if one is table.weight)


def write_record(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Write a JSON file."""
    write_whole(folder / name, (json.dumps(record, indent=2) + "\n").encode(), "--out")
