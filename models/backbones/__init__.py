"""Backbones: what turns a sequence of events into one query vector an event."""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.backbones.build import build_backbone
    from models.backbones.checks import check_time_bias
    from models.backbones.config import BackboneConfig
    from models.backbones.kinds import BACKBONES
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "BACKBONES": "kinds",
            "BackboneConfig": "config",
            "build_backbone": "build",
            "check_time_bias": "checks",
        },
    )

__all__ = ["BACKBONES", "BackboneConfig", "build_backbone", "check_time_bias"]
