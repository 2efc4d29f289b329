"""Backbones: what turns a sequence of events into one query vector an event."""

from __future__ import annotations

from torch import nn

from models.attention import find_kernel
from models.backbones.backbone import Backbone
from models.backbones.checks import check_time_bias
from models.backbones.config import BackboneConfig
from models.backbones.kinds import BACKBONES

__all__ = ["BACKBONES", "BackboneConfig", "build_backbone", "check_time_bias"]


def build_backbone(config: BackboneConfig, *, max_length: int) -> nn.Module:
    """A backbone with fresh weights, drawn from torch's global generator.

    Args:
        config: its kind and sizes.
        max_length: the longest history it will see, in tokens; HSTU's N and the size of position tables.

    Returns:
        A module called as `module(x [tokens, dim], batch: PackedBatch) -> [tokens, dim]`.

    Raises:
        UserError: the attention kernel named in `config` does not exist.
    """
    if config.kernel is not None:
        find_kernel(config.kernel, where="model.attention")
    return Backbone(
        config.block_settings(max_length),
        blocks=config.blocks,
        final_norm=config.has_final_norm,
    )
