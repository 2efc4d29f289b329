"""Tokens for backbones that are tested by themselves."""

from __future__ import annotations

from models.data.batch import PackedBatch
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.tokens import Tokens


def tokens_of(batch: PackedBatch) -> Tokens:
    """One token an event."""
    return OneTokenPerEvent().tokens(batch)
