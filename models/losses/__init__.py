"""Retrieval losses over item scores: softmax over all items or over some, and binary cross-entropy."""

from models.losses.config import LossConfig
from models.losses.formulas import binary_cross_entropy, gbce_power, sampled_softmax
from models.losses.full_softmax import full_softmax
from models.losses.retrieval import ItemVectors, RetrievalLoss

__all__ = [
    "ItemVectors",
    "LossConfig",
    "RetrievalLoss",
    "binary_cross_entropy",
    "full_softmax",
    "gbce_power",
    "sampled_softmax",
]
