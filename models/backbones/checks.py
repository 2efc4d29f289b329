"""Whether a backbone fits the data."""

from __future__ import annotations

from behavior.errors import UserError
from models.backbones.config import BackboneConfig
from models.layers.kinds import uses_time


def check_time_bias(config: BackboneConfig, *, has_time: bool, setting: str = "model.bias") -> None:
    """Refuse a time bias on data without timestamps.

    Args:
        config: the backbone.
        has_time: whether the data has timestamps.
        setting: name of the bias setting, for the message.

    Raises:
        UserError: the bias needs times that are not there.
    """
    if has_time or not uses_time(config.relative_bias):
        return
    raise UserError(
        f"the relative time bias of '{config.kind}' needs timestamps, and this data set has none",
        where=f"{setting} = {config.relative_bias}",
        fix=f"--set {setting}={'position' if config.relative_bias == 'both' else 'none'}",
    )
