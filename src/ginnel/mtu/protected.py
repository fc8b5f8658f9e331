"""
Stacks of protected tunnels, from plain values: what lies under ESP, the suite, the mode, and whether UDP carries it.

    GRE, transport mode     IP | (UDP) | ESP | GRE | packet                the tunnel's delivery header serves both
    GRE, tunnel mode        IP | (UDP) | ESP | IP | GRE | packet
    IPsec alone             IP | (UDP) | ESP | packet

Which suite will be agreed on is not known before, and padding makes the sum depend on the size: so a tunnel has several stacks,
and what surely fits is what fits all of them (`room`).

Source: RFC 4303, 3948.
"""

from __future__ import annotations

from collections.abc import Sequence

from ginnel.mtu.esp import Suite
from ginnel.mtu.layers import Family, Stack
from ginnel.mtu.stacks import UDP, ip


def protected(inside: Stack | None, family: Family, suite: Suite, *, tunnel: bool, udp: bool) -> Stack:
    """
    A tunnel under ESP.

    Args:
        inside: the tunnel that is protected, with its delivery header; None: packets themselves (always tunnel mode).
        family: of the outermost IP header.
        tunnel: tunnel mode: the delivery header lies inside, behind another.
        udp: ESP in UDP.

    Returns:
        The stack; its `text` is what `ginnel mtu` takes.
    """
    layers = [ip(family), *([UDP] if udp else []), *suite.layers()]
    carries: frozenset[Family] = frozenset({4, 6}) if inside is None else inside.carries
    words = [suite.text, *(["tunnel"] if tunnel and inside is not None else []), *(["nat-t"] if udp else [])]
    text = f"esp({','.join(words)})"
    if inside is not None:
        layers += inside.layers if tunnel else inside.layers[1:]
        text = f"{inside.text}+{text}"
    return Stack(text, tuple(layers), carries, family)


def room(stacks: Sequence[Stack], link: int) -> int:
    """The largest packet that surely fits a link, whichever of *stacks* it will be; negative when nothing does."""
    return min(stack.inner(link) for stack in stacks)


def most(stacks: Sequence[Stack]) -> int:
    """What the heaviest of *stacks* takes at most from any link, padding included: exact where nothing is padded."""
    return max(sum(layer.size_bytes + layer.unit - 1 for layer in stack.layers) for stack in stacks)
