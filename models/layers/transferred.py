"""Which parameters of a module learn at another rate, since they are of another size than the base's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from models.layers.roles import Role
from models.layers.transfer import Factors, Transfer


class Transferred(nn.Module):
    """A module whose parameters learn at rates that fit their sizes."""

    transfer: Transfer


def factors_of(module: nn.Module, roles: Mapping[nn.Parameter, Role]) -> dict[nn.Parameter, Factors]:
    """Factors of the parameters that have others than 1.

    Args:
        module: looked through for modules that are `Transferred`.
        roles: of its parameters (`models.layers.roles.roles_of`).
    """
    found: dict[nn.Parameter, Factors] = {}
    for part in module.modules():
        if isinstance(part, Transferred):
            for parameter in part.parameters():
                factors = part.transfer.factors(linear=roles[parameter] is Role.MATRIX)
                if factors != Factors():
                    found[parameter] = factors
    return found
