"""Training: a loop that goes on where it was cut off, on one device or on several."""

from models.distributed.join import is_first_process
from models.training.run import train
from models.training.state import FREE_SETTINGS

__all__ = ["FREE_SETTINGS", "is_first_process", "train"]
