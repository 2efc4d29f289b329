"""Sequence models on shard folders: batches, attention, backbones, training, evaluation."""
