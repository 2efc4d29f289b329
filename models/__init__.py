"""Sequence models on shard folders: batches, attention, backbones, training, evaluation.

The public API, loaded when first used, so that `import models` costs nothing and settings are checked without
torch:

    import models

    config = models.load_config("ml-1m/hstu", ["train.epochs=20"])
    models.train(config, data="data/ml-1m", out="runs/hstu")
    report = models.evaluate("runs/hstu", split="test")
    model = models.load_model("runs/hstu")

docs/models.md shows it at work. Rooms and what each may import: docs/architecture.md.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.config import load_config
    from models.evaluate_run import evaluate
    from models.serving.load import TrainedModel, load_model
    from models.serving.score import History
    from models.training.refitting import refit
    from models.training.run import train
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "History": "serving.score",
            "TrainedModel": "serving.load",
            "evaluate": "evaluate_run",
            "load_config": "config",
            "load_model": "serving.load",
            "refit": "training.refitting",
            "train": "training.run",
        },
    )

__all__ = ["History", "TrainedModel", "evaluate", "load_config", "load_model", "refit", "train"]
