"""
What is to be done on the tunnels of a host that have a device each: GRE, IP in IP, IPsec.

Tunnels are matched by their device's name, else by kind, remote and key. What a running tunnel can take is one `ip` command; what
the kernel only takes at the beginning (kind, key of an IPsec tunnel …), and what IKE negotiates, is a new tunnel: `ginnel up`
of the node file does exactly that one anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ginnel.config.node import PlainConfig
from ginnel.network.host import Tunnel
from ginnel.network.plan.steps import Sessions, Step

#: Fields that a device takes while it is up, as `ip link set … type` words them; others make it a new one.
_OPTIONS = (
    "ikey",
    "okey",
    "icsum",
    "ocsum",
    "iseq",
    "oseq",
    "ttl",
    "tos",
    "pmtudisc",
    "ignore_df",
    "encaplimit",
    "flowlabel",
    "fwmark",
)
_PLACED = ("local", "remote", "dev")
#: What only ginnel's own process has.
_OURS = ("keepalive", "mss_clamp", "rules", "tolerant", "encapsulation")


def steps(old: Sequence[Tunnel], new: Sequence[Tunnel], routed: frozenset[str] = frozenset()) -> Iterator[Step]:
    """
    The steps from the tunnels *old* to the tunnels *new* of one host, which is to have routes for the prefixes *routed*: by
    whichever device, that one's `replace` takes them away from another.
    """
    if old is new:
        return
    before = {tunnel.config.name: tunnel for tunnel in old}
    after = {tunnel.config.name: tunnel for tunnel in new}
    pairs = {name: name for name in after if name in before}
    by_ends = {_ends(tunnel.config): name for name, tunnel in before.items() if name not in after}
    for name, tunnel in after.items():
        if name not in pairs and (found := by_ends.pop(_ends(tunnel.config), None)) is not None:
            pairs[name] = found
    for name, tunnel in before.items():
        if name not in pairs.values():
            command = ("ip", "link", "delete", "dev", name)
            yield Step("tunnel-remove", name, tunnel.peer, f"the {tunnel.config.kind} tunnel ends", "ended", (command,))
    for name, tunnel in after.items():
        if name not in pairs:
            text = f"a new {tunnel.config.kind} tunnel to {tunnel.config.remote}: " + ", ".join(tunnel.config.address)
            yield Step("tunnel-add", name, tunnel.peer, text, "new", (("ginnel", "up", "node.toml"),))
        else:
            yield from _changed(before[pairs[name]], tunnel, routed)


def _ends(config: PlainConfig) -> tuple[str, str, int | None]:
    return config.kind, config.remote, config.okey


def _changed(one: Tunnel, two: Tunnel, routed: frozenset[str]) -> Iterator[Step]:
    old, new, peer = one.config, two.config, two.peer or one.peer
    if old == new and _same_psk(one.psk, two.psk):
        return
    name = new.name
    if old.name != name:
        command = ("ip", "link", "set", "dev", old.name, "name", name)
        yield Step("interface-name", old.name, peer, f"is called {name}", "kept", (command,))
    for address in new.address:
        if address not in old.address:
            yield Step("address-add", name, peer, f"has {address}", "kept", (("ip", "address", "add", address, "dev", name),))
    if (old.kind, old.family) != (new.kind, new.family):
        yield Step("tunnel-kind", name, peer, f"is {new.kind} instead of {old.kind}", "broken", (("ginnel", "up", "node.toml"),))
    else:
        yield from _options(old, new, peer)
    if old.mtu is not None and new.mtu is not None and old.mtu != new.mtu:
        command = ("ip", "link", "set", "dev", name, "mtu", str(new.mtu))
        yield Step("mtu", name, peer, f"MTU {new.mtu} instead of {old.mtu}", "kept", (command,))
    yield from _routes(old, new, peer, routed)
    ours = ("encapsulation",) if one.kernel or two.kernel else _OURS
    if (differing := _differing(old, new, ours)) and (old.encapsulation is None) != (new.encapsulation is None):
        yield Step("encapsulation", name, peer, _said(new, differing), "broken", (("ginnel", "up", "node.toml"),))
    elif differing:
        yield Step("tunnel-options", name, peer, _said(new, differing), "kept", (("ginnel", "up", "node.toml"),))
    yield from _protection(one, two, peer)
    for address in old.address:
        if address not in new.address:
            words = ("ip", "address", "del", address, "dev", name)
            yield Step("address-remove", name, peer, f"no longer has {address}", "kept", (words,))


def _options(old: PlainConfig, new: PlainConfig, peer: str) -> Iterator[Step]:
    differing = _differing(old, new, _OPTIONS + _PLACED)
    if not differing:
        return
    words = ["ip", "link", "set", "dev", new.name, "type", new.kind]
    for field in differing:
        words += _option(field, getattr(new, field))
    broken = any(field in {"ikey", "okey", "local", "remote", "iseq", "icsum"} for field in differing)
    sessions: Sessions = "broken" if broken else "kept"
    commands = (("ginnel", "up", "node.toml"),) if new.kind == "ipsec" or new.ipsec is not None else (tuple(words),)
    yield Step("tunnel-options", new.name, peer, _said(new, differing), sessions, commands)


def _option(field: str, value: object) -> tuple[str, ...]:
    match field, value:
        case (("icsum" | "ocsum" | "iseq" | "oseq" | "pmtudisc"), bool()):
            return (field if value else f"no{field}",)
        case "ignore_df", bool():
            return ("ignore-df" if value else "noignore-df",)
        case (("ikey" | "okey"), None):
            return (f"no{field}",)
        case ("ttl", 0) | ("tos", None):
            return (field, "inherit")
        case _, None:
            return (field, "none")
    return (field, str(value))


def _routes(old: PlainConfig, new: PlainConfig, peer: str, routed: frozenset[str]) -> Iterator[Step]:
    come = [route for route in new.routes if route not in old.routes]
    gone = [route for route in old.routes if route not in new.routes]
    if not come and not gone:
        return
    commands = tuple(
        ("ip", _family(route), "route", verb, *route.split(), "dev", new.name)
        for verb, routes in (("replace", come), ("del", gone))
        for route in routes
        if verb == "replace" or route not in routed
    )
    text = "routes " + " ".join([f"+{route}" for route in come] + [f"-{route}" for route in gone])
    yield Step("routes", new.name, peer, text, "kept", commands)


def _family(route: str) -> str:
    return "-6" if ":" in route else "-4"


def _protection(one: Tunnel, two: Tunnel, peer: str) -> Iterator[Step]:
    old, new, name = one.config, two.config, two.config.name
    if (old.ipsec is None) != (new.ipsec is None):
        text = "is protected by IPsec" if new.ipsec is not None else "is not protected by IPsec any more"
        yield Step("protection", name, peer, text, "broken", (("ginnel", "up", "node.toml"),))
    elif old.ipsec is not None and new.ipsec is not None and old.ipsec != new.ipsec:
        differing = [field for field in new.ipsec.__slots__ if getattr(old.ipsec, field) != getattr(new.ipsec, field)]
        text = "; ".join(f"{field} {getattr(new.ipsec, field)}" for field in differing)
        times = {
            "ike_rekey_s",
            "rekey_s",
            "rekey_bytes",
            "rekey_packets",
            "dpd_s",
            "dpd_action",
            "start",
            "retransmit_s",
            "give_up_s",
        }
        sessions: Sessions = "renewed" if times.issuperset(differing) else "broken"
        yield Step("protection", name, peer, text, sessions, (("ginnel", "up", "node.toml"), ("ginnel", "rekey", name)))
    if not _same_psk(one.psk, two.psk):
        yield Step("psk", name, peer, "another preshared key", "broken", (("ginnel", "up", "node.toml"),))


def _same_psk(old: str, new: str) -> bool:
    """One that was not shown, or that nothing says anything of, may be any."""
    return old == new or not old or not new or "?" in (old, new)


def _differing(old: PlainConfig, new: PlainConfig, fields: Sequence[str]) -> list[str]:
    return [field for field in fields if getattr(old, field) != getattr(new, field)]


def _said(new: PlainConfig, fields: Sequence[str]) -> str:
    return ", ".join(f"{field.replace('_', '-')} {_value(getattr(new, field))}" for field in fields)


def _value(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case tuple():
            return " ".join(map(str, value)) or "none"
    return str(value)
