"""
Whether a network makes sense: every mistake of a file that needs more than one value to see.

Each function of the files here is one rule and yields its mistakes with their place in the file and their code. Rules never fix
anything; a hint says what would. The order is that of reading: names first, then shape and links, addresses, tunnels, protected
origins, and expectations at last, which are judged only where everything else is right.

What needs the hosts that the network compiles to is not here, but in `lint`: that looks at anybody's configuration.
"""

from __future__ import annotations

from ginnel.config.positions import Positions
from ginnel.errors import Mistake
from ginnel.network.check import addresses, expectations, names, protect, remarks, shape, tunnels
from ginnel.network.check.context import Context, collect
from ginnel.network.check.expectations import owner_of, source_node
from ginnel.network.model import Network

__all__ = ["check", "owner_of", "remarks_on", "source_node"]

_SENSE = (*shape.RULES, *addresses.RULES, *tunnels.RULES, *protect.RULES)


def check(network: Network, positions: Positions) -> list[Mistake]:
    """
    Find all that is wrong with a network whose form is right.

    Args:
        network: as the file says.
        positions: the places of that file's keys and values.

    Returns:
        the mistakes in reading order; empty when it makes sense.
    """
    context = Context(network, positions)
    mistakes = collect(context, names.RULES)
    if mistakes:
        return mistakes  # everything below follows names
    mistakes = collect(context, _SENSE)
    return mistakes or collect(context, expectations.RULES)


def remarks_on(network: Network, positions: Positions) -> list[Mistake]:
    """What is worth knowing of a network in which `check` finds nothing: no errors, by their codes."""
    return collect(Context(network, positions), remarks.RULES)
