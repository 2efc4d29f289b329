"""Jump logits for a data set: which tables are counted, and what they do not go together with."""

from __future__ import annotations

from torch import Tensor

from behavior.cooccurrence import CooccurrenceConfig, PairWeights
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.about import About
from models.data.item_domains import ItemDomains
from models.history.available import available_jump_terms, left_to_data
from models.history.jumps import ExactJumpLogits, JumpLogits, VoteSizes
from models.history.jumps.tables import count_exact_tables
from models.losses.config import LossConfig
from models.losses.level import candidates_level
from models.tasks.config import TaskSettings
from models.tasks.parts import trained_events


def jump_logits(
    settings: TaskSettings,
    shards: ShardFolder,
    about: About,
    item_count: Tensor,
    domains: ItemDomains | None = None,
    *,
    divided: bool,
) -> JumpLogits | ExactJumpLogits | None:
    """With fresh weights, or None where the settings have none.

    Tables of folds are counted later, when a training begins; those that a user's own pairs are subtracted
    from are counted now, in the events that are trained on.

    Args:
        settings: all settings.
        shards: the data set.
        about: of it.
        item_count: [item ids] how often each item occurs in what is trained on.
        domains: of items, where only those of a domain compete in training.
        divided: whether item tables are divided among processes.

    Raises:
        UserError: a term or a table is asked for that the data set has nothing for, or item tables are
            divided.
    """
    loss = settings.loss
    if loss.jumps == "none":
        return None
    competes = loss.jump_training == "joint"
    terms = available_jump_terms(loss.jump_terms, about, competes=competes)
    sizes = VoteSizes(
        width=settings.model.dim,
        dim=loss.jump_dim,
        events=loss.jump_events,
        level=candidates_level(loss, about.num_items, domains),
        num_behaviors=about.num_behaviors,
        first_item=about.first_item,
        competes=competes,
        target_behaviors=about.target_behaviors,
        of_data=left_to_data(loss.jump_terms),
        item_count=item_count,
    )
    if loss.jump_own == "subtract":
        _check(loss, about, divided=divided)
        weights = PairWeights(
            tables=loss.jump_tables,
            window=loss.jump_window,
            backward=loss.jump_backward,
            session_seconds=loss.jump_session_seconds,
            neighbors=loss.jump_neighbors,
        )
        tables = count_exact_tables(trained_events(settings, shards), weights)
        member = None if domains is None else domains.member
        return ExactJumpLogits(
            tables, loss.jump_tables, terms, sizes, dropout=loss.jump_dropout, member=member
        )
    counted = CooccurrenceConfig(
        window=loss.jump_window,
        backward=loss.jump_backward,
        neighbors=loss.jump_neighbors,
        stochastic=True,
        repeats=False,  # an item that comes again is what history logits are for
    )
    return JumpLogits(
        terms, counted, sizes, num_items=about.num_items, folds=loss.jump_folds, dropout=loss.jump_dropout
    )


def _check(loss: LossConfig, about: About, *, divided: bool) -> None:
    if "session" in loss.jump_tables and not about.has_time:
        rest = [name for name in loss.jump_tables if name != "session"] or ["both"]
        raise UserError(
            "sessions are events near in time, and this data set has no timestamps",
            where=f"loss.jump_tables = [{', '.join(loss.jump_tables)}]",
            fix=f"--set 'loss.jump_tables=[{', '.join(rest)}]'",
        )
    if divided:
        raise UserError(
            "tables without a user's own pairs are of all items, and each process holds some",
            where=f"loss.jump_own = {loss.jump_own}, train.item_table = sharded",
            fix="--set train.item_table=replicated, or --set loss.jump_own=folds",
        )
