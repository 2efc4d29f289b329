"""The buckets of time differences: their boundaries, in plain numbers.

Source: arXiv 2402.17152, and the bucket function of Meta's published research code.
"""

from __future__ import annotations

import math

BUCKET_WIDTH = 0.301
"""Width of a time bucket, in natural logarithms of seconds."""
LAST_BUCKET = 128
NUM_BUCKETS = LAST_BUCKET + 1

# The lower boundary of each bucket, in seconds. Comparing whole seconds with whole seconds gives the same
# bucket in every kernel on every device, whatever its logarithm does in the last digit.
BUCKET_STARTS: tuple[int, ...] = (
    1,
    *(math.ceil(math.exp(BUCKET_WIDTH * bucket)) for bucket in range(1, NUM_BUCKETS)),
)
