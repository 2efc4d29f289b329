"""Choice of the attention kernel: a fixed order, the first that fits, and words when none does."""

from __future__ import annotations

import os
from typing import TypeAlias, TypedDict

import torch
from torch import Tensor

from behavior.config import did_you_mean
from behavior.errors import UserError
from models.attention import blocked, exported, reference, sdpa, silu, xformers
from models.attention.bias import RelativeBias
from models.attention.inputs import Activation, AttentionInputs
from models.attention.kernel import Kernel, first_that_fits
from models.attention.masks import Mask
from models.attention.sequences import Sequences

ENVIRONMENT_VARIABLE = "LRM_ATTENTION"

AttentionKernel: TypeAlias = Kernel[AttentionInputs, Tensor]


# In order of preference, but for what `_by_preference` says.
KERNELS = tuple(
    Kernel(name, module.unavailable, module.reasons_against, module.run)
    for name, module in (
        ("triton", silu),
        ("xformers", xformers),
        ("blocked", blocked),
        ("sdpa", sdpa),
        ("reference", reference),
    )
)


class NoKernelError(UserError):
    """No kernel fits an input, or the named one does not."""


class KernelStatus(TypedDict):
    """One row of `kernel_table`."""

    usable: bool
    reasons: list[str]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sequences: Sequences,
    *,
    activation: Activation,
    mask: Mask,
    bias: RelativeBias | None = None,
    qk_scale: float = 1.0,
    output_scale: float = 1.0,
    queries: Sequences | None = None,
    kernel: str | None = None,
) -> Tensor:
    """Attention within each sequence of a flat batch.

    `silu`: `out[i] = output_scale * sum_j SiLU(qk_scale * <q_i, k_j> + bias[i, j]) v_j`, pointwise, without
    normalization (HSTU, arXiv 2402.17152). `softmax`: the same with softmax over j. `identity`: the scores
    themselves are the weights (FuXi's channels, whose weights are biases). j runs over what the mask lets i
    see.

    Args:
        q: [tokens, heads, qk_dim] queries; [query tokens, heads, qk_dim] with `queries`.
        k: [tokens, heads, qk_dim] keys.
        v: [tokens, heads, v_dim] values.
        sequences: where sequences start.
        activation: `silu`, `softmax` or `identity`.
        mask: which keys a query sees.
        bias: added to the scores; gradients flow into its tables.
        qk_scale: factor of the dot products, before the bias.
        output_scale: factor of the result.
        queries: where the queries of each sequence start, if q holds only its last tokens.
        kernel: name of the kernel to use; by default `$LRM_ATTENTION`, else the first that fits.

    Returns:
        [tokens of q, heads, v_dim], of v's dtype.

    Raises:
        UserError: the named kernel does not fit, or none does; with every reason.
        ValueError: shapes that do not go together.
    """
    inputs = AttentionInputs(q, k, v, sequences, activation, mask, bias, qk_scale, output_scale, queries)
    if torch.compiler.is_exporting():
        return exported.run(inputs)
    return choose_kernel(inputs, kernel).run(inputs)


def choose_kernel(inputs: AttentionInputs, name: str | None = None) -> AttentionKernel:
    """The kernel called `name`, or named by `$LRM_ATTENTION`, or else the first that fits.

    Raises:
        UserError: see `attention`.
    """
    where = "the attention kernel setting"
    if name is None and ENVIRONMENT_VARIABLE in os.environ:
        name, where = os.environ[ENVIRONMENT_VARIABLE], f"environment variable {ENVIRONMENT_VARIABLE}"
    candidates = _by_preference(inputs) if name is None else (find_kernel(name, where),)
    found, reasons = first_that_fits(candidates, inputs)
    if found is not None:
        return found
    if name is None:
        raise NoKernelError(f"no attention kernel fits {inputs.shapes()}: {reasons}")
    raise NoKernelError(
        f"the attention kernel '{name}' does not fit {inputs.shapes()}: {reasons}",
        where=where,
        fix="name another kernel, or none: then the first that fits is used (`lrm doctor` lists them)",
    )


def _by_preference(inputs: AttentionInputs) -> tuple[AttentionKernel, ...]:
    if not sdpa.is_fastest(inputs):
        return KERNELS
    return tuple(sorted(KERNELS, key=lambda kernel: kernel.name != "sdpa"))


def find_kernel(name: str, where: str) -> AttentionKernel:
    """The kernel of that name.

    Raises:
        UserError: there is none.
    """
    for kernel in KERNELS:
        if kernel.name == name:
            return kernel
    names = [kernel.name for kernel in KERNELS]
    raise UserError(f"there is no attention kernel '{name}'", where=where, fix=did_you_mean(name, names))


def kernel_table() -> dict[str, KernelStatus]:
    """Which kernels this machine can run, in order of preference, and why not the others."""
    table = {}
    for kernel in KERNELS:
        reasons = kernel.unavailable()
        table[kernel.name] = KernelStatus(usable=not reasons, reasons=reasons)
    return table
