"""
Chapter 03, GRE, IP in IP and IPsec: tunnels that are point to point, whose ends must be mirror images.

The other end of a tunnel is that of the node it names, where names are known; else the tunnel whose `local` is this one's
`remote`. Of several between the same two hosts it is the one that mirrors it best. What one end sends is held against what the
other expects: `ocsum` against `icsum`, `okey` against `ikey`, `local_ts` against `remote_ts`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.errors import UsageError
from ginnel.ikev2 import identities, proposals, selectors
from ginnel.network.findings import Finding
from ginnel.network.host import Host, Place, Tunnel
from ginnel.network.lint.view import View, covers, main_routes
from ginnel.units import Prefix

_ANY = ("any", "", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both ends of one tunnel."""

    near: Host
    tunnel: Tunnel
    far: Host
    other: Tunnel

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(each.place for each in (self.tunnel, self.other) if each.place is not None)

    @property
    def nodes(self) -> tuple[str, str]:
        return self.near.name, self.far.name

    def finding(self, code: str, what: str, cause: str, mend: str) -> Finding:
        """A finding that is called by both devices."""
        name = f"{self.near.name}'s {self.tunnel.config.name} and {self.far.name}'s {self.other.config.name}"
        return Finding(code, f"{name}: {what}", self.places, cause, mend, self.nodes)


def tunnels(view: View) -> Iterator[Finding]:
    """Every rule on every pair of ends, and ends without another."""
    if not any(host.tunnels for host in view.hosts):
        return
    locals_: dict[str, list[tuple[Host, Tunnel]]] = {}
    by_peer: dict[tuple[str, str], list[Tunnel]] = {}
    for host in view.hosts:
        for tunnel in host.tunnels:
            if tunnel.config.local not in _ANY:
                locals_.setdefault(tunnel.config.local, []).append((host, tunnel))
            if tunnel.peer:
                by_peer.setdefault((host.name, tunnel.peer), []).append(tunnel)
    told: set[frozenset[tuple[str, str]]] = set()
    for host in view.hosts:
        for tunnel in host.tunnels:
            found = _other_end(view, host, tunnel, locals_, by_peer)
            if found is None:
                continue
            far, other = found
            if other is None:
                yield _alone(host, tunnel, far)
                continue
            both = frozenset(((host.name, tunnel.config.name), (far.name, other.config.name)))
            if both not in told:
                told.add(both)
                for rule in _RULES:
                    yield from rule(_Pair(host, tunnel, far, other))


def _other_end(
    view: View,
    host: Host,
    tunnel: Tunnel,
    locals_: dict[str, list[tuple[Host, Tunnel]]],
    by_peer: dict[tuple[str, str], list[Tunnel]],
) -> tuple[Host, Tunnel | None] | None:
    """The host and the tunnel at the other end; (host, None) where the host is known and has none; None: nothing is known."""
    remote = tunnel.config.remote
    if tunnel.peer and (far := view.by_name.get(tunnel.peer)) is not None:
        candidates = [(far, each) for each in by_peer.get((far.name, host.name), ())]
        if not candidates:
            return far, None
    else:
        candidates = [(other, each) for other, each in locals_.get(remote, ()) if other is not host] if remote not in _ANY else []
        back = [item for item in candidates if item[1].config.remote in (tunnel.config.local, *_ANY)]
        if not candidates:
            return None
        if not back:
            # Somebody has that address, and no tunnel to here: only where our own address is known can that be said.
            return (candidates[0][0], None) if tunnel.config.local not in _ANY else None
        candidates = back
    return max(candidates, key=lambda item: _likeness(tunnel.config, item[1].config))


def _likeness(one: PlainConfig, other: PlainConfig) -> tuple[int, ...]:
    """How well two ends go together, by what tells tunnels between the same hosts apart."""
    return (
        int(one.kind == other.kind),
        int(one.okey == other.ikey and one.ikey == other.okey),
        int(one.remote == other.local) + int(one.local == other.remote),
        int(_subnets(one) == _subnets(other)),
    )


def _alone(host: Host, tunnel: Tunnel, far: Host) -> Finding:
    return Finding(
        "G0310",
        f"{host.name}'s {tunnel.config.name} leads to {far.name}, which has no tunnel back",
        (tunnel.place,) if tunnel.place is not None else (),
        f"what arrives at {far.name} finds no tunnel, and is dropped",
        f"at {far.name}: a tunnel with remote = {tunnel.config.local if tunnel.config.local not in _ANY else host.name}",
        (host.name, far.name),
    )


# ---------------------------------------------------------------- GRE and IP in IP


def _kinds(pair: _Pair) -> Iterator[Finding]:
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


def _same_kind(pair: _Pair) -> bool:
    one, other = pair.tunnel.config, pair.other.config
    return one.kind == other.kind and one.kind in ("gre", "gretap")


def _keys(pair: _Pair) -> Iterator[Finding]:
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


def _options(pair: _Pair) -> Iterator[Finding]:
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


def _ends(pair: _Pair) -> Iterator[Finding]:
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
        return ipaddress.ip_address(text).packed if text not in _ANY else None
    except ValueError:
        return None


def _subnets(config: PlainConfig) -> frozenset[Prefix]:
    found = (Prefix.parse(text) for text in config.address)
    return frozenset(prefix for prefix in found if not (len(prefix.packed) == 16 and prefix.packed[:1] == b"\xfe"))


def _addresses(pair: _Pair) -> Iterator[Finding]:
    one, other = pair.tunnel.config, pair.other.config
    for version in (4, 6):
        near = {prefix for prefix in _subnets(one) if prefix.version == version and prefix.length < len(prefix.packed) * 8}
        far = {prefix for prefix in _subnets(other) if prefix.version == version and prefix.length < len(prefix.packed) * 8}
        if near and far and not near & far:
            mine = ", ".join(text for text in one.address if (":" in text) == (version == 6))
            theirs = ", ".join(text for text in other.address if (":" in text) == (version == 6))
            yield pair.finding(
                "G0316",
                f"{mine} and {theirs} are not in one subnet",
                "neither has a route to the other's address",
                f"an address of {min(near)} at {pair.far.name}",
            )


def _ways(pair: _Pair) -> Iterator[Finding]:
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


# ---------------------------------------------------------------- IPsec


def _protection(pair: _Pair) -> Iterator[Finding]:
    one, other = pair.tunnel.config.ipsec, pair.other.config.ipsec
    if (one is None) == (other is None):
        return
    has, lacks = (pair.near, pair.far) if one is not None else (pair.far, pair.near)
    yield pair.finding(
        "G0321",
        f"{has.name} protects it by IPsec, {lacks.name} does not",
        f"{has.name} drops what comes in clear, {lacks.name} what does not",
        f"[ipsec] at {lacks.name} as well",
    )


def _both(pair: _Pair) -> tuple[IpsecConfig, IpsecConfig] | None:
    one, other = pair.tunnel.config.ipsec, pair.other.config.ipsec
    return (one, other) if one is not None and other is not None else None


def _agreement(pair: _Pair) -> Iterator[Finding]:
    """What IKE negotiates."""
    if (found := _both(pair)) is None:
        return
    one, other = found
    if one.mode != other.mode:
        yield pair.finding(
            "G0322",
            f"{one.mode} mode at {pair.near.name}, {other.mode} mode at {pair.far.name}",
            "the child SA is refused, or made in a mode that one of them does not mean",
            f'mode = "{one.mode}" at both ends',
        )
    for words, ours, theirs, defaults in (
        ("ike", one.ike_proposals, other.ike_proposals, proposals.default_ike),
        ("esp", one.esp_proposals, other.esp_proposals, proposals.default_esp),
    ):
        try:
            mine = proposals.parse_list(ours, "ike" if words == "ike" else "esp") if ours else defaults()
            other_s = proposals.parse_list(theirs, "ike" if words == "ike" else "esp") if theirs else defaults()
        except UsageError:
            continue  # of an algorithm that is not known here nothing can be said
        if isinstance(proposals.select(mine, other_s, ke=words == "ike"), proposals.Difference):
            yield pair.finding(
                "G0324",
                f"no {words.upper()} proposal in common: {_list(ours)} and {_list(theirs)}",
                "the answer is NO_PROPOSAL_CHOSEN",
                f"{words}_proposals = [{(ours or theirs)[0]!r}] at both ends",
            )
    if one.start == "wait" and other.start == "wait":
        yield pair.finding(
            "G0328",
            "both ends wait for the other to begin",
            "nobody does",
            f'start = "start" at {pair.near.name if pair.near.behind_nat else pair.far.name}',
        )


def _list(texts: tuple[str, ...]) -> str:
    return ", ".join(texts) or "the usual ones"


def _proofs(pair: _Pair) -> Iterator[Finding]:
    """Who each end says it is, and how it proves it."""
    if (found := _both(pair)) is None:
        return
    for one, other, near, far in (
        (found[0], found[1], pair.near, pair.far),
        (found[1], found[0], pair.far, pair.near),
    ):
        if one.local_id and other.remote_id and not _same_id(one.local_id, other.remote_id):
            yield pair.finding(
                "G0325",
                f"{near.name} calls itself {one.local_id}, and {far.name} expects {other.remote_id}",
                "AUTHENTICATION_FAILED",
                f"at {far.name}: remote_id = {one.local_id!r}",
            )
        expected = other.remote_auth or other.auth
        if one.auth != expected and "psk" in (one.auth, expected):
            yield pair.finding(
                "G0326",
                f"{near.name} proves itself by {one.auth}, and {far.name} expects {expected}",
                "AUTHENTICATION_FAILED",
                "the same auth at both ends",
            )
    psk, theirs = pair.tunnel.psk, pair.other.psk
    if psk not in ("", "?") and theirs not in ("", "?") and psk != theirs:
        yield pair.finding(
            "G0327", "different preshared keys", "AUTHENTICATION_FAILED", "the same bytes in the files of both ends"
        )


def _same_id(one: str, other: str) -> bool:
    try:
        mine, theirs = identities.parse(one), identities.parse(other)
    except UsageError:
        return one == other
    return mine is None or theirs is None or identities.same(mine, theirs)


def _selectors(pair: _Pair) -> Iterator[Finding]:
    """What goes through the SA, as each end has it."""
    if (found := _both(pair)) is None or found[0].mode != found[1].mode:
        return
    for one, other, near, far in (
        (found[0], found[1], pair.near, pair.far),
        (found[1], found[0], pair.far, pair.near),
    ):
        if not one.local_ts or not other.remote_ts:
            continue  # the default of either is what the other's tunnel needs
        try:
            mine = {selectors.parse_words(text) for text in one.local_ts}
            theirs = {selectors.parse_words(text) for text in other.remote_ts}
        except UsageError:
            continue
        if mine != theirs and not any(each.dynamic for each in mine | theirs):
            yield pair.finding(
                "G0323",
                f"{near.name} has {', '.join(one.local_ts)} on its side, {far.name} expects {', '.join(other.remote_ts)} there",
                "TS_UNACCEPTABLE, or an SA for less than is meant",
                f"at {far.name}: remote_ts = {', '.join(one.local_ts)}",
            )


_RULES: tuple[Callable[[_Pair], Iterator[Finding]], ...] = (
    _kinds,
    _keys,
    _options,
    _ends,
    _addresses,
    _ways,
    _protection,
    _agreement,
    _proofs,
    _selectors,
)

RULES = (tunnels,)
