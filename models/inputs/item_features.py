"""Embeddings of item features: one vector an item and feature; padding, item 0, has the zero vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from models.data.catalog import CategoricalFeature, ItemFeature, MultiCategoricalFeature, NumericFeature
from models.inputs.multi_valued import MultiCategoricalEmbedding
from models.layers.initialization import INIT_STD, init_embedding, init_truncated
from models.layers.look_up import Embedding
from models.layers.roles import Role


class CategoricalEmbedding(nn.Module):
    """Embedding of a categorical feature."""

    parameter_roles = {"table.weight": Role.FEATURE_TABLE}
    ids: Tensor

    def __init__(self, feature: CategoricalFeature, dim: int) -> None:
        super().__init__()
        for name, values in self.looked_up(feature).items():
            self.register_buffer(name, values, persistent=False)
        self.table = Embedding(feature.vocabulary_size, dim, padding_idx=0)
        init_embedding(self.table.weight)

    def looked_up(self, feature: CategoricalFeature) -> dict[str, Tensor]:
        """Buffers of the values of items."""
        return {"ids": feature.ids}

    def forward(self, items: Tensor) -> Tensor:
        """[n] item ids -> [n, dim]."""
        return self.table(self.ids[items])


class NumericEmbedding(nn.Module):
    """Embedding of a numeric feature: a learned vector times the number, and another where it is missing."""

    values: Tensor

    def __init__(self, feature: NumericFeature, dim: int) -> None:
        super().__init__()
        for name, values in self.looked_up(feature).items():
            self.register_buffer(name, values, persistent=False)
        self.linear = nn.Linear(2, dim, bias=False)
        init_truncated(self.linear.weight, INIT_STD)

    def looked_up(self, feature: NumericFeature) -> dict[str, Tensor]:
        """Buffers of the values of items."""
        return {"values": feature.values}

    def forward(self, items: Tensor) -> Tensor:
        """[n] item ids -> [n, dim]."""
        return self.linear(self.values[items])


def embed_feature(feature: ItemFeature, dim: int, max_values: int | None = None) -> nn.Module:
    """The module that turns item ids into vectors of this feature.

    Args:
        feature: values of all items.
        dim: width.
        max_values: of an item with several, how many count; None: all.
    """
    if isinstance(feature, CategoricalFeature):
        return CategoricalEmbedding(feature, dim)
    if isinstance(feature, MultiCategoricalFeature):
        return MultiCategoricalEmbedding(feature, dim, max_values)
    return NumericEmbedding(feature, dim)


class FeatureEmbeddings(nn.ModuleList):
    """The embeddings of features of items, or of users: one vector an item and feature.

    Args:
        features: of the catalog.
        dim: width of all embeddings.
        max_values: of an item's values of a feature, such as the words of a text, how many count; None: all.
    """

    def __init__(self, features: Iterable[ItemFeature], dim: int, max_values: int | None = None) -> None:
        features = tuple(features)
        super().__init__(embed_feature(feature, dim, max_values) for feature in features)
        self.names = [feature.name for feature in features]

    def forward(self, ids: Tensor, drop: float = 0.0) -> list[Tensor]:
        """[n, dim] vectors of each feature, of [n] int64 item ids.

        Args:
            ids: of items, or rows of users.
            drop: share of the values that features of several leave out at random.
        """
        return [
            embed(ids, drop) if isinstance(embed, MultiCategoricalEmbedding) else embed(ids) for embed in self
        ]


@contextmanager
def others(embeddings: FeatureEmbeddings, features: Sequence[ItemFeature]) -> Iterator[None]:
    """Look up the values of others than those that the embeddings were made of, by the same weights.

    Args:
        embeddings: of some features.
        features: the same ones, in their order.
    """
    kept = []
    for embed, feature in zip(embeddings, features, strict=True):
        assert isinstance(embed, CategoricalEmbedding | NumericEmbedding | MultiCategoricalEmbedding)
        found = embed.looked_up(feature)  # type: ignore[arg-type]
        kept.append({name: getattr(embed, name) for name in found})
        for name, values in found.items():
            setattr(embed, name, values.to(kept[-1][name].device) if isinstance(values, Tensor) else values)
    try:
        yield
    finally:
        for embed, before in zip(embeddings, kept, strict=True):
            for name, values in before.items():
                setattr(embed, name, values)


def grown_tables(
    features: Iterable[nn.Module], names: Iterable[str], rows: Mapping[str, Tensor], prefix: str = ""
) -> Iterator[tuple[Tensor, Tensor]]:
    """The tables of features that have a row a value, and their rows in another vocabulary.

    Args:
        features: modules that may have a `table`.
        names: of the features.
        rows: by the names that `models.data.versions.RowMaps` knows.
        prefix: of these names: `user.` and `event.` of features that are not of items.
    """
    for feature, name in zip(features, names, strict=True):
        found, table = rows.get(f"{prefix}{name}"), getattr(feature, "table", None)
        if found is not None and isinstance(table, nn.Embedding | nn.EmbeddingBag):
            yield table.weight, found
