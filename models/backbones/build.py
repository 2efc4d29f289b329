"""From settings to a backbone."""

from __future__ import annotations

from torch import nn

from models.attention import find_kernel
from models.backbones.backbone import Backbone
from models.backbones.config import BackboneConfig


def build_backbone(
    config: BackboneConfig,
    *,
    max_length: int,
    max_tokens: int | None = None,
    tokens_per_event: int = 1,
    attributes: int = 0,
    attribute_dim: int | None = None,
) -> nn.Module:
    """A backbone with fresh weights, drawn from torch's global generator.

    Args:
        config: its kind and sizes.
        max_length: the longest history in events; HSTU's N.
        max_tokens: most tokens of a sequence (`models.inputs.layout.Layout.max_tokens`), the size of position
            tables; by default as many as events.
        tokens_per_event: how many tokens of a window and a front, which count events, make an event.
        attributes: how many features queries and keys alone are told of (`Tokens.attributes`).
        attribute_dim: width of each one's queries and keys per head; by default a quarter of the item's.

    Returns:
        A module called as `module(x [tokens, dim], tokens: models.inputs.tokens.Tokens) -> [tokens, dim]`.

    Raises:
        UserError: the attention kernel named in `config` does not exist.
    """
    if config.kernel is not None:
        find_kernel(config.kernel, where="model.attention")
    return Backbone(
        config.block_settings(max_length, max_tokens, attributes, attribute_dim),
        blocks=config.blocks,
        final_norm=config.has_final_norm,
        local=_local(config, max_length, tokens_per_event),
    )


def _local(config: BackboneConfig, max_length: int, tokens_per_event: int) -> tuple[int, int] | None:
    window = config.attention_window
    if window is None or window + config.attention_global >= max_length:  # hides nothing
        return None
    return window * tokens_per_event, config.attention_global * tokens_per_event
