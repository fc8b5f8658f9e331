"""
Whether a packet crosses a link: what the near end sends, and what the far end takes.

WireGuard: both ends know each other's key, and one of them has an endpoint that leads to the other; one that has none, or is
behind NAT, must speak first. GRE and its like: both ends name each other, with the same kind, key, checksums and protection. The
packets of a tunnel find their own way by the host's routes: an endpoint that is routed into the tunnel is never reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ginnel import mtu
from ginnel.config import layers
from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.network.host import Host, Peer, Tunnel, WireguardInterface
from ginnel.network.model import HostPort
from ginnel.network.reach.fleet import Fleet, numeric, show
from ginnel.network.reach.routes import Routing, Routings
from ginnel.network.reach.values import Stop

#: What a host whose file says nothing has under its tunnels.
_USUAL_UNDERLAY = 1500


@dataclass(frozen=True, slots=True)
class Crossed:
    """The packet is at the far end. *peer*: the sender, as a peer of the far interface; None of other tunnels."""

    far: Host
    device: str
    interface: WireguardInterface | None = None
    peer: Peer | None = None
    notes: tuple[str, ...] = ()


def wireguard(routings: Routings, near: Host, interface: WireguardInterface, peer: Peer) -> Crossed | Stop:
    """Whether *interface* has a session with *peer*, and who that is."""
    fleet = routings.fleet
    who = peer.name or (f"{peer.public_key.base64()[:8]}…" if peer.public_key is not None else "a peer without a name")
    place = peer.place or interface.place
    found = fleet.far_end(near, interface, peer)
    if found is None:
        return _nobody(fleet, near, peer, who)
    far, there = found
    back = fleet.known_there(there, near, interface.public_key)
    if back is None:
        message = (
            f"{far.name} does not know {near.name}: no peer of its {there.name} has the key of {near.name}'s {interface.name}"
        )
        mend = f"add a [Peer] for {near.name} at {far.name}"
        return Stop(far.name, "not-mutual", message, mend, there.place)
    if not _same_psk(peer.psk, back.psk):
        message = f"{near.name} and {far.name} do not have the same preshared key"
        return Stop(near.name, "psk-mismatch", message, "the same PresharedKey at both ends, or none at either", place)
    forth_stop = _outward(routings[near.name], interface.name, peer.endpoint, far, there)
    if forth_stop is None:
        return Crossed(far, there.name, there, back)
    back_stop = _outward(routings[far.name], there.name, back.endpoint, near, interface)
    if back_stop is None:
        if back.keepalive_s:
            return Crossed(far, there.name, there, back)
        note = f"{near.name} cannot begin with {far.name}: until {far.name} has spoken, nothing reaches it (no keepalive)"
        return Crossed(far, there.name, there, back, (note,))
    if peer.endpoint is None and back.endpoint is None:
        message = f"{near.name} and {far.name} never meet: neither has an endpoint for the other"
        if near.behind_nat and far.behind_nat:
            message = f"{near.name} and {far.name} never meet: both are behind NAT"
        return Stop(near.name, "no-session", message, "give one of them an endpoint, or let a relay carry between them", place)
    return forth_stop if peer.endpoint is not None else back_stop


def _nobody(fleet: Fleet, near: Host, peer: Peer, who: str) -> Stop:
    other = fleet.hosts.get(peer.name)
    if other is not None and other.interfaces:
        message = f"{near.name} has a key for {who} that is not {who}'s"
        return Stop(near.name, "unknown-peer", message, f"the public key of {who}, as it is there", peer.place)
    message = f"what {near.name} sends to {who} ends there: its configuration is not among those given"
    return Stop(near.name, "unknown-peer", message, "", peer.place)


def _outward(routing: Routing, device: str, endpoint: HostPort | None, far: Host, there: WireguardInterface) -> Stop | None:
    """Why an end cannot begin by its endpoint; None: it can."""
    near = routing.host
    if endpoint is None:
        message = f"{near.name} has no endpoint for {far.name}"
        return Stop(near.name, "no-session", message, f"Endpoint of {far.name}, or a keepalive there", there.place)
    if wrong := routing.fleet.misled(endpoint, far, there):
        message = f"{near.name} does not find {far.name} at {show(endpoint)}: {wrong}"
        return Stop(near.name, "no-session", message, f"the endpoint of {far.name}", there.place)
    return _inside(routing, device, endpoint.host)


def _inside(routing: Routing, device: str, host: str) -> Stop | None:
    packed = numeric(host)
    if packed is None:
        return None
    decision = routing.decide(None, packed, outer=True)
    if decision is None or decision.route.device != device:
        return None
    message = f"{routing.host.name} sends what is for {host} into {device}, whose own packets go there ({decision.prefix})"
    mend = f"take {decision.prefix} out, or give the endpoint a route of its own"
    return Stop(routing.host.name, "endpoint-inside", message, mend, decision.route.place)


def _same_psk(near: str, far: str) -> bool:
    return near == far or (bool(near) and bool(far) and "?" in (near, far))


# ---------------------------------------------------------------- GRE and its like


def tunnel(routings: Routings, near: Host, near_end: Tunnel) -> Crossed | Stop:
    """Whether a tunnel carries, and to whom."""
    fleet, config = routings.fleet, near_end.config
    found = fleet.far_tunnel(near, near_end)
    if found is None:
        who = near_end.peer or config.remote
        message = f"what {near.name} sends into {config.name} ends at {who}: no other end of it is among those given"
        return Stop(near.name, "unknown-peer", message, "", near_end.place)
    far, far_end = found
    for wrong in _disagreements(near.name, config, far.name, far_end.config):
        message = f"{config.name} of {near.name} and {far_end.config.name} of {far.name} do not agree: {wrong}"
        return Stop(far.name, "tunnel-mismatch", message, "the same at both ends", far_end.place or near_end.place)
    if not _same_psk(near_end.psk, far_end.psk):
        message = f"{near.name} and {far.name} do not have the same secret for {config.name}"
        return Stop(near.name, "psk-mismatch", message, "the same secret at both ends", near_end.place)
    for ours, theirs in ((config, far_end.config), (far_end.config, config)):
        end, other = (near, far) if ours is config else (far, near)
        if ours.remote == "any":
            continue
        hosts = fleet.at_endpoint(ours.remote)
        if hosts and other not in hosts:
            message = f"{end.name}'s {ours.name} leads to {hosts[0].name} ({ours.remote}), not to {other.name}"
            return Stop(end.name, "tunnel-mismatch", message, f"the remote of {other.name}", near_end.place)
        if not hosts and numeric(ours.remote) and numeric(theirs.local) and numeric(ours.remote) != numeric(theirs.local):
            message = f"{end.name}'s {ours.name} leads to {ours.remote}, and {other.name} is {theirs.local}"
            return Stop(end.name, "tunnel-mismatch", message, f"remote = {theirs.local}", near_end.place)
        stop = _inside(routings[end.name], ours.name, ours.remote)
        if stop is not None:
            return stop
    if config.remote == "any" and far_end.config.remote == "any":
        message = f"{near.name} and {far.name} never meet: neither end of {config.name} knows where the other is"
        return Stop(near.name, "no-session", message, "a remote at one end", near_end.place)
    notes: tuple[str, ...] = ()
    speaks = far_end.config.keepalive is not None or far_end.config.ipsec is not None
    if config.remote == "any" and not speaks:
        notes = (f"{near.name} cannot begin with {far.name}: until {far.name} has spoken, nothing reaches it (no keepalive)",)
    return Crossed(far, far_end.config.name, notes=notes)


def _disagreements(near: str, ours: PlainConfig, far: str, theirs: PlainConfig) -> Iterator[str]:
    """What of a tunnel is not the same at both ends, so that what one sends the other drops."""
    if (ours.kind, ours.family) != (theirs.kind, theirs.family):
        yield f"{near} sends {ours.kind} over IPv{ours.family}, {far} takes {theirs.kind} over IPv{theirs.family}"
    if (ours.encapsulation is None) != (theirs.encapsulation is None):
        yield f"{near if ours.encapsulation else far} has it in UDP, {far if ours.encapsulation else near} has not"
    if ours.okey != theirs.ikey:
        yield f"{near} sends {_key(ours.okey)}, {far} expects {_key(theirs.ikey)}"
    if ours.ocsum != theirs.icsum and not (theirs.tolerant and ours.ocsum):
        yield f"{near} sends {_with(ours.ocsum)} checksums, {far} expects them {_with(theirs.icsum)}"
    if theirs.iseq and not ours.oseq:
        yield f"{near} sends no sequence numbers, {far} expects them"
    if (ours.ipsec is None) != (theirs.ipsec is None):
        yield f"{near if ours.ipsec else far} protects it by IPsec, {far if ours.ipsec else near} does not"
    if ours.ipsec is not None and theirs.ipsec is not None:
        yield from _protections(near, ours.ipsec, far, theirs.ipsec)


def _protections(near: str, ours: IpsecConfig, far: str, theirs: IpsecConfig) -> Iterator[str]:
    if ours.mode != theirs.mode:
        yield f"{near} has IPsec in {ours.mode} mode, {far} in {theirs.mode} mode"
    for end, said, other, known in ((near, ours.local_id, far, theirs.remote_id), (far, theirs.local_id, near, ours.remote_id)):
        if said and known not in ("", "%any", said):
            yield f"{end} calls itself {said}, {other} expects {known}"
    for what, mine, yours in (
        ("IKE", ours.ike_proposals, theirs.ike_proposals),
        ("ESP", ours.esp_proposals, theirs.esp_proposals),
    ):
        if mine and yours and not set(mine).intersection(yours):
            yield f"no {what} proposal of {near} ({', '.join(mine)}) is one of {far} ({', '.join(yours)})"


def _key(key: int | None) -> str:
    return "no key" if key is None else f"key {key}"


def _with(flag: bool) -> str:
    return "with" if flag else "without"


# ---------------------------------------------------------------- sizes


def interface_mtu(host: Host, interface: WireguardInterface) -> int:
    """As it is configured, or as it comes to be."""
    return interface.mtu or mtu.wireguard(6).sum(host.underlay_mtu or _USUAL_UNDERLAY).inner


def tunnel_mtu(host: Host, config: PlainConfig) -> int:
    """The same of another tunnel: of the largest of its layers."""
    return config.mtu or min(stack.sum(host.underlay_mtu or _USUAL_UNDERLAY).inner for stack in layers.stacks(config))
