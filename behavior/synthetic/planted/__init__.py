"""Small logs, each of which one part of a model is needed for, with the hit ratio that is possible at best.

log = PLANTED["repeats"](seed=0)
log.write("raw/")        # events.csv, items.csv where items have features, and spec.yaml to prepare them
log.best_hr(10)          # of a ranker that knows the process and the history, but not the target

- `repeats`: users return to what they had before, in a catalog too large to be learned.
- `funnel`: they buy what they carted, which only behaviors tell apart from what they viewed.
- `features`: items are too many and too rare to be known by their ids; category and brand say what follows.
- `domains`: what is bought in one shop follows from what was watched in another.
- `cycle`: everything comes back after 520 events.

And one for ranking, with the best possible AUC, `tastes(seed=0).best_auc()`: who likes an item is told by
their ratings of others of its kind alone.

In: a seed and sizes. Out: Arrow tables, a spec, and what the process says of each user's last target.
May import: `behavior.synthetic`'s writing of files, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from behavior.synthetic.planted.cycle import cycle
from behavior.synthetic.planted.domains import domains
from behavior.synthetic.planted.features import features
from behavior.synthetic.planted.funnel import funnel
from behavior.synthetic.planted.log import PlantedLog
from behavior.synthetic.planted.repeats import repeats
from behavior.synthetic.planted.tastes import PlantedRatings, tastes

PLANTED: dict[str, Callable[..., PlantedLog]] = {
    "repeats": repeats,
    "funnel": funnel,
    "features": features,
    "domains": domains,
    "cycle": cycle,
}
"""By name; each takes `seed`, and sizes that have defaults."""

__all__ = ["PLANTED", "PlantedLog", "PlantedRatings", "tastes"]
