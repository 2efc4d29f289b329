"""Checkpoints: one safetensors file each, written whole or not at all, and nothing in it that is code.

Tensors are named `model.<weight>`, `optimizer.<parameter number>.<value>` and `random.<device>`; everything
else (settings, data set, progress) is JSON in the file's metadata.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from behavior.errors import UserError
from models.runs.files import write_atomically
from models.runs.former import without_former

FORMAT = "lrm-kit checkpoint"
FORMAT_VERSION = 2
_METADATA = "lrm-kit"
_START_AGAIN = "use the settings and data of that run, or train into another folder"


@dataclass(frozen=True)
class Checkpoint:
    """What one file holds."""

    config: dict[str, Any]
    """The resolved settings."""
    dataset: dict[str, Any]
    """Name, digest and sizes of the data set."""
    progress: dict[str, Any]
    """Plain numbers: where the training stood, or the metrics of the model."""
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any] | None = None
    """As `Optimizer.state_dict`; None where only the model was saved."""
    random: dict[str, torch.Tensor] = field(default_factory=dict)
    """State of each random generator, uint8."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under a temporary name, then rename it, so that a crash leaves the old one."""
    tensors = {f"model.{name}": tensor for name, tensor in checkpoint.model.items()}
    tensors |= {f"random.{name}": tensor for name, tensor in checkpoint.random.items()}
    groups = None
    if checkpoint.optimizer is not None:
        groups = checkpoint.optimizer["param_groups"]
        for number, values in checkpoint.optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in values.items()}
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": checkpoint.config,
        "dataset": checkpoint.dataset,
        "progress": checkpoint.progress,
        "param_groups": groups,
    }
    # Tied weights would otherwise be refused, and views saved with all of their storage.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(tensors, metadata={_METADATA: json.dumps(about)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint into CPU memory.

    Raises:
        UserError: the file is missing, damaged, not a checkpoint of lrm-kit or of another format.
    """
    if not path.exists():
        raise UserError("there is no checkpoint", where=str(path), fix="train first, or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"the checkpoint cannot be read: {error}", where=str(path), fix="train again"
        ) from None
    if about.get("format") != FORMAT:
        raise UserError("this is not a checkpoint of lrm-kit", where=str(path))
    if about["format_version"] != FORMAT_VERSION:
        newer = about["format_version"] > FORMAT_VERSION
        raise UserError(
            f"the checkpoint is of {'a newer' if newer else 'an older'} format",
            where=str(path),
            fix="update lrm-kit" if newer else "train again, or use the lrm-kit that made it",
        )
    return Checkpoint(
        config=about["config"],
        dataset=about["dataset"],
        progress=about["progress"],
        model=_named(tensors, "model."),
        optimizer=_optimizer_state(tensors, about["param_groups"]),
        random=_named(tensors, "random."),
    )


def load_weights(module: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Copy saved weights into a module; what it had in former versions and has no more is left out.

    Raises:
        UserError: names or shapes differ; says which.
    """
    own = module.state_dict()
    weights = without_former(module, weights)
    problems = [f"{name} is missing" for name in own if name not in weights]
    problems += [f"{name} is not part of this model" for name in weights if name not in own]
    for name, tensor in weights.items():
        if name in own and own[name].shape != tensor.shape:
            problems.append(f"{name} is {list(tensor.shape)}, this model has {list(own[name].shape)}")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(
            "the checkpoint is of another architecture: " + "; ".join(problems[:3]) + more,
            where=str(path),
            fix=_START_AGAIN,
        )
    module.load_state_dict(weights)


def check_same(
    checkpoint: Checkpoint, config: dict[str, Any], dataset: dict[str, Any], free: set[str], path: Path
) -> None:
    """Check that a checkpoint was made with these settings on this data.

    Args:
        checkpoint: the one to go on from.
        config: settings now.
        dataset: data set now.
        free: dotted keys of settings that may differ.
        path: the checkpoint's file, for the error.

    Raises:
        UserError: says what differs.
    """
    found = {**_flat(checkpoint.config), **_flat(checkpoint.dataset, "data set ")}
    wanted = {**_flat(config), **_flat(dataset, "data set ")}
    problems = [
        f"{key} was {found.get(key)!r} and is now {wanted.get(key)!r}"
        for key in {**found, **wanted}
        if key not in free and found.get(key) != wanted.get(key)
    ]
    if problems:
        raise UserError(
            "the checkpoint is of another run: " + "; ".join(problems), where=str(path), fix=_START_AGAIN
        )


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of torch's random generators: the CPU's, and that of a GPU which is trained on."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states[str(device).replace(":", ".")] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put the generators back; the state of another device is left out."""
    torch.set_rng_state(states["cpu"])
    state = states.get(str(device).replace(":", "."))
    if state is not None:
        torch.cuda.set_rng_state(state, device)


def _named(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer_state(tensors: dict[str, torch.Tensor], groups: list[Any] | None) -> dict[str, Any] | None:
    if groups is None:
        return None
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in _named(tensors, "optimizer.").items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = tensor
    return {"state": state, "param_groups": groups}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
