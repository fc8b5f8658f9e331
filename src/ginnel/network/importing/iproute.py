"""
What iproute2 prints as JSON: `ip -j -d link`, `ip -j tunnel`, `ip -j addr`, `ip -j route`; each a list, told apart by its items.

Of links, those are taken whose kind is a tunnel's; of addresses and routes, those of such devices, and of WireGuard's, whose
peers `wg` has to tell. Everything else is the host's own business and no loss.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ginnel.config.node import GRE_IN_UDP_PORT, Encapsulation, PlainConfig, PlainKind
from ginnel.network.host import Tunnel
from ginnel.network.importing.reading import Notes, number, shown
from ginnel.network.importing.source import LinkFacts, Part
from ginnel.units import Prefix

_KINDS: dict[str, tuple[PlainKind, int]] = {
    "gre": ("gre", 4),
    "ip6gre": ("gre", 6),
    "gretap": ("gretap", 4),
    "ip6gretap": ("gretap", 6),
    "ipip": ("ipip", 4),
    "sit": ("sit", 4),
    "ip6tnl": ("ip6tnl", 6),
    # `ip tunnel` says what is carried in what.
    "gre/ip": ("gre", 4),
    "gre/ipv6": ("gre", 6),
    "ip/ip": ("ipip", 4),
    "ipv6/ip": ("sit", 4),
    "ip/ipv6": ("ip6tnl", 6),
    "ipv6/ipv6": ("ip6tnl", 6),
    "any/ipv6": ("ip6tnl", 6),
}
#: Devices that the modules make by themselves, and that carry nothing.
_FALLBACK = frozenset({"gre0", "gretap0", "erspan0", "tunl0", "sit0", "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0"})
_ITEMS_MAX = 100_000


def detect(text: str) -> bool:
    """Whether a text is of this format."""
    return re.match(r"\s*\[\s*\{", text) is not None and re.search(r'"(?:ifname|dst)"\s*:', text[:65536]) is not None


def read(text: str, interface: str, notes: Notes) -> Part:  # noqa: ARG001 - items say which device they are about
    """Read one file."""
    part = Part(place=notes.place(0))
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        notes.add("G0803", f"{notes.source}: expected the JSON of `ip -j`, found something else")
        return part
    if not isinstance(items, list) or len(items) > _ITEMS_MAX:
        notes.add("G0803", f"{notes.source}: expected a list of at most {_ITEMS_MAX} items")
        return part
    routes: dict[str, list[str]] = {}
    for item in items:
        if not isinstance(item, dict) or not item:
            continue
        try:
            _item(item, part, routes, notes)
        except (ValueError, TypeError, KeyError, AttributeError):
            name = item.get("ifname", item.get("dev", "?"))
            notes.add("G0803", f"{notes.source}: what it says of {shown(str(name))} cannot be read, and is left out")
    part.links += [LinkFacts(name, routes=tuple(dict.fromkeys(found)), place=notes.place(0)) for name, found in routes.items()]
    return part


def _item(item: dict[str, Any], part: Part, routes: dict[str, list[str]], notes: Notes) -> None:
    if "dst" in item:
        device = item.get("dev")
        if isinstance(device, str) and item.get("protocol") != "kernel" and item.get("type", "unicast") == "unicast":
            destination = item["dst"] if item["dst"] != "default" else "0.0.0.0/0"
            routes.setdefault(device, []).append(str(Prefix.parse(destination)))
        return
    name = item["ifname"]
    if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_=+.-]{1,15}", name):
        raise ValueError(name)
    mtu = item.get("mtu")
    found = tuple(
        (Prefix.parse(each["local"]).packed, number(str(each["prefixlen"]), 0, 128))
        for each in item.get("addr_info", ())
        if each.get("local") and each.get("scope") != "link"
    )
    if found or mtu is not None:
        part.links.append(LinkFacts(name, found, number(str(mtu), 1, 2**31) if mtu is not None else None, place=notes.place(0)))
    info = item.get("linkinfo", {})
    kind = info.get("info_kind") or item.get("mode")
    if kind is None or kind == "wireguard" or name in _FALLBACK:
        return
    if kind in _KINDS:
        part.tunnels.append(_tunnel(name, *_KINDS[kind], info.get("info_data") or item, mtu, notes))
    elif kind in {"vti", "vti6", "xfrm", "vxlan", "geneve", "erspan", "ip6erspan", "gtp", "l2tp", "tun"}:
        notes.add("G0816", f"{name}: a device of kind {kind} is left out")


def _tunnel(name: str, kind: PlainKind, family: int, data: dict[str, Any], mtu: object, notes: Notes) -> Tunnel:
    encap = data.get("encap")
    udp = None
    if isinstance(encap, dict) and encap.get("type") in {"fou", "gue"}:
        udp = Encapsulation(
            listen=GRE_IN_UDP_PORT, sport=int(encap.get("sport") or 0), dport=int(encap.get("dport") or GRE_IN_UDP_PORT)
        )
    both = _key(data.get("key"))
    ttl = data.get("ttl", 0)
    tos = data.get("tos", 0)
    return Tunnel(
        PlainConfig(
            name=name,
            kind=kind,
            family=4 if family == 4 else 6,
            local=_end(data.get("local")),
            remote=_end(data.get("remote")),
            ikey=_key(data.get("ikey")) if both is None else both,
            okey=_key(data.get("okey")) if both is None else both,
            icsum=bool(data.get("icsum")),
            ocsum=bool(data.get("ocsum")),
            iseq=bool(data.get("iseq")),
            oseq=bool(data.get("oseq")),
            ttl=0 if ttl in {"inherit", None} else number(str(ttl), 0, 255),
            tos=None if tos == "inherit" else number(str(tos), 0, 255),
            pmtudisc=bool(data.get("pmtudisc", not data.get("nopmtudisc", False))),
            ignore_df=bool(data.get("ignore_df", False)),
            encapsulation=udp,
            mtu=number(str(mtu), 68, 65535) if isinstance(mtu, int) else None,
        ),
        place=notes.place(0),
        kernel=True,
    )


def _end(value: object) -> str:
    return "any" if value in {None, "any", "0.0.0.0", "::"} else Prefix.parse(str(value)).address


def _key(value: object) -> int | None:
    if value is None:
        return None
    text = str(value)
    return int.from_bytes(Prefix.parse(text).packed, "big") if "." in text else number(text, 0, 2**32 - 1)
