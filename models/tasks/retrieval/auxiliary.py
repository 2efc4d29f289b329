"""Auxiliary losses of retrieval, by the settings."""

from __future__ import annotations

from behavior.errors import UserError
from models.data.catalog import ItemCatalog
from models.data.side import choose
from models.losses.attributes import NextAttributes, predictable
from models.losses.views import ItemViews
from models.tasks.config import TaskSettings


def next_attributes(settings: TaskSettings, catalog: ItemCatalog) -> NextAttributes | None:
    """The loss of the next item's attributes, with fresh weights; None where the settings have none.

    Raises:
        UserError: there is no such feature, or none that can be predicted.
    """
    loss = settings.loss
    if not loss.attributes_weight:
        return None
    features = predictable(choose(catalog.features, loss.attributes, "item", where="loss.attributes"))
    if not features:
        raise UserError(
            "none of the item features has values to predict: numbers have none",
            where=f"loss.attributes_weight = {loss.attributes_weight}",
            fix="leave it out, or prepare the data with features of kind categorical or multi_categorical",
        )
    return NextAttributes(features, settings.model.dim, loss.attributes_weight, loss.temperature)


def item_views(settings: TaskSettings, catalog: ItemCatalog) -> ItemViews | None:
    """The loss of views of items; None where the settings have none.

    Raises:
        UserError: item vectors have no features, or too few of them.
    """
    views, embedding = settings.loss.views, settings.embedding
    if not views.weight:
        return None
    if embedding.features in ("none", "attention_only"):
        raise UserError(
            "views are of item vectors that are made of features, and these are of ids alone",
            where=f"embedding.features = {embedding.features}",
            fix="set another fusion, such as embedding.features=tower, or loss.views.weight=0",
        )
    features = choose(catalog.features, embedding.item_features, "item")
    return ItemViews(views, features, catalog.first_item, catalog.num_item_ids)
