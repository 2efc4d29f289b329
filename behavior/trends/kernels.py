"""Compiled loop of decayed counts."""

from __future__ import annotations

import math

import numpy as np

from behavior.runtime.compiled import compiled


@compiled
def log_decayed(item: np.ndarray, time: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """[events, scales] float32 logarithm of the decayed count of an event's item, right after the event.

    As logarithms, since a count that has decayed for many time scales is too small for a float.

    Args:
        item: [events] sorted.
        time: [events] seconds, sorted within each item.
        scales: [scales] seconds.
    """
    found = np.zeros((len(item), len(scales)), np.float32)
    for number in range(len(scales)):
        log_count = 0.0
        for event in range(len(item)):
            if event > 0 and item[event] == item[event - 1]:
                left = log_count - (time[event] - time[event - 1]) / scales[number]
                # log(exp(left) + 1), of the larger one.
                log_count = max(left, 0.0) + math.log1p(math.exp(-abs(left)))
            else:
                log_count = 0.0
            found[event, number] = log_count
    return found
