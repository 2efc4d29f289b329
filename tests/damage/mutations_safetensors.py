"""Changes of safetensors files: tensors, what the metadata says, the header, and bytes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tests.damage.mutations_json import mutate_json
from tests.damage.mutations_parquet import change_bytes


def change_safetensors(path: Path, rng: Random) -> str:
    """Change a file in place; in words."""
    kind = rng.choice(["tensor", "tensor", "metadata", "metadata", "header", "bytes"])
    if kind == "bytes":
        return f"{path.name}: {change_bytes(path, rng)}"
    if kind == "header":
        return f"{path.name}: header: {_change_header(path, rng)}"
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    words = _change_tensor(tensors, rng) if kind == "tensor" else _change_metadata(metadata, rng)
    save_file(tensors, path, metadata)
    return f"{path.name}: {words}"


def _change_tensor(tensors: dict[str, Tensor], rng: Random) -> str:
    name = rng.choice(sorted(tensors))
    old = tensors.pop(name)
    kind = rng.choice(["missing", "renamed", "shape", "flat", "type", "not finite", "scalar", "empty"])
    if kind == "missing":
        return f"no {name}"
    changed = {
        "renamed": old,
        "shape": torch.cat([old.reshape(-1), old.reshape(-1)]),
        "flat": old.reshape(1, -1),
        "type": old.to(rng.choice([torch.float64, torch.float16, torch.int64, torch.bool, torch.uint8])),
        "not finite": torch.full_like(old, float("nan")) if old.is_floating_point() else old * 0 - 1,
        "scalar": torch.tensor(1.0),
        "empty": old.reshape(-1)[:0],
    }[kind]
    tensors[f"{name}x" if kind == "renamed" else name] = changed.contiguous()
    return f"{name}: {kind}"


def _change_metadata(metadata: dict[str, str], rng: Random) -> str:
    name = rng.choice(sorted(metadata))
    kind = rng.choice(["value", "value", "value", "missing", "word"])
    if kind == "missing":
        del metadata[name]
        return f"metadata: no {name}"
    words = "another word"
    try:
        changed, words = mutate_json(metadata[name].encode(), rng)
        metadata[name] = changed.decode("utf-8", "replace")
    except ValueError:
        metadata[name] = "x"
    return f"metadata {name}: {words}"


def _change_header(path: Path, rng: Random) -> str:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    if rng.random() < 0.3:
        other = rng.choice([0, 1, size - 1, size + 1, len(content), 2**40, 2**64 - 1])
        path.write_bytes(other.to_bytes(8, "little") + content[8:])
        return f"length {other}"
    header, words = mutate_json(content[8 : 8 + size].rstrip(), rng)
    json_size = len(header).to_bytes(8, "little")
    path.write_bytes(json_size + header + content[8 + size :])
    return words
