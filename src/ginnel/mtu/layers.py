"""
A stack of layers, from the outside in, and its sum over a link.

Two sorts of layer are enough. A *fixed* one takes its bytes from every packet. An *aligned* one makes what lies inside it a
multiple of its unit (ESP's padding): nothing is taken from a packet that is one already, and up to unit − 1 bytes from others.

    inner MTU     walk inwards from the link: minus the bytes, or down to the unit
    wire size     walk outwards from a packet: plus the bytes, or up to the unit

The two walks are each other's inverse in the only sense that matters: a packet of the inner MTU is at most the link on the wire,
and one byte more is beyond it. That holds for any sequence of layers, since each step of either walk is monotonic.

Source: RFC 791, 768, 8200, 2784, 2890, 8086, 4303; RFC 9293, 3.7.1 for the MSS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ginnel.errors import UsageError

Family = Literal[4, 6]

#: IPv6 demands it of every link (RFC 8200, 5); below it Linux turns IPv6 off on the interface.
MIN_IPV6_MTU = 1280
#: What every IPv4 link carries (RFC 791, 3.1).
MIN_IPV4_MTU = 68
#: The total length of an IP packet is 16 bits.
MAX_LINK_MTU = 65_535

#: IP header and TCP header, both without options (RFC 9293, 3.7.1; RFC 6691).
_TCP_OVER_IPV4, _TCP_OVER_IPV6 = 40, 60


class StackError(UsageError):
    """A stack that does not exist, or a link too small for it; the message says what was expected and how to mend it."""


@dataclass(frozen=True, slots=True)
class Layer:
    """
    One layer on the way in.

    name: for people. size_bytes: taken from every packet. unit: what lies inside is a multiple of it (1: anything).
    slot: equal for layers that stand in the same place over IPv4 and IPv6, for tables that show both.
    """

    name: str
    size_bytes: int
    unit: int = 1
    slot: str = ""


@dataclass(frozen=True, slots=True)
class Sum:
    """
    A stack over one link, summed up.

    layers: what each took, in the order of `Stack.layers`: the sizes add up to `link - inner`. inner: the largest packet that
    fits. mss4, mss6: of TCP inside, None where the stack carries no such packets (or too small ones for IPv6). wire: the size on
    the link of a packet of `inner` bytes; broken_wire: that of the first packet that does not fit. notes: what follows from it,
    for people.
    """

    link: int
    layers: tuple[Layer, ...]
    inner: int
    mss4: int | None
    mss6: int | None
    wire: int
    broken_wire: int
    notes: tuple[str, ...]

    @property
    def underlay(self) -> int:
        """The link, under the name that the network file uses."""
        return self.link

    @property
    def broken(self) -> int:
        """The first packet size that breaks."""
        return self.inner + 1

    def __str__(self) -> str:
        steps = " ".join(f"- {layer.size_bytes} ({layer.name})" for layer in self.layers)
        return f"{self.link} {steps} = {self.inner}" if steps else str(self.link)


@dataclass(frozen=True, slots=True)
class Stack:
    """
    What is packed into what: layers from the outside in, and the versions of IP that may lie innermost.

    text: how a person writes it. family: of the outermost IP header, None for a bare link.
    """

    text: str
    layers: tuple[Layer, ...]
    carries: frozenset[Family] = frozenset({4, 6})
    family: Family | None = None

    def inner(self, link: int) -> int:
        """The largest packet inside whose wire size is at most *link*; negative when nothing fits."""
        room = link
        for layer in self.layers:
            room -= layer.size_bytes
            room -= room % layer.unit
        return room

    def wire_size(self, inner: int) -> int:
        """How large a packet of *inner* bytes is on the link."""
        size = inner
        for layer in reversed(self.layers):
            size += -size % layer.unit
            size += layer.size_bytes
        return size

    def sum(self, link: int) -> Sum:
        """
        The sum over a link of *link* bytes (of IP packet, as `ip link` shows it).

        Raises:
            StackError: the link is out of range, or leaves no room for the smallest IPv4 packet there must be room for.
        """
        if not MIN_IPV4_MTU <= link <= MAX_LINK_MTU:
            raise StackError(f"link {link}: expected {MIN_IPV4_MTU} to {MAX_LINK_MTU} bytes of IP packet, such as 1500 or 1492")
        inner = self.inner(link)
        if inner < MIN_IPV4_MTU:
            raise StackError(
                f"{self.text}: a link of {link} leaves {max(inner, 0)} bytes, and IP needs {MIN_IPV4_MTU}\n"
                f"  hint: the link must be {self.wire_size(MIN_IPV4_MTU)} or more"
            )
        taken: list[Layer] = []
        room = link
        for layer in self.layers:
            rest = room - layer.size_bytes
            unused = rest % layer.unit
            taken.append(Layer(layer.name, layer.size_bytes + unused, layer.unit, layer.slot))
            room = rest - unused
        return Sum(
            link,
            tuple(taken),
            inner,
            inner - _TCP_OVER_IPV4 if 4 in self.carries else None,
            inner - _TCP_OVER_IPV6 if 6 in self.carries and inner >= MIN_IPV6_MTU else None,
            self.wire_size(inner),
            self.wire_size(inner + 1),
            tuple(self._notes(link, inner)),
        )

    def _notes(self, link: int, inner: int) -> Iterator[str]:
        if 6 in self.carries and inner < MIN_IPV6_MTU:
            only = "IPv4 works" if 4 in self.carries else "nothing else is carried"
            needed = self.wire_size(MIN_IPV6_MTU)
            yield f"{inner} is below {MIN_IPV6_MTU}: there is no IPv6 inside ({only}); it needs a link of {needed}"
        if self.family == 6 and link < MIN_IPV6_MTU:
            yield f"a link that carries IPv6 takes {MIN_IPV6_MTU} or more: {link} cannot be one"
        if self.wire_size(inner) < link:
            step = max(layer.unit for layer in self.layers)
            yield f"packets grow in steps of {step}: the largest is {self.wire_size(inner)} on the link"
