"""
The stack of a tunnel that runs, and the path below it: from its own process, else from the record and file it came from.

A WireGuard interface may have peers over both families: the larger header counts, as it does for the MTU that `up` chooses. The
path is the kernel's route to each remote for packets with the tunnel's mark, right now; the smallest counts.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ginnel import mtu
from ginnel.cli import devices
from ginnel.errors import ConfigError, GinnelError
from ginnel.linux.backend import control
from ginnel.linux.links import Link, link, links
from ginnel.linux.record import RUN_DIR, LinksDone, Store, network_namespace
from ginnel.linux.rtnl import Rtnl
from ginnel.linux.uapi import is_served

#: Kinds of interface (IFLA_INFO_KIND) behind which there is a tunnel, whoever made it.
TUNNEL_KINDS = frozenset(
    {
        "tun",
        "wireguard",
        "gre",
        "gretap",
        "ip6gre",
        "ip6gretap",
        "ipip",
        "sit",
        "ip6tnl",
        "vti",
        "vti6",
        "xfrm",
        "vxlan",
        "geneve",
    }
)
ETHERNET_MTU = 1500


@dataclass(frozen=True, slots=True)
class Running:
    """
    A tunnel that runs.

    link: its interface. stack: what its packets are packed into. path: what the way to its remotes carries now, None while there
    is no way or no remote. learned: the largest inner packet as the tunnel itself learned it (ICMP, probes), 0 = nothing.
    """

    link: Link
    stack: mtu.Stack
    path: int | None
    learned: int = 0


def running(name: str) -> Running | None:
    """
    The tunnel whose interface is *name*; None when there is no such interface.

    Raises:
        GinnelError: there is one, and it is none of our tunnels, or its process does not answer.
    """
    found = link(name)
    if found is None:
        return None
    tunnel = _from_process(name) or _from_file(name)
    if tunnel is not None:
        if tunnel["kind"] == "wireguard":
            return _wireguard(found)
        return _plain(found, tunnel)
    if found.kind == "wireguard" or is_served(name):
        return _wireguard(found)
    known = f"its kind is {found.kind}" if found.kind else "it is not a tunnel at all"
    raise GinnelError(
        f"{name} is none of the tunnels that ginnel runs: {known}\n  hint: give its layers in words, such as `ginnel mtu gre+key`"
    )


def _from_process(name: str) -> dict[str, Any] | None:
    """
    The tunnel as the process of its node file tells it.

    Those whose record names the interface are asked first. The others only because it may have been renamed since: that they do
    not answer is no matter.
    """
    nodes = {socket.stem: _claim(socket.stem, name) for socket in sorted(RUN_DIR.glob("*.sock"))}
    for node in sorted((node for node, claim in nodes.items() if claim), key=lambda node: -nodes[node]):
        try:
            answer = control(node, {"op": "state"})
            told = answer.get("tunnels") if answer is not None else None
            if not isinstance(told, list) or not any(one.get("name") == name for one in told):
                continue
            shown = control(node, {"op": "show", "tunnel": name})
        except GinnelError:
            if nodes[node] == _NAMED:
                raise
            continue
        tunnel = shown.get("tunnel") if shown is not None else None
        if isinstance(tunnel, dict):
            return tunnel
    return None


#: What a record says of an interface: it made it; it may have; it is another network namespace's.
_NAMED, _POSSIBLE, _ELSEWHERE = 2, 1, 0


def _claim(node: str, name: str) -> int:
    """What the record of *node* says of the interface *name*."""
    try:
        record = Store().load(node)
    except GinnelError:
        return _NAMED  # not for this user to read: then neither is the socket, and that is what is to be said
    if record is None:
        return _POSSIBLE
    if record.namespace != network_namespace():
        return _ELSEWHERE
    made = {link for done in record.done if isinstance(done, LinksDone) for link, _ in done.links}
    return _NAMED if name in made else _POSSIBLE


def _from_file(name: str) -> dict[str, Any] | None:
    """The same facts from the node file, for tunnels that the kernel carries and nobody else knows."""
    from ginnel.config import nodefile

    store = Store()
    for node in store.names():
        try:
            record = store.load(node)
            if record is None or not record.config.endswith(".toml") or not _claim(node, name):
                continue
            config = nodefile.parse(Path(record.config).read_text("utf-8"), record.config)
        except (OSError, ValueError, ConfigError, GinnelError):
            continue  # another's record, or its file is gone: then it is not known from there
        for one in config.plain:
            if one.name == name:
                return {
                    "kind": one.kind,
                    "family": one.family,
                    "okey": one.okey,
                    "ocsum": one.ocsum,
                    "oseq": one.oseq,
                    "encapsulation": "udp" if one.encapsulation else "",
                    "encaplimit": one.encaplimit,
                    "remote": one.remote,
                    "fwmark": one.fwmark,
                }
    return None


def _plain(found: Link, tunnel: dict[str, Any]) -> Running:
    remotes = [_packed(tunnel["remote"])] if tunnel["remote"] else []
    learned = tunnel.get("path_mtu") or 0
    if tunnel.get("ipsec") is not None:
        protected = mtu.parse(tunnel["ipsec"]["stack"], tunnel["family"])
        return Running(found, protected, _path(remotes, tunnel["fwmark"]), learned)
    stack = mtu.plain(
        tunnel["kind"],
        tunnel["family"],
        key=tunnel["okey"] is not None,
        csum=tunnel["ocsum"],
        seq=tunnel["oseq"],
        udp=tunnel["encapsulation"] == "udp",
        encaplimit=tunnel["encaplimit"] is not None,
    )
    return Running(found, stack, _path(remotes, tunnel["fwmark"]), learned)


def _wireguard(found: Link) -> Running:
    device = devices.read(found.name)
    remotes = [_packed(peer.endpoint.rpartition(":")[0].strip("[]")) for peer in device.peers if peer.endpoint]
    over4 = bool(remotes) and all(remote is not None and len(remote) == 4 for remote in remotes)
    return Running(found, mtu.wireguard(4 if over4 else 6), _path(remotes, device.fwmark))


def _packed(address: str) -> bytes | None:
    """A numeric address without its scope, packed; None for anything else."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).packed
    except ValueError:
        return None


def _path(remotes: list[bytes | None], mark: int) -> int | None:
    """What the narrowest of the ways to *remotes* carries; None without any."""
    found = [size for remote in remotes if remote is not None and (size := way_mtu(remote, mark)[1])]
    return min(found) if found else None


def way_mtu(packed: bytes, mark: int = 0) -> tuple[Link | None, int]:
    """(the interface by which the kernel would send there now, what that way carries); (None, 0) without a route."""
    kernel = Rtnl()
    try:
        way = kernel.way(packed, mark=mark)
    finally:
        kernel.close()
    if way is None:
        return None, 0
    through = next((each for each in links() if each.index == way.index), None)
    return through, way.mtu or (through.mtu if through is not None else ETHERNET_MTU)
