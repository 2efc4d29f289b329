"""Optimizers: which parameters get which, by their roles, and the learning-rate schedule.

In: `OptimizerConfig` and a module whose parameters have roles (`models.layers.roles`). Out: an
`OptimizerSet`, one or several torch optimizers used as one. May import `behavior`, and of `models`: layers
(roles), distributed (item tables).
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.optim.build import build_optimizer
    from models.optim.config import OptimizerConfig
    from models.optim.optimizer_set import OptimizerSet
    from models.optim.schedule import learning_rate_factor
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "OptimizerConfig": "config",
            "OptimizerSet": "optimizer_set",
            "build_optimizer": "build",
            "learning_rate_factor": "schedule",
        },
    )

__all__ = ["OptimizerConfig", "OptimizerSet", "build_optimizer", "learning_rate_factor"]
