"""
What is to be done on one WireGuard interface, so that it becomes another.

Peers are matched by their public keys; one whose key changed, by its name. What one side does not say (no MTU: computed; no
listen port: any; no address: `wg` knows none) is not compared. Order of the steps:

    the interface's own settings, addresses that come
    prefixes: all peers that lose some, then all that get some, in one `wg set`, and peers that come: the kernel takes a prefix
      from one peer in the instant in which it gives it to another, so it is at no time at none, and never at two
    peers that go, then the rest of what changes at peers
    addresses that go

A session outlives everything but the end of a key: a peer's endpoint, prefixes and keepalive are no part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter

from ginnel.network.host import InterfaceAddress, Peer, WireguardInterface
from ginnel.network.model import HostPort
from ginnel.network.plan.steps import Sessions, Step
from ginnel.units import Prefix, PublicKey

_Words = tuple[str, ...]


def steps(old: WireguardInterface, new: WireguardInterface, *, elsewhere: frozenset[str] = frozenset()) -> Iterator[Step]:
    """
    The steps from *old* to *new*, in the order in which they are to be done; none when they say the same.

    Args:
        old: what is.
        new: what is to be; its name is what the device is called afterwards.
        elsewhere: prefixes whose routes another device of the host takes over: they are not to be taken out here.
    """
    if old is new:
        return
    moved = set(_prefixes(old.peers)) & set(_prefixes(new.peers))
    moved |= (
        {prefix for prefix in _prefixes(old.peers) if str(prefix) in elsewhere} if elsewhere and old.table == "auto" else set()
    )
    yield from _own(old, new)
    if old.peers is not new.peers:
        yield from _peers(old, new, moved)
    yield from _addresses_gone(old, new)


def _own(old: WireguardInterface, new: WireguardInterface) -> Iterator[Step]:
    name = new.name
    if old.name != new.name:
        commands = _renamed(old, name)
        yield Step("interface-name", old.name, "", f"is called {name}", "broken", commands)
    if old.public_key is not None and new.public_key is not None and old.public_key != new.public_key:
        text = f"its key changes: from {_key(old.public_key)} to {_key(new.public_key)}"
        yield Step("key", name, "", text, "broken", (("wg", "set", name, "private-key", f"/etc/wireguard/{name}.key"),))
    if new.listen_port and old.listen_port != new.listen_port:
        text = f"listens on {new.listen_port}" + (f" instead of {old.listen_port}" if old.listen_port else "")
        yield Step("listen-port", name, "", text, "kept", (("wg", "set", name, "listen-port", str(new.listen_port)),))
    if old.fwmark != new.fwmark:
        mark = f"0x{new.fwmark:x}" if new.fwmark else "off"
        yield Step("fwmark", name, "", f"fwmark {mark}", "kept", (("wg", "set", name, "fwmark", mark),))
    if old.mtu is not None and new.mtu is not None and old.mtu != new.mtu:
        command = ("ip", "link", "set", "dev", name, "mtu", str(new.mtu))
        yield Step("mtu", name, "", f"MTU {new.mtu} instead of {old.mtu}", "kept", (command,))
    if old.address:
        for address in new.address:
            if address not in old.address:
                yield Step(
                    "address-add", name, "", f"has {address}", "kept", (("ip", "address", "add", str(address), "dev", name),)
                )
    if (old.dns, old.search) != (new.dns, new.search):
        yield _dns(name, new)
    if old.table != new.table:
        text = f"routes go to table {new.table} instead of {old.table}: takes a down and an up"
        yield Step("table", name, "", text, "broken", (("wg-quick", "down", name), ("wg-quick", "up", name)))
    if old.hooks != new.hooks:
        gone = [f"{key} = {line}" for key, line in old.hooks if (key, line) not in new.hooks]
        come = [f"{key} = {line}" for key, line in new.hooks if (key, line) not in old.hooks]
        text = "hooks change" + "".join(f"; no more: {line}" for line in gone) + "".join(f"; from now: {line}" for line in come)
        yield Step("hooks", name, "", text)


def _renamed(old: WireguardInterface, name: str) -> tuple[_Words, ...]:
    """A device gets another name while it is down, and that costs it its sessions, its routes and its IPv6 addresses."""
    routes = tuple(_routes(name, old, come=_prefixes(old.peers)))
    if _anew(routes):
        return ("wg-quick", "down", old.name), ("wg-quick", "up", name)
    sixth = (each for each in old.address if len(each.packed) == 16)
    return (
        ("ip", "link", "set", "dev", old.name, "down"),
        ("ip", "link", "set", "dev", old.name, "name", name),
        ("ip", "link", "set", "dev", name, "up"),
        *(("ip", "address", "replace", str(each), "dev", name) for each in sixth),
        *routes,
    )


def _dns(name: str, new: WireguardInterface) -> Step:
    words = ", ".join((*new.dns, *new.search)) or "none"
    commands: tuple[_Words, ...] = (("resolvectl", "revert", name),)
    if new.dns:
        domains = new.search or ("~.",)
        commands = (("resolvectl", "dns", name, *new.dns), ("resolvectl", "domain", name, *domains))
    return Step("dns", name, "", f"resolvers: {words}", "kept", commands)


def _addresses_gone(old: WireguardInterface, new: WireguardInterface) -> Iterator[Step]:
    if not new.address:
        return
    for address in old.address:
        if address not in new.address:
            commands: list[_Words] = [("ip", "address", "del", str(address), "dev", new.name)]
            if len(address.packed) == 4 and any(
                other.length == address.length and _covers(other, Prefix(address.packed, 32)) for other in new.address
            ):
                # Else the kernel takes all later addresses of the same subnet out with the first, and the routes with the last.
                commands.insert(0, ("sysctl", "-q", "-w", f"net/ipv4/conf/{new.name}/promote_secondaries=1"))
            yield Step("address-remove", new.name, "", f"no longer has {address}", "kept", tuple(commands))


def _peers(old: WireguardInterface, new: WireguardInterface, moved: set[Prefix]) -> Iterator[Step]:
    name = new.name
    before = {_identity(peer): peer for peer in old.peers}
    after = {_identity(peer): peer for peer in new.peers}
    renewed = _renewed(before, after)
    # A peer that is known by its name alone on one side is the one of that name on the other.
    pairs = [(before[key], peer) for key, peer in after.items() if key in before]
    for key, found in renewed.items():
        yield _rekeyed(new, before[key], found, moved)
    changed = [(one, two) for one, two in pairs if one is not two and set(one.allowed_ips) != set(two.allowed_ips)]
    if changed:
        yield from _prefixes_move(new, changed, old, moved)
    for key, peer in after.items():
        if key not in before and peer not in renewed.values():
            yield _new_peer(new, peer)
    for key, peer in before.items():
        if key not in after and key not in renewed:
            commands: list[_Words] = [("wg", "set", name, "peer", _word(peer), "remove")]
            commands += _routes(name, new, gone=[p for p in peer.allowed_ips if p not in moved])
            yield Step("peer-remove", name, _called(peer), "is no peer any more", _sessions("ended", commands), tuple(commands))
    for one, two in pairs:
        if one is not two:
            yield from _settings(name, one, two)


def _renewed(before: Mapping[object, Peer], after: Mapping[object, Peer]) -> dict[object, Peer]:
    """Peers that have another key under the same name."""
    come = {peer.name: peer for key, peer in after.items() if key not in before and peer.name}
    if not come:
        return {}
    return {
        key: come[peer.name]
        for key, peer in before.items()
        if key not in after and peer.name in come and peer.public_key is not None
    }


def _rekeyed(interface: WireguardInterface, old: Peer, new: Peer, moved: set[Prefix]) -> Step:
    name = interface.name
    come, gone = ([prefix for prefix in each.allowed_ips if prefix not in moved] for each in (new, old))
    words = ["wg", "set", name, "peer", _word(old), "remove", *_peer_words(name, new)]
    text = f"has another key: {_key_of(new)} instead of {_key_of(old)}"
    commands = (tuple(words), *_routes(name, interface, come=come, gone=gone))
    return Step("peer-key", name, _called(new), text, "broken", commands)


def _new_peer(interface: WireguardInterface, peer: Peer) -> Step:
    name = interface.name
    words = ("wg", "set", name, *_peer_words(name, peer))
    text = f"becomes a peer: {', '.join(map(str, peer.allowed_ips)) or 'no prefixes'}"
    commands = (words, *_routes(name, interface, come=peer.allowed_ips))
    return Step("peer-add", name, _called(peer), text, _sessions("new", commands), commands)


def _peer_words(name: str, peer: Peer) -> Iterator[str]:
    yield from ("peer", _word(peer))
    if peer.psk:
        yield from ("preshared-key", psk_file(name, peer))
    if peer.endpoint is not None:
        yield from ("endpoint", endpoint_text(peer.endpoint))
    if peer.keepalive_s:
        yield from ("persistent-keepalive", str(peer.keepalive_s))
    yield from ("allowed-ips", ",".join(map(str, peer.allowed_ips)))


def _prefixes_move(
    interface: WireguardInterface, changed: list[tuple[Peer, Peer]], old: WireguardInterface, moved: set[Prefix]
) -> Iterator[Step]:
    """One step a peer; the first has the command for all of them, so that nothing lies between."""
    holder = {prefix: peer for peer in old.peers for prefix in peer.allowed_ips}
    name = interface.name
    # Those that only lose come first: what they lose is free before another gets it.
    ordered = sorted(changed, key=lambda pair: bool(set(pair[1].allowed_ips) - set(pair[0].allowed_ips)))
    words: list[str] = ["wg", "set", name]
    come: list[Prefix] = []
    gone: list[Prefix] = []
    texts: list[tuple[Peer, str]] = []
    for one, two in ordered:
        had, has = set(one.allowed_ips), set(two.allowed_ips)
        words += ["peer", _word(two), "allowed-ips", ",".join(map(str, two.allowed_ips))]
        parts = []
        for prefix in (p for p in two.allowed_ips if p not in had):
            source = holder.get(prefix)
            parts.append(f"+{prefix}" + (f" (from {_called(source)})" if source is not None and source is not one else ""))
        parts += [f"-{prefix}" for prefix in one.allowed_ips if prefix not in has]
        texts.append((two, "AllowedIPs " + " ".join(parts)))
        come += [prefix for prefix in two.allowed_ips if prefix not in had and prefix not in moved]
        gone += [prefix for prefix in one.allowed_ips if prefix not in has and prefix not in moved]
    commands = (tuple(words), *_routes(name, interface, come=come, gone=gone))
    for index, (peer, text) in enumerate(texts):
        mine = commands if index == 0 else ()
        yield Step("allowed-ips", name, _called(peer), text, _sessions("kept", mine), mine)


def _settings(name: str, old: Peer, new: Peer) -> Iterator[Step]:
    peer = ("wg", "set", name, "peer", _word(new))
    if old.endpoint != new.endpoint:
        if new.endpoint is None:
            yield Step("endpoint", name, _called(new), "is not looked for any more: it speaks first")
        else:
            text = f"is found at {endpoint_text(new.endpoint)}" + (
                f" instead of {endpoint_text(old.endpoint)}" if old.endpoint is not None else ""
            )
            yield Step("endpoint", name, _called(new), text, "kept", ((*peer, "endpoint", endpoint_text(new.endpoint)),))
    if old.keepalive_s != new.keepalive_s:
        text = f"keepalive every {new.keepalive_s} s" if new.keepalive_s else "no keepalive"
        words = (*peer, "persistent-keepalive", str(new.keepalive_s) if new.keepalive_s else "off")
        yield Step("keepalive", name, _called(new), text, "kept", (words,))
    if not _same_psk(old.psk, new.psk):
        text = "no preshared key" if not new.psk else "another preshared key" if old.psk else "a preshared key"
        file = psk_file(name, new) if new.psk else "/dev/null"
        yield Step("psk", name, _called(new), text, "broken", ((*peer, "preshared-key", file),))


def _same_psk(old: str, new: str) -> bool:
    """One that was not shown may be any."""
    return old == new or (bool(old and new) and "?" in (old, new))


def _routes(
    name: str, interface: WireguardInterface, come: Iterable[Prefix] = (), gone: Iterable[Prefix] = ()
) -> Iterator[_Words]:
    """As wg-quick makes them: none with `Table = off`, none for what the interface's own prefix covers."""
    if interface.table == "off":
        return
    table = () if interface.table == "auto" else ("table", interface.table)
    for verb, prefixes in (("replace", come), ("del", gone)):
        for prefix in prefixes:
            if any(_covers(address, prefix) for address in interface.address):
                continue
            if prefix.length == 0 and interface.table == "auto":
                # wg-quick has policy routing for these; only it, or ginnel, does that and undoes it.
                yield ("wg-quick", "down", name)
                yield ("wg-quick", "up", name)
                return
            yield ("ip", f"-{prefix.version}", "route", verb, str(prefix), "dev", name, *table)


def _anew(commands: Iterable[_Words]) -> bool:
    """Whether the interface is made anew on the way."""
    return any(words[:2] == ("wg-quick", "down") for words in commands)


def _sessions(otherwise: Sessions, commands: Iterable[_Words]) -> Sessions:
    """What becomes of sessions: none outlives an interface."""
    return "broken" if _anew(commands) else otherwise


def routed(interface: WireguardInterface) -> Iterator[Prefix]:
    """What an interface is to have routes for in the main table."""
    if interface.table != "auto":
        return
    for prefix in _prefixes(interface.peers):
        if prefix.length and not any(_covers(address, prefix) for address in interface.address):
            yield prefix


def _covers(address: InterfaceAddress, prefix: Prefix) -> bool:
    if len(address.packed) != len(prefix.packed) or address.length > prefix.length:
        return False
    rest = len(prefix.packed) * 8 - address.length
    return int.from_bytes(address.packed, "big") >> rest == int.from_bytes(prefix.packed, "big") >> rest


def endpoint_text(endpoint: HostPort) -> str:
    """As `wg` reads it."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}" if endpoint.port else host


def psk_file(interface: str, peer: Peer) -> str:
    """Where the preshared key of a peer lies, by its name, or the beginning of its key."""
    called = peer.name if peer.name and all(c.isalnum() or c in "-_." for c in peer.name) else _key_of(peer).translate(_FILE_SAFE)
    return f"/etc/wireguard/{interface}.{called}.psk"


_FILE_SAFE = str.maketrans("/+", "_-")


def _prefixes(peers: Iterable[Peer]) -> Iterator[Prefix]:
    return chain.from_iterable(map(_ALLOWED, peers))


_ALLOWED: Callable[[Peer], tuple[Prefix, ...]] = attrgetter("allowed_ips")


def _identity(peer: Peer) -> object:
    return peer.public_key if peer.public_key is not None else f"name {peer.name}"


def _word(peer: Peer) -> str:
    return peer.public_key.base64() if peer.public_key is not None else f"KEY-OF-{peer.name}"


def _key(key: PublicKey) -> str:
    return key.base64()[:8]


def _key_of(peer: Peer) -> str:
    return _key(peer.public_key) if peer.public_key is not None else "unknown"


def _called(peer: Peer) -> str:
    return peer.name or _key_of(peer)
