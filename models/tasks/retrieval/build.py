"""From settings and a data set to the model of retrieval, its loss and its task."""

from __future__ import annotations

from torch import nn

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.about import About, about_sequences
from models.data.catalog import ItemCatalog
from models.data.columns import Columns
from models.data.declared import event_column
from models.data.item_domains import ItemDomains, check_domains
from models.data.loading import ShardSource
from models.data.side import SideInformation
from models.data.tables_only import has_sequences
from models.distributed.tables import MakeItemTable, WholeTable
from models.history.available import available_terms, left_to_data
from models.history.terms import HistoryLogits
from models.inputs.embedding import NO_SIDE
from models.losses import RetrievalLoss
from models.losses.level import candidates_level
from models.losses.negatives import NegativeSampler
from models.tasks.behaviors import check_behaviors, loss_weights
from models.tasks.config import TaskSettings
from models.tasks.parts import embedding_and_backbone, read_catalog, side_information
from models.tasks.retrieval.auxiliary import item_views, next_attributes
from models.tasks.retrieval.jumps import jump_logits
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.next_behavior import NextBehavior
from models.tasks.retrieval.objective import RetrievalObjective
from models.tasks.retrieval.task import RetrievalTask
from models.tasks.retrieval.trends import trend_logits


def build_model(
    settings: TaskSettings,
    catalog: ItemCatalog,
    *,
    num_behaviors: int,
    has_time: bool,
    make_items: MakeItemTable = WholeTable,
    side: SideInformation = NO_SIDE,
) -> RetrievalModel:
    """A model with fresh weights, on the CPU, without history, jump and trend logits.

    Args:
        settings: all settings.
        catalog: the items.
        num_behaviors: ids 1..num_behaviors.
        has_time: whether events have timestamps.
        make_items: makes the table of items, of the number of item ids and a width.
        side: the features of users and events that settings name.

    Raises:
        UserError: a time bias on data without time, or a setting that does not fit the data.
    """
    embedding, backbone = embedding_and_backbone(
        settings, catalog, num_behaviors=num_behaviors, has_time=has_time, make_items=make_items, side=side
    )
    num_items = catalog.num_item_ids - catalog.first_item
    return RetrievalModel(
        embedding,
        backbone,
        first_item=catalog.first_item,
        num_items=num_items,
        normalize=settings.loss.normalize,
        temperature=settings.loss.temperature,
        query_scale=1.0 / settings.model.relative_size.width,
    )


def build_retrieval(
    settings: TaskSettings, shards: ShardFolder, make_items: MakeItemTable = WholeTable
) -> RetrievalTask:
    """The task with a model of fresh weights, on the CPU.

    Raises:
        UserError: see `build_model`; or the loss or its history logits do not fit the data.
    """
    about = about_sequences(shards)
    check_behaviors(settings, about)
    catalog = read_catalog(settings, shards)
    model = build_model(
        settings,
        catalog,
        num_behaviors=about.num_behaviors,
        has_time=about.has_time,
        make_items=make_items,
        side=side_information(settings, shards),
    )
    if settings.loss.loss_on == "basket" and not about.has_time:
        raise UserError(
            "baskets are events of one time stamp, and this data set has no timestamps",
            where="loss.loss_on = basket",
            fix="--set loss.loss_on=all",
        )
    domains, columns = _domains(settings, shards)
    model.history = _history_logits(settings, about, domains)
    divided = model.held_items.is_divided
    model.item_bias = _item_bias(settings, catalog, divided=divided)
    model.jumps = jump_logits(settings, shards, about, catalog.train_count, domains, divided=divided)
    if model.jumps is not None and settings.loss.jump_training == "apart":
        model.jump_share = settings.loss.jump_share
    model.trends = trend_logits(settings, shards, about, domains, divided=divided)
    if settings.loss.next_behavior_weight:
        model.next_behavior = NextBehavior(settings.model.dim, about.num_behaviors)
    model.attributes = next_attributes(settings, catalog)
    power = settings.loss.negatives.popularity_power
    sampler = NegativeSampler(catalog.train_count, catalog.first_item, power, domains)
    alike = not settings.embedding.items_vary
    loss = RetrievalLoss(settings.loss, sampler, model.held_items, alike=alike)
    objective = RetrievalObjective(model, loss, item_views(settings, catalog), loss_weights(settings, about))
    return RetrievalTask(settings.model, settings.loss, objective, columns)


def _domains(settings: TaskSettings, shards: ShardFolder) -> tuple[ItemDomains | None, Columns]:
    """The catalogs of domains, where a target competes with items of its own alone, and what the loss reads.

    None where it competes with all, and where there are no sequences: only training needs them.

    Raises:
        UserError: the data set has one domain only.
    """
    if not settings.loss.within_domain:
        return None, Columns()
    check_domains(shards, f"loss.negatives.domain = {settings.loss.negatives.domain}")
    columns = Columns((event_column(shards, "domain", of_target=True),))
    if not has_sequences(shards):
        return None, columns
    return ItemDomains.of_sequences(ShardSource(shards, columns=columns, cache_bytes=0)), columns


def _item_bias(settings: TaskSettings, catalog: ItemCatalog, *, divided: bool) -> nn.Parameter | None:
    """[known items] logarithms of their shares of what is trained on, each counted once more; or None.

    Raises:
        UserError: item tables are divided.
    """
    if settings.loss.item_bias == "none":
        return None
    if divided:
        raise UserError(
            "a bias of each item stands beside a whole item table, and each process holds a part",
            where=f"loss.item_bias = {settings.loss.item_bias}, train.item_table = sharded",
            fix="--set train.item_table=replicated, or --set loss.item_bias=none",
        )
    count = catalog.train_count[catalog.first_item :].double() + 1.0
    return nn.Parameter(count.log().log_softmax(0).float())


def _history_logits(
    settings: TaskSettings, about: About, domains: ItemDomains | None
) -> HistoryLogits | None:
    """With fresh weights, or None where the settings have none.

    Raises:
        UserError: a term is asked for that the data set has nothing for.
    """
    loss, model = settings.loss, settings.model
    if loss.history == "none":
        return None
    return HistoryLogits(
        available_terms(loss.history_terms, about),
        width=model.dim,
        dim=loss.history_dim,
        level=candidates_level(loss, about.num_items, domains),
        num_behaviors=about.num_behaviors,
        target_behaviors=about.target_behaviors,
        first_item=about.first_item,
        num_item_ids=about.num_item_ids,
        item_keys=loss.history_keys == "items",
        fading=loss.history_fading,
        of_data=left_to_data(loss.history_terms),
    )
