"""Which settings make no sense together, and which do not fit the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from behavior.errors import UserError
from models.layers.kinds import uses_time

if TYPE_CHECKING:
    from models.backbones.config import BackboneConfig
    from models.layers.settings import BlockSettings


def problems(config: BackboneConfig) -> Iterator[str]:
    """What is wrong with a backbone's settings, and what to do, in words."""
    if config.dim % config.heads and None in (config.qk_dim, config.v_dim):
        yield f"dim ({config.dim}) is not a multiple of heads ({config.heads})"
        return
    settings = config.block_settings(max_length=1)
    if not settings.output_projection and settings.attended_dim != settings.dim:
        yield f"{config.kind} adds attention to its input: heads * v_dim must be dim; leave v_dim out"
    yield from _problems_of_the_bias(config)
    yield from _problems_of_the_feed_forward(config, settings)
    if settings.norm == "none" and settings.residual == "post_norm":
        yield "residual post_norm needs a norm, and norm is none: set residual to pre_norm"
    if settings.norm == "none" and config.final_norm:
        yield "final_norm is on, and norm is none: say which by norm, or leave final_norm out"


def check_time_bias(config: BackboneConfig, *, has_time: bool, setting: str = "model.bias") -> None:
    """Refuse a time bias on data without timestamps.

    Args:
        config: the backbone.
        has_time: whether the data has timestamps.
        setting: name of the bias setting, for the message.

    Raises:
        UserError: the bias needs times that are not there.
    """
    if has_time or not uses_time(config.relative_bias):
        return
    raise UserError(
        f"the relative time bias of '{config.kind}' needs timestamps, and this data set has none",
        where=f"{setting} = {config.relative_bias}",
        fix=f"--set {setting}={'position' if config.relative_bias == 'both' else 'none'}",
    )


def _problems_of_the_bias(config: BackboneConfig) -> Iterator[str]:
    bias = config.relative_bias
    if bias == "rope" and config.query_dim % 2:
        yield (
            f"bias rope turns pairs of numbers, and queries are {config.query_dim} wide a head, "
            "which is odd: set qk_dim to an even number"
        )
    if config.bias_tables == "per_head" and bias in ("rope", "none"):
        yield f"bias_tables is per_head, and bias '{bias}' has no tables: leave bias_tables out"
    if config.decay is not None and bias != "decay":
        yield f"decay is {config.decay}, and bias is '{bias}': set bias to decay, or leave decay out"


def _problems_of_the_feed_forward(config: BackboneConfig, settings: BlockSettings) -> Iterator[str]:
    if settings.feed_forward != "none":
        if settings.residual == "hstu":
            yield (
                "residual hstu is one path without a feed-forward, and feed_forward is "
                f"{settings.feed_forward}: set residual to pre_norm, or feed_forward to none"
            )
        return
    for name in ("feed_forward_width", "feed_forward_dropout"):
        if getattr(config, name) is not None:
            yield f"{name} is set, and feed_forward is none: leave {name} out, or name a feed_forward"
