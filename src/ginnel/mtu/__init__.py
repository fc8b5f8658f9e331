"""
MTU as arithmetic: the layers of a stack, what each takes, what is left; pure.

`Stack` is what is packed into what; `Stack.sum(link)` is the answer. A stack is made from text (`parse`) or from plain values
(`plain`, `wireguard`); `overhead` is the plain tunnels' sum as one number, `room` and `most` what
holds for several stacks at once (`protected` tunnels before their suite is agreed on); `Search` finds by probes what no sum
can know.
"""

from __future__ import annotations

from ginnel.mtu.esp import Mode, Suite, suite, suites
from ginnel.mtu.layers import MIN_IPV6_MTU, Family, Layer, Stack, StackError, Sum
from ginnel.mtu.protected import most, protected, room
from ginnel.mtu.stacks import PlainKind, overhead, plain, underlay, wireguard
from ginnel.mtu.text import parse

__all__ = [
    "MIN_IPV6_MTU",
    "Family",
    "Layer",
    "Mode",
    "PlainKind",
    "Stack",
    "StackError",
    "Suite",
    "Sum",
    "most",
    "overhead",
    "parse",
    "plain",
    "protected",
    "room",
    "suite",
    "suites",
    "underlay",
    "wireguard",
]
