"""
A `Connection` for the IKE machine, out of what a node file says of a tunnel, its credentials, and where its ends are now.

    identities     ours: as named, else our certificate's subject, else our address; the peer's: as named, else its address;
                   "%any" takes whoever proves itself
    proposals      as named, else the defaults
    selectors      as named; else of a tunnel that ESP protects its two ends and its own protocol, host to host in either mode;
                   of IPsec alone everything (0.0.0.0/0 and ::/0): routes decide what enters the device

Pure: what cannot be is refused as `UsageError`, with the tunnel's name and the field.
"""

from __future__ import annotations

from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.errors import UsageError
from ginnel.ikev2 import identities, proposals, selectors
from ginnel.ikev2.connection import Believing, Connection, Proving
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Id, IdType, Proposal, Selector

#: What each kind of tunnel is, as a protocol behind the delivery header. (ip6tnl carries two, 4 and 41: any.)
PROTOCOLS = {"gre": 47, "gretap": 47, "ipip": 4, "sit": 41, "ip6tnl": 0, "ipsec": 0}
ANYBODY = "%any"
EVERYTHING = ("0.0.0.0/0", "::/0")


def connect(config: PlainConfig, proving: Proving, believing: Believing, local: bytes | None, remote: bytes | None) -> Connection:
    """
    The connection of a protected tunnel.

    Args:
        config: with its `ipsec`.
        local: our end, packed; None while it is whatever address the peer speaks to.
        remote: the peer's, packed; None: anybody who proves itself.

    Raises:
        UsageError: an identity, proposal or selector of it cannot be.
    """
    ipsec = config.ipsec
    assert ipsec is not None
    ike_proposals, child_proposals = _proposals(config.name, ipsec)
    local_ts, remote_ts, dynamic_protocol = _selectors(config, ipsec, local, remote)
    return Connection(
        name=config.name,
        local=local,
        remote=remote,
        local_id=_local_id(config.name, ipsec, proving, local),
        remote_id=_remote_id(config.name, ipsec, remote),
        proving=proving,
        believing=believing,
        ike_proposals=ike_proposals,
        child_proposals=child_proposals,
        transport=config.kind != "ipsec" and ipsec.mode == "transport",
        local_ts=local_ts,
        remote_ts=remote_ts,
        dynamic_protocol=dynamic_protocol,
        start=ipsec.start if remote is not None else "wait",
        encapsulation=ipsec.encapsulation,
        port=ipsec.ike_port,
        natt_port=ipsec.natt_port,
        ike_rekey_ns=ipsec.ike_rekey_s * NS_PER_S,
        rekey_ns=ipsec.rekey_s * NS_PER_S,
        rekey_bytes=ipsec.rekey_bytes,
        rekey_packets=ipsec.rekey_packets,
        dpd_ns=ipsec.dpd_s * NS_PER_S,
        dpd_action=ipsec.dpd_action,
        retransmit_ns=round(ipsec.retransmit_s * NS_PER_S),
        give_up_ns=round(ipsec.give_up_s * NS_PER_S),
        replay_window=ipsec.replay_window,
        fragmentation=ipsec.fragmentation,
        childless=ipsec.childless == "auto",
        secret_name=ipsec.psk_file,
    )


def weaknesses(config: PlainConfig) -> tuple[str, ...]:
    """Sentences about algorithms of its proposals that are no longer safe; empty when none is."""
    from ginnel.ikev2 import algorithms

    ipsec = config.ipsec
    assert ipsec is not None
    both = [one for group in _proposals(config.name, ipsec) for one in group]
    found = {algorithms.weakness(transform) for one in both for transform in one.transforms}
    return tuple(sorted(filter(None, found)))


def _proposals(name: str, ipsec: IpsecConfig) -> tuple[tuple[Proposal, ...], tuple[Proposal, ...]]:
    try:
        ike = proposals.parse_list(ipsec.ike_proposals, "ike") if ipsec.ike_proposals else proposals.default_ike()
        esp = proposals.parse_list(ipsec.esp_proposals, "esp") if ipsec.esp_proposals else proposals.default_esp()
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    return ike, esp


# ---------------------------------------------------------------- identities


def address_id(packed: bytes) -> Id:
    """An address as an identity."""
    return Id(IdType.IPV4_ADDR if len(packed) == 4 else IdType.IPV6_ADDR, packed)


def _local_id(name: str, ipsec: IpsecConfig, proving: Proving, local: bytes | None) -> Id:
    if ipsec.local_id:
        return _identity(name, "local_id", ipsec.local_id)
    subject: Id | None = getattr(proving, "identity", None)
    if subject is not None:
        return subject
    if local is None:
        raise UsageError(
            f"{name}: local_id: expected an identity, since neither a certificate nor a local address gives one\n"
            '  hint: local_id = "gateway.example.org", or any name that the peer knows this host by'
        )
    return address_id(local)


def _remote_id(name: str, ipsec: IpsecConfig, remote: bytes | None) -> Id | None:
    if ipsec.remote_id == ANYBODY:
        return None
    if ipsec.remote_id:
        return _identity(name, "remote_id", ipsec.remote_id)
    if remote is None:
        raise UsageError(
            f"{name}: remote_id: expected an identity, since the peer's address is any\n"
            '  hint: remote_id = "branch.example.org"; "%any" takes whoever proves itself'
        )
    return address_id(remote)


def _identity(name: str, field: str, text: str) -> Id:
    try:
        return identities.parse(text)
    except UsageError as error:
        raise UsageError(f"{name}: {field}: {error}") from None


# ---------------------------------------------------------------- selectors

_Side = tuple[Selector, ...] | None


def _selectors(config: PlainConfig, ipsec: IpsecConfig, local: bytes | None, remote: bytes | None) -> tuple[_Side, _Side, int]:
    """Ours, the peer's (None: the ends' addresses, whatever they are), and the protocol of those."""
    everything = EVERYTHING if config.kind == "ipsec" else (f"dynamic[{PROTOCOLS[config.kind]}]",)
    ours = _words(config.name, "local_ts", ipsec.local_ts or everything)
    theirs = _words(config.name, "remote_ts", ipsec.remote_ts or everything)
    protocols = {side[0].protocol for side in (ours, theirs) if _is_host_to_host(side)}
    dynamic_protocol = protocols.pop() if len(protocols) == 1 else None
    return (
        _side(config.name, "local_ts", ours, local, dynamic_protocol),
        _side(config.name, "remote_ts", theirs, remote, dynamic_protocol),
        dynamic_protocol or 0,
    )


def _words(name: str, field: str, texts: tuple[str, ...]) -> tuple[selectors.Words, ...]:
    try:
        return tuple(selectors.parse_words(text) for text in texts)
    except UsageError as error:
        raise UsageError(f"{name}: {field}: {error}") from None


def _is_host_to_host(side: tuple[selectors.Words, ...]) -> bool:
    """Nothing but "dynamic", all ports."""
    return len(side) == 1 and side[0].dynamic and (side[0].first_port, side[0].last_port) == selectors.ANY_PORT


def _side(name: str, field: str, side: tuple[selectors.Words, ...], address: bytes | None, dynamic_protocol: int | None) -> _Side:
    if _is_host_to_host(side) and dynamic_protocol is not None:
        return None
    if address is None and any(one.dynamic for one in side):
        raise UsageError(
            f"{name}: {field}: expected one selector when it says dynamic and the address is any\n"
            '  hint: "dynamic[gre]" alone, or addresses'
        )
    return tuple(one.at(address or b"") for one in side)


# ---------------------------------------------------------------- before anything is made


def check(config: PlainConfig, proving: Proving, believing: Believing) -> None:
    """
    Whether there can be a connection, wherever the ends turn out to be.

    Raises:
        UsageError: as `connect`.
    """
    sample = bytes((192, 0, 2, 1)) if config.family == 4 else bytes((0x20, 1, 0x0D, 0xB8, *bytes(11), 1))
    remote = None if config.remote == "any" else sample
    local = sample if config.local != "any" or remote is not None else None
    connect(config, proving, believing, local, remote)
