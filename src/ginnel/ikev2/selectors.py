"""
Traffic selectors: words <-> values, narrowing, and what a NAT does to those of transport mode.

Words: an address, a prefix, a range, or "dynamic" (the addresses of the IKE SA), with a protocol and ports in brackets:
`10.1.0.0/16`, `10.0.0.1-10.0.0.9[tcp/80]`, `dynamic[gre]`, `0.0.0.0/0[udp/1024-65535]`, `dynamic[icmp/8]`.

Narrowing (RFC 7296, 2.9): the responder takes what is in the offer and in its configuration, selector by selector; what came
first stays first, since an initiator puts the packet there that made it ask. Nothing in common is TS_UNACCEPTABLE.

Transport mode through a NAT (RFC 7296, 2.23.1): each side's selectors name the addresses that it sees itself; the responder puts
the addresses of the IKE SA in place of the host addresses, narrows, and answers with what was offered.

Source: RFC 7296, 2.9, 2.23.1, 3.13.1; strongSwan's `local_ts` for the words.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ginnel.errors import UsageError
from ginnel.wire.ikev2 import OPAQUE_PORTS, SELECTORS_MAX, Selector

ANY_PORT: Final = (0, 65_535)
#: Pairs that a peer may make of what is configured, whatever it cuts it into. Each packet is held against each pair, in the
#: thread that all tunnels share: 255 with 255 would stop them all.
PAIRS_MAX: Final = 1024
_SIDE_MAX: Final = 32
#: Protocols that people name; any other is a number.
PROTOCOLS: Final = {
    "any": 0,
    "icmp": 1,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "ipv6": 41,
    "gre": 47,
    "icmpv6": 58,
    "ospf": 89,
    "sctp": 132,
}
_PROTOCOL_WORDS: Final = {number: word for word, number in PROTOCOLS.items()}
#: Protocols without ports: a selector with one would let nothing pass.
_PORTLESS: Final = frozenset({4, 41, 47, 89})
#: Where ports are type and code (RFC 7296, 3.13.1).
_ICMP: Final = (1, 58)

#: (protocol, first and last source port, source from and to, the same of the destination), as the engine takes it.
Engine = tuple[int, int, int, bytes, bytes, int, int, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Words:
    """A selector as it was written: addresses None where it says "dynamic"."""

    protocol: int
    first_port: int
    last_port: int
    first: bytes | None
    last: bytes | None

    @property
    def dynamic(self) -> bool:
        """Whether its address is that of the IKE SA."""
        return self.first is None

    def at(self, address: bytes) -> Selector:
        """The selector, with *address* in place of "dynamic"."""
        first, last = self.first or address, self.last or address
        return Selector(self.protocol, self.first_port, self.last_port, first, last)


def parse_words(text: str) -> Words:
    """
    One selector; UsageError with what was expected for anything else.
    """
    where, bracket, rest = text.strip().partition("[")
    if bracket and not rest.endswith("]"):
        raise UsageError(f"'{text}': expected a closing bracket, as in {where or 'dynamic'}[gre]")
    protocol, ports = _protocol_and_ports(rest[:-1], text) if bracket else (0, ANY_PORT)
    first, last = _addresses(where.strip(), text)
    return Words(protocol, *ports, first, last)


def text(selector: Selector) -> str:
    """In words: the prefix where it is one, else the range; protocol and ports in brackets where they are not any."""
    return _addresses_text(selector.first, selector.last) + _protocol_text(selector)


def texts(selectors: Iterable[Selector]) -> str:
    """Several, for a sentence: "10.1.0.0/16, 10.2.0.0/16[tcp/80]"; "nothing" for none."""
    return ", ".join(text(selector) for selector in selectors) or "nothing"


def host(address: bytes, protocol: int = 0) -> Selector:
    """One address, every port."""
    return Selector(protocol, *ANY_PORT, address, address)


def everything(address_bytes: int) -> Selector:
    """All of IPv4 (4) or IPv6 (16)."""
    return Selector(0, *ANY_PORT, bytes(address_bytes), b"\xff" * address_bytes)


def is_host(selector: Selector) -> bool:
    """Whether it is one address."""
    return selector.first == selector.last


def intersection(one: Selector, other: Selector) -> Selector | None:
    """What is in both; None when nothing is."""
    if len(one.first) != len(other.first):
        return None
    if one.protocol and other.protocol and one.protocol != other.protocol:
        return None
    ports = _common_ports((one.first_port, one.last_port), (other.first_port, other.last_port))
    first, last = max(one.first, other.first), min(one.last, other.last)
    if ports is None or first > last:
        return None
    return Selector(one.protocol or other.protocol, *ports, first, last)


def contains(outer: Selector, inner: Selector) -> bool:
    """Whether all of *inner* is in *outer*."""
    return intersection(outer, inner) == inner


def within(inner: Iterable[Selector], outer: Sequence[Selector]) -> bool:
    """Whether each of *inner* is in one of *outer*: what an initiator asks of the answer. Nothing is in nothing: False."""
    found = tuple(inner)
    return bool(found) and all(any(contains(one, selector) for one in outer) for selector in found)


def narrow(offered: Sequence[Selector], configured: Sequence[Selector]) -> tuple[Selector, ...] | None:
    """
    What both sides want, in the order of the offer, nothing twice; None when that is nothing.

    Source: RFC 7296, 2.9.
    """
    found: list[Selector] = []
    for theirs in offered:
        for ours in configured:
            common = intersection(theirs, ours)
            if common is None or any(contains(one, common) for one in found):
                continue
            # The first stays though it be in a later one: it is the packet that the initiator asks for.
            found = [one for at, one in enumerate(found) if not at or not contains(common, one)] + [common]
            if len(found) == SELECTORS_MAX:
                return tuple(found)
    return tuple(found) or None


def narrow_through_nat(
    offered: Sequence[Selector], configured: Sequence[Selector], seen: bytes
) -> tuple[tuple[Selector, ...], tuple[Selector, ...]] | None:
    """
    `narrow` of a transport mode offer that names an address which a NAT has changed on its way.

    Args:
        offered: TSi or TSr of the request.
        configured: ours.
        seen: the address of the IKE SA on that side, as we see it.

    Returns:
        (what we install: with *seen*; what we answer: with the address that was offered), pair by pair; None when nothing is in
        common.

    Source: RFC 7296, 2.23.1.
    """
    ours: list[Selector] = []
    answer: list[Selector] = []
    for theirs in offered:
        swapped = substituted((theirs,), seen)[0]
        for common in narrow((swapped,), configured) or ():
            if common in ours or len(ours) == SELECTORS_MAX:
                continue
            ours.append(common)
            answer.append(common if swapped == theirs else replace(common, first=theirs.first, last=theirs.last))
    return (tuple(ours), tuple(answer)) if ours else None


def pairs_max(local: Sequence[Selector], remote: Sequence[Selector]) -> int:
    """How many pairs an SA may have where these two sides are configured, or were offered: who has more has asked for them."""
    return max(PAIRS_MAX, len(local) * len(remote))


def taken(local: int, remote: int, limit: int) -> tuple[int, int]:
    """
    How many of each side's are taken, from the first on, so that there are at most *limit* pairs (no less than `PAIRS_MAX`).

    A responder may always narrow (RFC 7296, 2.9), and says to what.
    """
    if local * remote <= limit:
        return local, remote
    if min(local, remote) > _SIDE_MAX:
        return _SIDE_MAX, _SIDE_MAX
    return (local, limit // local) if local < remote else (limit // remote, remote)


def substituted(selectors: Iterable[Selector], address: bytes) -> tuple[Selector, ...]:
    """The same with *address* in place of each host address of its family."""
    return tuple(
        replace(one, first=address, last=address) if is_host(one) and len(one.first) == len(address) else one for one in selectors
    )


def for_engine(source: Sequence[Selector], destination: Sequence[Selector]) -> list[Engine]:
    """
    Each source with each destination of its family and protocol, as the engine checks packets.

    A protocol that only one side names holds for both; the engine's own bound is on the product.
    """
    found: list[Engine] = []
    for one in source:
        for other in destination:
            if len(one.first) != len(other.first) or (one.protocol and other.protocol and one.protocol != other.protocol):
                continue
            protocol = one.protocol or other.protocol
            ends = (one.first_port, one.last_port, one.first, one.last)
            others = (other.first_port, other.last_port, other.first, other.last)
            found.append((protocol, *ends, *others))
    return found


def _common_ports(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int] | None:
    if OPAQUE_PORTS in (one, other):
        return OPAQUE_PORTS if {one, other} <= {OPAQUE_PORTS, ANY_PORT} else None
    first, last = max(one[0], other[0]), min(one[1], other[1])
    return (first, last) if first <= last else None


def _addresses(where: str, whole: str) -> tuple[bytes | None, bytes | None]:
    if where == "dynamic":
        return None, None
    first, dash, last = where.partition("-")
    try:
        if dash:
            low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
            if low.version != high.version or low.packed > high.packed:
                raise UsageError(f"'{whole}': expected a range from the lower to the higher address of one family")
            return low.packed, high.packed
        interface = ipaddress.ip_interface(where)
    except ValueError:
        examples = "10.1.0.0/16, 10.0.0.1-10.0.0.9, 2001:db8::/32 or dynamic"
        raise UsageError(f"'{whole}': expected a selector such as {examples}, found '{where}'") from None
    network = interface.network
    if network.network_address != interface.ip:
        raise UsageError(f"'{whole}': expected a prefix, found an address with bits behind it\n  hint: write {network}")
    return network.network_address.packed, network.broadcast_address.packed


def _protocol_and_ports(inside: str, whole: str) -> tuple[int, tuple[int, int]]:
    name, slash, ports = inside.partition("/")
    word = name.strip().lower()
    number = PROTOCOLS.get(word)
    if number is None:
        if not word.isdecimal() or int(word) > 255:
            known = ", ".join(PROTOCOLS)
            raise UsageError(f"'{whole}': '{name}' is no protocol\n  hint: a number to 255, or one of {known}")
        number = int(word)
    if not slash or ports == "any":
        return number, ANY_PORT
    if ports == "opaque":
        return number, OPAQUE_PORTS
    first, dash, last = ports.partition("-")
    bounds = (first, last if dash else first)
    if not all(one.isdecimal() and int(one) <= 65_535 for one in bounds) or int(bounds[0]) > int(bounds[1]):
        raise UsageError(f"'{whole}': expected a port or a range of ports to 65535, found '{ports}'")
    if number in _PORTLESS:
        raise UsageError(f"'{whole}': {_PROTOCOL_WORDS[number]} has no ports, found '{ports}'\n  hint: leave /{ports} out")
    if number in _ICMP and not dash and int(first) <= 255:
        # A type of ICMP with all its codes.
        return number, (int(first) << 8, int(first) << 8 | 255)
    return number, (int(bounds[0]), int(bounds[1]))


def _addresses_text(first: bytes, last: bytes) -> str:
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    spread = int(low) ^ int(high)
    aligned = spread & (spread + 1) == 0 and int(low) & spread == 0
    if low == high:
        return str(low)
    return f"{low}/{low.max_prefixlen - spread.bit_length()}" if aligned else f"{low}-{high}"


def _protocol_text(selector: Selector) -> str:
    ports = (selector.first_port, selector.last_port)
    if not selector.protocol and ports == ANY_PORT:
        return ""
    word = _PROTOCOL_WORDS.get(selector.protocol, str(selector.protocol))
    if ports == ANY_PORT:
        return f"[{word}]"
    if ports == OPAQUE_PORTS:
        return f"[{word}/opaque]"
    if selector.protocol in _ICMP and ports[0] & 255 == 0 and ports[1] == ports[0] | 255:
        return f"[{word}/{ports[0] >> 8}]"
    return f"[{word}/{ports[0]}]" if ports[0] == ports[1] else f"[{word}/{ports[0]}-{ports[1]}]"
