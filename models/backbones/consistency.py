"""Which settings of a backbone make no sense together."""

from __future__ import annotations

from collections.abc import Iterator, Set

from models.layers.settings import BlockSettings


def contradictions(kind: str, settings: BlockSettings, given: Set[str], *, final_norm: bool) -> Iterator[str]:
    """What is wrong with a backbone's settings, and what to do, in words.

    Args:
        kind: of backbone.
        settings: every setting of a block, decided.
        given: names of the settings that are not left to the kind.
        final_norm: whether a norm follows the last block because that was asked for.
    """
    if not settings.output_projection and settings.attended_dim != settings.dim:
        yield f"{kind} adds attention to its input: heads * v_dim must be dim; leave v_dim out"
    yield from _of_the_bias(settings, given)
    yield from _of_the_feed_forward(settings, given)
    if settings.norm == "none" and settings.residual == "post_norm":
        yield "residual post_norm needs a norm, and norm is none: set residual to pre_norm"
    if settings.norm == "none" and final_norm:
        yield "final_norm is on, and norm is none: say which by norm, or leave final_norm out"


def _of_the_bias(settings: BlockSettings, given: Set[str]) -> Iterator[str]:
    bias = settings.bias
    if bias == "rope" and settings.query_dim % 2:
        yield (
            f"bias rope rotates pairs of coordinates, and queries are {settings.query_dim} wide a head, "
            "which is odd: set qk_dim to an even number"
        )
    if settings.bias_per_head and bias in ("rope", "none"):
        yield f"bias_tables is per_head, and bias '{bias}' has no tables: leave bias_tables out"
    if "decay" in given and bias != "decay":
        yield f"decay is {settings.decay}, and bias is '{bias}': set bias to decay, or leave decay out"


def _of_the_feed_forward(settings: BlockSettings, given: Set[str]) -> Iterator[str]:
    if settings.feed_forward != "none":
        if settings.residual == "hstu":
            yield (
                "residual hstu has no feed-forward, and feed_forward is "
                f"{settings.feed_forward}: set residual to pre_norm, or feed_forward to none"
            )
        return
    for name in ("feed_forward_width", "feed_forward_dropout"):
        if name in given:
            yield f"{name} is set, and feed_forward is none: leave {name} out, or name a feed_forward"
