"""Embeddings of domains: of that of each event, and of that of the event to predict."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.side import Domains
from models.inputs.config import EmbeddingConfig
from models.inputs.tokens import Tokens
from models.layers.initialization import init_embedding
from models.layers.look_up import Embedding


class DomainEmbedding(nn.Module):
    """Vectors of domains, added up with those of events.

    Args:
        config: `domains` and `query_domain`.
        domains: of the data set; None: it has one only, and the settings ask for nothing.
        dim: width of the vectors.
    """

    def __init__(self, config: EmbeddingConfig, domains: Domains | None, dim: int) -> None:
        super().__init__()
        self.domains = domains
        self.own = _table(domains, dim) if domains is not None and config.domains == "add" else None
        self.asked = _table(domains, dim) if domains is not None and config.query_domain == "add" else None

    def add_own(self, vectors: Tensor, batch: PackedBatch) -> Tensor:
        """[events, dim] vectors of events, to which those of their domains are added."""
        if self.own is None or self.domains is None:
            return vectors
        return vectors + self.own(batch[self.domains.own.name])

    def add_asked(self, x: Tensor, tokens: Tokens, batch: PackedBatch) -> Tensor:
        """[tokens, dim] token vectors; to each event's query the domain is added that it asks for.

        As the known time: a property of the question, in training and evaluation alike.
        """
        if self.asked is None or self.domains is None:
            return x
        wanted = self.asked(batch[self.domains.target.name])
        return x + wanted if tokens.asking is None else x.index_add(0, tokens.asking, wanted)

    @property
    def columns(self) -> Columns:
        """Columns of the batch that are read."""
        if self.domains is None:
            return Columns()
        columns = (self.domains.own, self.own), (self.domains.target, self.asked)
        return Columns(tuple(column for column, table in columns if table is not None))

    def weights(self) -> Iterator[Tensor]:
        """Tables with a row a domain."""
        return (table.weight for table in (self.own, self.asked) if table is not None)


def _table(domains: Domains, dim: int) -> nn.Embedding:
    table = Embedding(domains.count + 1, dim, padding_idx=0)
    init_embedding(table.weight)
    return table
