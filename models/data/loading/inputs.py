"""Training sequences of the events that are inputs."""

from __future__ import annotations

from functools import partial

import numpy as np

from models.data.kept import InputBehaviors, kept_behaviors, only_kept
from models.data.loading.changed import ChangedSource
from models.data.loading.source import SequenceSource


def inputs_of(source: SequenceSource, setting: InputBehaviors) -> SequenceSource:
    """The sequences of a source without events of other behaviors: each input predicts the next one.

    For what learns from them, and for nothing else: an evaluation needs to know where targets are. Where all
    events are inputs it is the source itself, so that nothing of it changes.

    Raises:
        UserError: see `models.data.kept.kept_behaviors`.
    """
    kept = kept_behaviors(setting, source.about)
    if kept is None:
        return source
    mark = f"inputs {np.flatnonzero(kept).tolist()}"
    return ChangedSource(source, partial(only_kept, kept=kept), mark=mark)
