"""Backbones: from token vectors to contextual token vectors.

In: [tokens, dim] and `models.inputs.tokens.Tokens`: where sequences start, positions, times and the attention
mask. Out: [tokens, dim]. A kind of backbone is a `Preset`, one file each; `config` lets users change parts of
it, `backbone` stacks the blocks. A new kind is a file with a preset and a line in `kinds`.

May import `behavior`, and of `models`: attention, layers, inputs (tokens only).
"""

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
