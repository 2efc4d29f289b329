"""The training loop by hand: what `lrm train` does on one device, from the pieces that it is made of.

python examples/train_by_hand.py                  # on a small generated log
python examples/train_by_hand.py data/ml-1m 5     # on shards that `lrm prepare` wrote, 5 epochs
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import behavior
from behavior.synthetic import SyntheticConfig, generate
from models.backbones import build_backbone
from models.data import ItemCatalog
from models.data.loading import LoaderConfig, ShardSource, TrainLoader
from models.evaluation.config import EvaluationConfig
from models.evaluation.ranking import evaluate_scorer
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.tasks.config import ModelConfig
from models.tasks.retrieval import RetrievalModel, model_scorer

SEED = 0
CONFIG = ModelConfig(kind="hstu", blocks=2, dim=32, dropout=0.0, max_length=50, time="known")
LOSS = LossConfig(kind="sampled_softmax", temperature=0.05)


def build(shards: behavior.ShardFolder, source: ShardSource) -> tuple[RetrievalModel, RetrievalLoss]:
    """A model with fresh weights, and its loss."""
    catalog, num_behaviors = ItemCatalog.from_shards(shards), len(shards.manifest.behaviors)
    embedding = InputEmbedding(
        EmbeddingConfig(behaviors="add"),
        catalog,
        num_behaviors=num_behaviors,
        dim=CONFIG.dim,
        max_length=CONFIG.max_length,
        dropout=CONFIG.input_dropout_rate,
        learned_positions=CONFIG.has_learned_positions,
        scale_items=CONFIG.scales_input,
    )
    max_tokens = embedding.layout.max_tokens(CONFIG.max_length)
    backbone = build_backbone(CONFIG, max_length=CONFIG.max_length, max_tokens=max_tokens)
    first, items = source.about.first_item, source.about.num_items
    model = RetrievalModel(embedding, backbone, first_item=first, num_items=items)
    return model, RetrievalLoss(LOSS, NegativeSampler(catalog.train_count, first))


def train(folder: str | Path, epochs: int) -> list[float]:
    """Train on a shard folder; prints and returns the mean loss of every epoch."""
    shards = behavior.open_shards(folder)
    source = ShardSource(shards)
    loader = TrainLoader(
        source,
        LoaderConfig(),
        max_length=CONFIG.max_length,
        batch_sequences=32,
        behaviors=tuple(shards.manifest.behaviors),
        time=CONFIG.time,
        loss_on=LOSS.loss_on,
        seed=SEED,
        epochs=epochs,
    )
    torch.manual_seed(SEED)
    model, loss = build(shards, source)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    means = []
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in loader:  # one epoch: flat columns, [tokens] each, and where sequences begin
            positions = batch.target.nonzero().squeeze(1)  # [positions] tokens with an item to predict
            query = model(batch)[positions]  # [positions, dim]
            value = loss(query, batch.target[positions] - model.first_item, model.item_vectors)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        scorer = model_scorer(model, CONFIG)
        metrics = evaluate_scorer(source, scorer, split="valid", config=EvaluationConfig(cutoffs=[10]))
        means.append(sum(losses) / len(losses))
        print(f"epoch {epoch + 1}: loss {means[-1]:.4f}, valid NDCG@10 {metrics['ndcg@10']:.4f}")
    return means


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        data = sys.argv[1] if len(sys.argv) > 1 else f"{scratch}/shards"
        if len(sys.argv) < 2:
            log = generate(SyntheticConfig(users=200, items=100, mean_events=30.0, seed=SEED))
            behavior.prepare(log.write(Path(scratch) / "raw"), data)
        train(data, int(sys.argv[2]) if len(sys.argv) > 2 else 4)
