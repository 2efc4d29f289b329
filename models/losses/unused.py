"""Which settings of the loss change nothing, as others stand: imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from behavior.config import Unused

_JUMPS = (
    *("jump_training", "jump_share", "jump_terms", "jump_dim", "jump_events", "jump_dropout", "jump_window"),
    *("jump_backward", "jump_neighbors", "jump_own", "jump_tables", "jump_session_seconds", "jump_folds"),
)


def unused_of_loss(loss: Any) -> Iterator[Unused]:
    """Those of `models.losses.config.LossConfig`, which `loss` is, but for those of views."""
    if loss.kind != "gbce":
        yield Unused(["calibration"], f"kind is {loss.kind}", "set kind to gbce")
    if not loss.attributes_weight:
        yield Unused(["attributes"], "attributes_weight is 0", "set attributes_weight")
    if loss.trends == "none":
        yield Unused(["trend_hours", "trend_of"], "trends is none", "set trends to learned")
    yield from _of_negatives(loss)
    yield from _of_history(loss)
    yield from _of_jumps(loss)


def _of_negatives(loss: Any) -> Iterator[Unused]:
    drawn = ["negatives.sharing", "negatives.popularity_power"]
    if loss.kind == "full_softmax":
        names = ["negatives.source", "negatives.count", *drawn, "negatives.logq"]
        yield Unused(names, "kind is full_softmax, which samples none", "set kind to another loss")
    elif loss.negatives.source == "in_batch":
        if {loss.history, loss.jumps, loss.trends} == {"none"}:
            # Otherwise it is the level that their masses start from.
            drawn = ["negatives.count", *drawn]
        why = "negatives.source is in_batch, which samples none"
        yield Unused(drawn, why, "set negatives.source to mixed")


def _of_history(loss: Any) -> Iterator[Unused]:
    of_product = ["history_keys", "history_dim"]
    if loss.history == "none":
        names = [*of_product, "history_terms", "history_fading"]
        yield Unused(names, "history is none", "set history to learned")
    elif loss.history_terms is not None:
        for term, names in (("product", of_product), ("recency", ["history_fading"])):
            if term not in loss.history_terms:
                yield Unused(names, f"history_terms has no {term}", f"add {term} to history_terms")


def _of_jumps(loss: Any) -> Iterator[Unused]:
    if loss.jumps == "none":
        yield Unused(_JUMPS, "jumps is none", "set jumps to learned")
        return
    if loss.jump_training != "apart":
        why = f"jump_training is {loss.jump_training}"
        yield Unused(["jump_share"], why, "set jump_training to apart")
    if loss.jump_terms is not None and "product" not in loss.jump_terms:
        yield Unused(["jump_dim"], "jump_terms has no product", "add product to jump_terms")
    if loss.jump_own != "folds":
        yield Unused(["jump_folds"], f"jump_own is {loss.jump_own}", "set jump_own to folds")
    tables = ", ".join(loss.jump_tables)
    for name, needed in (("jump_backward", "both"), ("jump_session_seconds", "session")):
        if needed not in loss.jump_tables:
            yield Unused([name], f"jump_tables is [{tables}]", f"add {needed} to jump_tables")
