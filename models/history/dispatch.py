"""Choice of the kernel of history masses: a fixed order, the first that fits, and words when none does."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from behavior.errors import UserError
from models.attention.kernel import Kernel, first_that_fits
from models.attention.sequences import Sequences
from models.history import blocked, kernels, reference
from models.history.inputs import HistoryBias, HistoryColumns, HistoryInputs

HistoryKernel: TypeAlias = Kernel[HistoryInputs, tuple[Tensor, Tensor]]

# In order of preference.
KERNELS = tuple(
    Kernel(name, module.unavailable, module.reasons_against, module.run)
    for name, module in (("triton", kernels), ("blocked", blocked), ("reference", reference))
)


def history_masses(
    query: Tensor | None,
    key: Tensor | None,
    bias: HistoryBias,
    columns: HistoryColumns,
    sequences: Sequences,
    kernel: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Logarithms of what past events add to a softmax: of those whose item is the target, and of the rest.

    A query i (after event i) looks at past events j <= i of its sequence, the event itself included, whose
    item is known (`columns.item[j] != 0`), by the logit
    `g_ij = q_i . k_j + w[b_j, wanted_i] + w_time[bucket(tq_i - t_j)] + w_recency[bucket(i - j)] + c`, with
    the switched tables of `HistoryBias` beside `w`. Then `on_target[i] = log sum exp g_ij` over `item_j ==
    target_i`, and `on_rest[i]` the same over all others; minus infinity where there is no such event, and
    both where `target_i == 0`. Gradients given where a mass is minus infinity are passed on to nothing.

    The idea is CopyNet's (arXiv 1603.06393) and RepeatNet's (arXiv 1812.02646); the bias terms are ours.

    Args:
        query: [events, dim] queries, of any floating-point type; None: there is no product.
        key: [events, dim] keys, or None.
        bias: float32 tables.
        columns: of the events; those after the last sequence (`Sequences.room`) belong to none.
        sequences: where sequences start.
        kernel: name of the kernel to use; by default the first that fits.

    Returns:
        `on_target`, `on_rest`: [events] float32 (float64 where inputs are and the kernel takes them), both
        differentiable with respect to query, key and all tables. Nothing waits for the device.

    Raises:
        UserError: the named kernel does not fit, or none does; with every reason.
        ValueError: shapes that do not go together.
    """
    inputs = HistoryInputs(query, key, bias, columns, sequences)
    with torch.autocast(inputs.device.type, enabled=False):
        return choose_kernel(inputs, kernel).run(inputs)


def choose_kernel(inputs: HistoryInputs, name: str | None = None) -> HistoryKernel:
    """The kernel called `name`, or else the first that fits.

    Raises:
        UserError: see `history_masses`.
    """
    candidates = [kernel for kernel in KERNELS if name in (None, kernel.name)]
    found, reasons = first_that_fits(candidates, inputs)
    if found is not None:
        return found
    raise UserError(f"no kernel of history logits fits ({name or 'any'}): {reasons or 'there is none'}")
