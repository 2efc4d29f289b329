"""Training: from settings and data to a run folder, resumable at any point, on one device or on several.

In come a `RunConfig` and a shard folder, out comes a run. It works through a `models.tasks.task.Task` and
knows none by name. May import build, config and every room below but experiments and serving. `config` alone
is for everyone; it and `ahead`, which has loops compiled early, import no torch.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.training.refitting import refit
    from models.training.run import train
    from models.training.state import FREE_SETTINGS
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__, {"FREE_SETTINGS": "state", "refit": "refitting", "train": "run"}
    )

__all__ = ["FREE_SETTINGS", "refit", "train"]
