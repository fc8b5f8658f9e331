"""
A `Connection` for the IKE machine, out of what a node file says of a tunnel, its credentials, and where its ends are now.

    identities     ours: as named, else our certificate's subject, else our address; the peer's: as named, else its address;
                   "%any" takes whoever proves itself
    proposals      as named, else the defaults
    selectors      as named; else of a tunnel that ESP protects its two ends and its own protocol, host to host in either mode;
                   of IPsec alone everything (0.0.0.0/0 and ::/0): routes decide what enters the device

Also what is the same for all tunnels of a process is looked at here, before anything is made (`read_all`).

Pure but for that: what cannot be is refused as `UsageError`, with the tunnel's name and the field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ginnel.config.node import IpsecConfig, NodeConfig, PlainConfig
from ginnel.errors import ConfigError, Mistake, UsageError
from ginnel.ikev2 import identities, proposals, selectors
from ginnel.ikev2.connection import Believing, Connection, Proving
from ginnel.runtime.credentials import Credentials
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Id, Proposal, Selector

if TYPE_CHECKING:
    from ginnel.ikev2.proofs import CertificateProving

#: What each kind of tunnel is, as a protocol behind the delivery header. (ip6tnl carries two, 4 and 41: any.)
PROTOCOLS = {"gre": 47, "gretap": 47, "ipip": 4, "sit": 41, "ip6tnl": 0, "ipsec": 0}
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


def _local_id(name: str, ipsec: IpsecConfig, proving: Proving, local: bytes | None) -> Id:
    if ipsec.local_id:
        named = _identity(name, "local_id", ipsec.local_id)
        if named is None:
            raise UsageError(f"{name}: local_id: expected who we are, found {ipsec.local_id}")
        _check_certified(name, proving, named)
        return named
    if (certified := _certified(proving)) is not None:
        return certified.default_identity()
    if local is None:
        raise UsageError(
            f"{name}: local_id: expected an identity, since neither a certificate nor a local address gives one\n"
            '  hint: local_id = "gateway.example.org", or any name that the peer knows this host by'
        )
    return identities.of_address(local)


def _certified(proving: Proving) -> CertificateProving | None:
    """The proof by certificate, when it is one; only then is the library for certificates there."""
    if proving.kind != "certificate":
        return None
    from ginnel.ikev2.proofs import CertificateProving

    return proving if isinstance(proving, CertificateProving) else None


def _check_certified(name: str, proving: Proving, identity: Id) -> None:
    """Peers would refuse an identity that the certificate is not for: better now and here."""
    certified = _certified(proving)
    problem = certified.identity_problem(identity) if certified is not None else ""
    if certified is not None and problem:
        raise UsageError(
            f"{name}: local_id: {certified.name}: {problem}\n  hint: without local_id the certificate's own name is taken"
        )


def _remote_id(name: str, ipsec: IpsecConfig, remote: bytes | None) -> Id | None:
    if ipsec.remote_id:
        return _identity(name, "remote_id", ipsec.remote_id)  # None for "%any"
    if remote is None:
        raise UsageError(
            f"{name}: remote_id: expected an identity, since the peer's address is any\n"
            '  hint: remote_id = "branch.example.org"; "%any" takes whoever proves itself'
        )
    return identities.of_address(remote)


def _identity(name: str, field: str, text: str) -> Id | None:
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


def read_all(config: NodeConfig) -> Credentials:
    """
    Read all that protected tunnels of *config* need: before anything is touched, by the command; and by the process.

    Raises:
        ConfigError: what is missing or wrong, each once, with the first tunnel that needs it.
    """
    found = Credentials()
    protected = [tunnel for tunnel in config.plain if tunnel.ipsec is not None]
    mistakes: dict[str, Mistake] = {}
    for tunnel in protected:
        assert tunnel.ipsec is not None
        try:
            proofs = found.of(tunnel.ipsec)
        except (UsageError, ConfigError) as error:
            mistakes.setdefault(str(error), _mistake(f"{tunnel.name}: {error}"))
            continue
        try:
            check(tunnel, *proofs)
        except UsageError as error:
            mistakes.setdefault(str(error), _mistake(str(error)))
    try:
        shared_ports(protected)
    except UsageError as error:
        mistakes.setdefault(str(error), _mistake(str(error)))
    if mistakes:
        raise ConfigError(config.path, list(mistakes.values()))
    found.forget_files()
    return found


def _mistake(text: str) -> Mistake:
    message, _, hint = text.partition("\n  hint: ")
    return Mistake(message, hint=hint)


def doubts(config: PlainConfig, credentials: Credentials, unix_ns: int) -> tuple[str, ...]:
    """
    Sentences about what works and should not be left so, or is well formed and will not work: algorithms that are no longer
    safe, short secrets, certificates out of their time.
    """
    assert config.ipsec is not None
    return (*weaknesses(config), *credentials.doubts(config.ipsec, unix_ns))


def shared_ports(tunnels: Sequence[PlainConfig]) -> tuple[int, int, int, str]:
    """
    Both ports of IKE, fwmark and device, which all protected tunnels of a process share.

    Raises:
        UsageError: two of them want others.
    """
    first: tuple[PlainConfig, tuple[int, int, int, str]] | None = None
    for tunnel in tunnels:
        assert tunnel.ipsec is not None
        wanted = (tunnel.ipsec.ike_port, tunnel.ipsec.natt_port, tunnel.fwmark, tunnel.dev)
        if first is None:
            first = tunnel, wanted
        elif wanted != first[1]:
            names = ("ike_port", "natt_port", "fwmark", "dev")
            field, ours, theirs = next(
                (name, one, other) for name, one, other in zip(names, wanted, first[1], strict=True) if one != other
            )
            raise UsageError(
                f"{tunnel.name}: {field}: expected {theirs!r} as {first[0].name} has it, found {ours!r}: protected tunnels of "
                "one node share IKE's ports\n  hint: put them into two node files with other ports"
            )
    return first[1] if first is not None else (0, 0, 0, "")
