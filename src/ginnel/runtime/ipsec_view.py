"""
One tunnel's protection as `show` has it: what the IKE machine knows, what the engine counts, what the MTU is made of.

The words of the machine's states become the sentences that a person reads here and in `watch.ipsec`, and nowhere else. A refusal
is shown as long as it is later than the last success: of a tunnel that works again, history is in the log.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from ginnel import mtu
from ginnel.config import layers
from ginnel.config.node import PlainConfig
from ginnel.engine.plain import SaCounters
from ginnel.ikev2.view import ChildView as Child
from ginnel.ikev2.view import ConnectionView
from ginnel.units import NS_PER_S, Now
from ginnel.watch import ipsec as watch
from ginnel.watch.health import age_text

#: States of a child that packets leave with, in `ikev2.view`'s words.
_CARRYING = frozenset({"carrying", "rekeying"})


def view(
    config: PlainConfig,
    connection: ConnectionView | None,
    associations: Iterable[SaCounters],
    now: Now,
    *,
    ends: tuple[bytes | None, bytes | None],
    missing: str,
    link_mtu: int,
    unsent: str,
    keys_written: str,
) -> watch.IpsecView:
    """
    Everything about the protection of a tunnel.

    Args:
        connection: what the machine knows; None while it has no connection, and then *missing* says why.
        ends: ours and the peer's as they are known, packed.
        link_mtu: of the device, 0 while unknown.
        unsent: why the last datagram could not be sent.
    """
    ipsec = config.ipsec
    assert ipsec is not None
    carrying = _carrying(connection)
    ike = connection.ike if connection is not None else None
    lines, by, age_s = _refusal(connection, now)
    state, why = _state(connection, carrying, lines, missing)
    path = ike.path if ike is not None else None
    stack, wire_bytes, taken = _layers(config, connection, link_mtu)
    return watch.IpsecView(
        state=state,
        why=why,
        auth=ipsec.auth,
        remote_auth=ipsec.remote_auth or ipsec.auth,
        local_id=connection.local_id if connection is not None else ipsec.local_id,
        peer_id=ike.peer_id if ike is not None else _expected(connection, ipsec.remote_id),
        local=_text(path.local if path is not None else ends[0]),
        remote=_text(path.remote if path is not None else ends[1]),
        remote_port=path.remote_port if path is not None else 0,
        encapsulation=("udp" if ike.udp else "raw") if ike is not None and carrying is not None else "",
        nat=ike.nat if ike is not None else "",
        ike=_ike(connection),
        child=_child(carrying),
        associations=tuple(_association(one, now) for one in associations),
        rekeyings=connection.child_rekeys if connection is not None else 0,
        ike_rekeyings=connection.ike_rekeys if connection is not None else 0,
        heard_age_s=_heard(connection, associations, now),
        refusal=lines,
        refused_by=by,
        refusal_age_s=age_s,
        unsent=unsent,
        stack=stack,
        wire_bytes=wire_bytes,
        layers=taken,
        keys_written=keys_written,
    )


def evidence(seen: watch.IpsecView) -> watch.Evidence:
    """What the judgement of the tunnel rests on."""
    return watch.Evidence(
        proven=seen.ike is not None,
        carries=seen.child is not None,
        state=seen.state,
        why=seen.why,
        failing=seen.refusal[0] if seen.refusal else "",
        peer_id=seen.peer_id,
        heard_age_s=seen.heard_age_s,
        raw=seen.encapsulation == "raw",
    )


# ---------------------------------------------------------------- parts


def _carrying(connection: ConnectionView | None) -> Child | None:
    """The child SA that everything leaves with."""
    if connection is None:
        return None
    return next((child for child in connection.children if child.state in _CARRYING), None)


def _state(connection: ConnectionView | None, carrying: Child | None, refusal: tuple[str, ...], missing: str) -> tuple[str, str]:
    """The state in one word, and a sentence."""
    if connection is None:
        return "down", missing
    match connection.state:
        case "up" if carrying is not None and connection.ike is not None:
            who = connection.ike.peer_id
            return "protected", f"{carrying.suite}, {carrying.mode} mode, with {who} for {age_text(carrying.age_s)}"
        case "up" | "no-child":
            failure = f": {refusal[0]}" if refusal else ", it is being made"
            return "established", f"the peer has proven who it is, but there is no ESP SA{failure}"
        case "connecting":
            again = f", after {connection.attempts_failed} failed attempts" if connection.attempts_failed else ""
            return "connecting", f"the peer is being asked{again}"
        case "waiting" if connection.next_attempt_s is not None and connection.attempts_failed:
            tried = f"{connection.attempts_failed} attempt{'s' * (connection.attempts_failed != 1)} failed"
            return "retrying", f"{tried}, the next in {age_text(connection.next_attempt_s)}"
        case "waiting" if connection.next_attempt_s is not None:
            return "connecting", "the peer is about to be asked"
        case "waiting":
            return "waiting", "for the peer to begin, or for a first packet where start or dpd-action is trap"
        case _:
            return "down", "ended by hand, or by dpd-action = clear: `ginnel initiate` begins anew"


def _refusal(connection: ConnectionView | None, now: Now) -> tuple[tuple[str, ...], str, float | None]:
    """Lines, by whom, and their age; nothing when the last success is later."""
    if connection is None or not connection.refused_lines:
        return (), "", None
    age_s = max(0.0, (now.unix_ns - connection.refused_unix_ns) / NS_PER_S)
    carrying = _carrying(connection)
    if carrying is not None and carrying.age_s < age_s:
        return (), "", None
    return connection.refused_lines, connection.refused_by, age_s


def _expected(connection: ConnectionView | None, configured: str) -> str:
    found = connection.remote_id if connection is not None else configured
    return "" if found == "%any" else found


def _ike(connection: ConnectionView | None) -> watch.IkeView | None:
    ike = connection.ike if connection is not None else None
    if ike is None:
        return None
    role = "initiator" if ike.initiator else "responder"
    return watch.IkeView(ike.spi_i.hex(), ike.spi_r.hex(), role, ike.proposal, ike.age_s, ike.rekey_in_s)


def _child(child: Child | None) -> watch.ChildView | None:
    if child is None:
        return None
    return watch.ChildView(
        spi_in=f"{child.spi_in:08x}",
        spi_out=f"{child.spi_out:08x}",
        suite=child.proposal,
        mode=child.mode,
        esn=child.esn,
        local_ts=", ".join(child.local_ts),
        remote_ts=", ".join(child.remote_ts),
        age_s=child.age_s,
        rekey_in_s=child.rekey_in_s,
    )


def _association(counters: SaCounters, now: Now) -> watch.AssociationView:
    return watch.AssociationView(
        spi=f"{counters.spi:08x}",
        direction="in" if counters.inbound else "out",
        packets=counters.packets,
        bytes=counters.bytes,
        sequence=counters.sequence,
        last_age_s=_age_s(counters.last_ns, now),
        drops=counters.drops,
    )


def _heard(connection: ConnectionView | None, associations: Iterable[SaCounters], now: Now) -> float | None:
    """Since anything genuine came from the peer, by IKE or by ESP."""
    if connection is None or connection.ike is None:
        return None
    ages = [_age_s(one.last_ns, now) for one in associations if one.inbound]
    return min([connection.ike.heard_s, *(age for age in ages if age is not None)])


def stacks(config: PlainConfig, connection: ConnectionView | None) -> tuple[mtu.Stack, ...]:
    """How its packets travel: under the SA that there is; without one, every way that is offered."""
    carrying = _carrying(connection)
    if connection is None or connection.ike is None or carrying is None:
        return layers.stacks(config)
    suite, tunnel = mtu.suite(carrying.suite), carrying.mode == "tunnel"
    return (mtu.protected(layers.plain_stack(config), config.family, suite, tunnel=tunnel, udp=connection.ike.udp),)


def _layers(
    config: PlainConfig, connection: ConnectionView | None, link_mtu: int
) -> tuple[str, int, tuple[watch.LayerView, ...]]:
    """The heaviest way that a packet may travel, how large the largest is on it, and what that is made of."""
    stack = max(stacks(config, connection), key=lambda one: one.wire_size(link_mtu))
    if not link_mtu:
        return stack.text, 0, ()
    size, taken = link_mtu, []
    for layer in reversed(stack.layers):
        added = layer.size_bytes + -size % layer.unit
        taken.append(watch.LayerView(layer.name, added))
        size += added
    return stack.text, size, tuple(reversed(taken))


def _text(address: bytes | None) -> str | None:
    if not address or not any(address):
        return None
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _age_s(mono_ns: int, now: Now) -> float | None:
    return max(0, now.mono_ns - mono_ns) / NS_PER_S if mono_ns else None
