"""
Chapter 03, GRE and IP in IP: tunnels that are point to point, whose ends must be mirror images.

What one end sends is held against what the other expects, as Linux does: `ocsum` against `icsum`, `okey` against `ikey`. `pairs`
finds which two ends are one tunnel's; `ipsec` has the rules of its protection.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from ginnel.network.findings import Finding
from ginnel.network.lint import ipsec
from ginnel.network.lint.pairs import ANY, Pair, pairs, subnets
from ginnel.network.lint.view import View, covers, main_routes


def tunnels(view: View) -> Iterator[Finding]:
    """Every rule on every pair of ends, and ends without another."""
    for found in pairs(view):
        if isinstance(found, Finding):
            yield found
            continue
        for rule in (*_RULES, *ipsec.RULES):
            yield from rule(found)


def _kinds(pair: Pair) -> Iterator[Finding]:
    one, other = pair.tunnel.config, pair.other.config
    if one.kind != other.kind or one.family != other.family:
        yield pair.finding(
            "G0314",
            f"{one.kind} over IPv{one.family} at one end, {other.kind} over IPv{other.family} at the other",
            "neither knows the other's packets",
            f"kind = {one.kind!r} over IPv{one.family} at both",
        )
    elif (one.encapsulation is None) != (other.encapsulation is None):
        in_udp = pair.near if one.encapsulation is not None else pair.far
        yield pair.finding(
            "G0314",
            f"GRE in UDP at {in_udp.name} alone",
            "one expects UDP, the other protocol 47",
            "the same encapsulation at both ends",
        )


def _same_kind(pair: Pair) -> bool:
    one, other = pair.tunnel.config, pair.other.config
    return one.kind == other.kind and one.kind in ("gre", "gretap")


def _keys(pair: Pair) -> Iterator[Finding]:
    if not _same_kind(pair):
        return
    one, other = pair.tunnel.config, pair.other.config
    for sends, expects, sender, receiver in (
        (one.okey, other.ikey, pair.near, pair.far),
        (other.okey, one.ikey, pair.far, pair.near),
    ):
        if sends != expects:
            yield pair.finding(
                "G0311",
                f"{sender.name} sends {_key(sends)}, {receiver.name} expects {_key(expects)}",
                "a packet finds its tunnel by its key: these find none, and are dropped",
                f"key {sends if sends is not None else expects} at both ends",
            )
            return


def _key(key: int | None) -> str:
    return "no key" if key is None else f"key {key}"


def _options(pair: Pair) -> Iterator[Finding]:
    if not _same_kind(pair):
        return
    one, other = pair.tunnel.config, pair.other.config
    for near, far, sender, receiver in ((one, other, pair.near, pair.far), (other, one, pair.far, pair.near)):
        if near.ocsum != far.icsum and not far.tolerant:
            said = "sends checksums, and" if near.ocsum else "sends no checksums, and"
            yield pair.finding(
                "G0312",
                f"{sender.name} {said} {receiver.name} expects {'them' if far.icsum else 'none'}",
                "Linux drops packets whose checksum flag is not as configured",
                "csum at both ends, or at none",
            )
            break
    for near, far, sender, receiver in ((one, other, pair.near, pair.far), (other, one, pair.far, pair.near)):
        if far.iseq and not near.oseq:
            yield pair.finding(
                "G0313",
                f"{receiver.name} expects sequence numbers, which {sender.name} does not send",
                f"all that {sender.name} sends is dropped",
                "seq at both ends, or (better) at none",
            )
            break
    if one.ttl != other.ttl:
        yield pair.finding(
            "G0317",
            f"ttl {one.ttl or 'inherit'} and {other.ttl or 'inherit'}",
            "each way works by itself; traceroute and path MTU discovery differ",
            f"ttl {one.ttl or other.ttl} at both ends",
        )


def _ends(pair: Pair) -> Iterator[Finding]:
    for one, other, near, far in (
        (pair.tunnel.config, pair.other.config, pair.near, pair.far),
        (pair.other.config, pair.tunnel.config, pair.far, pair.near),
    ):
        remote, local = _number(one.remote), _number(other.local)
        if remote is not None and local is not None and remote != local and not (far.behind_nat and one.encapsulation):
            yield pair.finding(
                "G0315",
                f"{near.name} sends to {one.remote}, and {far.name}'s end is {other.local}",
                "a packet's addresses are those of no tunnel, and it is dropped",
                f"at {near.name}: remote = {other.local!r}, or at {far.name}: local = {one.remote!r}",
            )


def _number(text: str) -> bytes | None:
    try:
        return ipaddress.ip_address(text).packed if text not in ANY else None
    except ValueError:
        return None


def _addresses(pair: Pair) -> Iterator[Finding]:
    one, other = pair.tunnel.config, pair.other.config
    for version in (4, 6):
        near = {prefix for prefix in subnets(one) if prefix.version == version and prefix.length < len(prefix.packed) * 8}
        far = {prefix for prefix in subnets(other) if prefix.version == version and prefix.length < len(prefix.packed) * 8}
        if near and far and not near & far:
            mine = ", ".join(text for text in one.address if (":" in text) == (version == 6))
            theirs = ", ".join(text for text in other.address if (":" in text) == (version == 6))
            yield pair.finding(
                "G0316",
                f"{mine} and {theirs} are not in one subnet",
                "neither has a route to the other's address",
                f"an address of {min(near)} at {pair.far.name}",
            )


def _ways(pair: Pair) -> Iterator[Finding]:
    """Routes by the tunnel: that the far host passes on what is not its own, and that there is a way back."""
    for near, tunnel, far, other in (
        (pair.near, pair.tunnel, pair.far, pair.other),
        (pair.far, pair.other, pair.near, pair.tunnel),
    ):
        routes = list(main_routes(tunnel))
        lan = next((lan for lan in far.lans if any(covers(route, lan) or covers(lan, route) for route in routes)), None)
        own = set(far.addresses)
        onward = next((route for route in routes if not (route.length == len(route.packed) * 8 and route.packed in own)), None)
        if far.forwards is False and onward is not None:
            yield pair.finding(
                "G0207",
                f"{near.name} sends {onward} through {far.name}, which does not forward",
                f"{far.name} takes what is for itself, and drops the rest",
                f"at {far.name}: sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
            )
        if lan is None:
            continue
        back = [*main_routes(other), *(route for each in far.tunnels for route in main_routes(each))]
        back += [prefix for each in far.interfaces for peer in each.peers for prefix in peer.allowed_ips]
        lost = next(
            (mine for mine in near.lans if mine.version == lan.version and not any(covers(one, mine) for one in back)), None
        )
        if lost is not None:
            yield pair.finding(
                "G0106",
                f"{near.name} sends to {lan} at {far.name}, which has no route back to {lost}",
                f"answers to {lost} leave {far.name} by its default route, in clear or nowhere",
                f"at {far.name}: routes of {other.config.name} with {lost}",
            )


_RULES: tuple[Callable[[Pair], Iterator[Finding]], ...] = (_kinds, _keys, _options, _ends, _addresses, _ways)

RULES = (tunnels,)
