"""Checkpoints of before: parameters that modules no longer have, or have fewer numbers of.

A module with such parameters has `former_lengths`, a dict with the length that each had, by its name in the
module. One that is None now was a parameter of its own; of a shorter one, the first numbers are left.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def without_former(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Saved weights, of any version, less what the module no longer has."""
    own, kept = module.state_dict(), dict(weights)
    for name in _former(module, weights):
        if name in own:
            kept[name] = weights[name][: len(own[name])]
        else:
            del kept[name]
    return kept


def optimizer_without_former(
    module: nn.Module, groups: list[dict[str, Any]], weights: dict[str, Tensor], saved: dict[str, Any]
) -> dict[str, Any]:
    """The same of an optimizer's state, whose parameters are then numbered as they are now.

    Args:
        module: has all parameters.
        groups: the optimizer's parameter groups, now.
        weights: the module's, saved with the state.
        saved: as `Optimizer.state_dict`.
    """
    former = _former(module, weights)
    if not former:
        return saved
    order = {name: number for number, name in enumerate(_names(module))}
    current = dict(module.named_parameters())
    names = {id(parameter): name for name, parameter in current.items()}
    gone = [name for name in former if name not in current]
    state: dict[int, dict[str, Tensor]] = {}
    new_groups = []
    begin = 0
    for group, saved_group in zip(groups, saved["param_groups"], strict=True):
        own = [names[id(parameter)] for parameter in group["params"]]
        # A group is in the module's order; all that is gone was in the one that was longer.
        was = sorted(own + gone, key=order.__getitem__) if len(saved_group["params"]) > len(own) else own
        numbers = {name: begin + at for at, name in enumerate(own)}
        for name, number in zip(was, saved_group["params"], strict=True):
            if name in numbers and number in saved["state"]:
                rows = len(current[name])
                values = saved["state"][number]
                state[numbers[name]] = {
                    key: value[:rows] if name in former and value.ndim else value
                    for key, value in values.items()
                }
        new_groups.append(saved_group | {"params": list(numbers.values())})
        begin += len(own)
    return {"state": state, "param_groups": new_groups}


def _former(module: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Names of parameters of the module that `weights` has as they were."""
    lengths = {
        _join(prefix, name): length
        for prefix, part in module.named_modules()
        for name, length in getattr(part, "former_lengths", {}).items()
    }
    # A parameter that is one number, where there should be several, is left for the check of shapes.
    return [
        name for name, length in lengths.items() if name in weights and weights[name].shape[:1] == (length,)
    ]


def _names(module: nn.Module) -> list[str]:
    """Of all parameters, those included that are None."""
    return [_join(prefix, name) for prefix, part in module.named_modules() for name in part._parameters]


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
