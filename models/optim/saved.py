"""The state of an optimizer as checkpoints keep it, checked against the parameters that it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pydantic
import torch
from pydantic import Field

from models.optim.optimizer_set import OptimizerSet

_Number = Annotated[int, Field(strict=True, ge=0, lt=1 << 31)]


class _Group(pydantic.BaseModel):
    """A group of parameters; its other values are settings, which the run has anyway."""

    params: list[_Number]
    lr: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


_GROUPS = pydantic.TypeAdapter(list[_Group])


def check_groups(saved: dict[str, Any], optimizer: OptimizerSet) -> None:
    """Check that a state has the groups of an optimizer, whatever numbers of parameters in each.

    Raises:
        ValueError: it has not; says how.
    """
    groups = _GROUPS.validate_python(saved["param_groups"])
    if len(groups) != len(optimizer.param_groups):
        raise ValueError(f"it has {len(groups)} groups of parameters, and not {len(optimizer.param_groups)}")
    numbers = [number for group in groups for number in group.params]
    if numbers != list(range(len(numbers))):
        raise ValueError("its parameters are not numbered through")


def with_own_settings(saved: dict[str, Any], optimizer: OptimizerSet) -> dict[str, Any]:
    """A state with an optimizer's own settings, and of the saved groups their learning rates and parameters.

    Raises:
        ValueError: a group has another number of parameters than the optimizer's.
    """
    groups = []
    for number, (own, group) in enumerate(zip(optimizer.param_groups, saved["param_groups"], strict=True)):
        if len(own["params"]) != len(group["params"]):
            raise ValueError(
                f"group {number} has {len(group['params'])} parameters, and not {len(own['params'])}"
            )
        groups.append({**own, "lr": float(group["lr"]), "params": list(group["params"])})
    return {"state": saved["state"], "param_groups": groups}


def expected_state(
    saved: dict[str, Any], optimizer: OptimizerSet, shapes: Sequence[torch.Size]
) -> dict[str, torch.Size]:
    """Names and shapes of a state's tensors, all float32; a parameter without state has taken no step.

    Args:
        saved: the state.
        optimizer: what it is for.
        shapes: of the parameters, whole.

    Returns:
        By name, `<parameter number>.<value>`.
    """
    return {
        f"{number}.{name}": shape
        for number, values in enumerate(optimizer.state_shapes(shapes))
        if number in saved["state"]
        for name, shape in values.items()
    }
