"""
A node as Cisco IOS and IOS XE have it: GRE, GRE under IPsec, and IPsec alone as a static virtual tunnel interface.

Written after Cisco's documents of its commands and as docs/howto/ipsec-with-cisco-ios.md has them; not tried with a router, and
the file says so. There is no WireGuard. The text is pasted in configuration mode; it adds to what the router has and takes
nothing away. Names are GINNEL or begin with it; tunnels are numbered by their subnets (`router.numbers`).

Secrets: given, they stand in the keyring; else that line is a comment with a placeholder, and IKE has nothing to prove itself
with. Certificates are enrolled on the router under a trustpoint called GINNEL.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ginnel.config.node import IpsecConfig
from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription, TunnelDescription
from ginnel.network.render import NONE, File, Secrets, router
from ginnel.units import Prefix

_MAKER = "cisco-ios"
_TCP_AND_IPV4, _TCP_AND_IPV6 = 40, 60
#: What `dpd` waits between its questions.
_DPD_RETRY_S = 5

_GROUPS = {
    "modp1536": "5", "modp2048": "14", "modp3072": "15", "modp4096": "16", "ecp256": "19", "ecp384": "20", "ecp521": "21",
}  # fmt: skip
_IKE = {
    "aes128": "aes-cbc-128", "aes192": "aes-cbc-192", "aes256": "aes-cbc-256", "aes128gcm16": "aes-gcm-128",
    "aes256gcm16": "aes-gcm-256", "sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512",
    "prfsha1": "sha1", "prfsha256": "sha256", "prfsha384": "sha384", "prfsha512": "sha512", **_GROUPS,
}  # fmt: skip
_ESP = {
    "aes128": "esp-aes", "aes192": "esp-aes 192", "aes256": "esp-aes 256", "aes128gcm16": "esp-gcm", "aes192gcm16": "esp-gcm 192",
    "aes256gcm16": "esp-gcm 256", "sha1": "esp-sha-hmac", "sha256": "esp-sha256-hmac", "sha384": "esp-sha384-hmac",
    "sha512": "esp-sha512-hmac", **_GROUPS,
}  # fmt: skip


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """
    NODE.ios: what is pasted in configuration mode.

    Raises:
        UsageError: WireGuard, and what `router.refuse_what_none_can` names; algorithms that the router has not.
    """
    if description.wireguard:
        raise UsageError(f"{_MAKER}: there is no WireGuard on it, and {description.name} has links of that kind")
    router.refuse_what_none_can(description, secrets, _MAKER)
    if description.mapped:
        raise UsageError(f"{_MAKER}: LANs mapped one to one need NAT rules that are not rendered for it")
    lines = router.heading(
        description,
        "!",
        "For Cisco IOS and IOS XE, in configuration mode. Written after Cisco's documents; not tried with a router.",
        "Lines that begin with ! and a word in capitals wait for a secret.",
    )
    lines += _ipsec(description, secrets)
    numbers = router.numbers(description)
    for tunnel in description.tunnels:
        lines += _interface(tunnel, numbers[tunnel.peer])
    if description.forwards and any(len(address.packed) == 16 for address in description.address):
        lines.append("ipv6 unicast-routing")
    for tunnel in description.tunnels:
        lines += _routes(tunnel)
    lines += [f"ip name-server {server}" for server in description.dns]
    lines += [f"ip domain list {domain}" for domain in description.search]
    content = "\n".join(lines) + "\n"
    return (File(f"{description.name}.ios", content.encode(), "", bool(secrets.ipsec)),)


# ---------------------------------------------------------------- IKE and ESP


def _ipsec(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    protected = [(tunnel, tunnel.config.ipsec) for tunnel in description.tunnels if tunnel.config.ipsec is not None]
    if not protected:
        return
    known: dict[router.Algorithms, str] = {}
    for tunnel, ipsec in protected:
        algorithms = router.algorithms_of(ipsec, "ike", _IKE, _MAKER, tunnel.peer)
        if algorithms not in known:
            known[algorithms] = f"GINNEL-{len(known) + 1}"
            yield from _ike_proposal(known[algorithms], algorithms)
    yield "crypto ikev2 policy GINNEL"
    yield from (f" proposal {name}" for name in known.values())
    by_secret = [tunnel for tunnel, ipsec in protected if ipsec.auth == "psk"]
    if by_secret:
        yield "crypto ikev2 keyring GINNEL"
        for tunnel in by_secret:
            yield from _key(description, tunnel, secrets)
    for tunnel, ipsec in protected:
        yield from _profile(tunnel, ipsec)


def _ike_proposal(name: str, algorithms: router.Algorithms) -> Iterator[str]:
    yield f"crypto ikev2 proposal {name}"
    yield f" encryption {' '.join(algorithms.encryption)}"
    if algorithms.integrity:
        yield f" integrity {' '.join(algorithms.integrity)}"
    if algorithms.prf != algorithms.integrity:
        yield f" prf {' '.join(algorithms.prf)}"
    yield f" group {' '.join(algorithms.group)}"


def _key(description: NodeDescription, tunnel: TunnelDescription, secrets: Secrets) -> Iterator[str]:
    yield f" peer {tunnel.peer}"
    address = ipaddress.ip_address(tunnel.config.remote)
    yield f"  address {address}" + ("/128" if address.version == 6 else "")
    secret = secrets.ipsec.get(tunnel.peer, "")
    if not secret:
        yield f"! pre-shared-key {router.no_secret(description, tunnel.peer)}"
    elif (digits := router.hexadecimal(secret)) is not None:
        yield f"  pre-shared-key hex {digits}"
    else:
        # A question mark asks for help; a number or "hex" in front of a blank says how the rest is written.
        yield f"  pre-shared-key {router.plain_text(secret, _MAKER, '? ' + chr(34))}"


def _profile(tunnel: TunnelDescription, ipsec: IpsecConfig) -> Iterator[str]:
    name = f"GINNEL-{tunnel.peer}"
    yield f"crypto ikev2 profile {name}"
    yield f" match identity remote fqdn {ipsec.remote_id}"
    yield f" identity local fqdn {ipsec.local_id}"
    how = "pre-share" if ipsec.auth == "psk" else "rsa-sig"
    yield f" authentication remote {how}"
    yield f" authentication local {how}"
    yield " keyring local GINNEL" if ipsec.auth == "psk" else " pki trustpoint GINNEL"
    if ipsec.ike_rekey_s:
        yield f" lifetime {max(120, min(86_400, ipsec.ike_rekey_s))}"
    if ipsec.dpd_s:
        yield f" dpd {max(10, min(3_600, ipsec.dpd_s))} {_DPD_RETRY_S} on-demand"
    algorithms = router.algorithms_of(ipsec, "esp", _ESP, _MAKER, tunnel.peer)
    yield f"crypto ipsec transform-set {name} {' '.join((*algorithms.encryption[:1], *algorithms.integrity[:1]))}"
    yield f" mode {ipsec.mode}"
    yield f"crypto ipsec profile {name}"
    yield f" set transform-set {name}"
    if ipsec.rekey_s:
        yield f" set security-association lifetime seconds {max(120, ipsec.rekey_s)}"
    if algorithms.group:
        yield f" set pfs group{algorithms.group[0]}"
    yield f" set ikev2-profile {name}"
    if ipsec.start == "wait":
        yield " responder-only"


# ---------------------------------------------------------------- tunnels and routes


def _interface(tunnel: TunnelDescription, number: int) -> Iterator[str]:
    config = tunnel.config
    yield f"interface Tunnel{number}"
    yield f" description {tunnel.peer}"
    versions = set()
    for address in tunnel.address:
        text = address.host.address
        versions.add(4 if len(address.packed) == 4 else 6)
        if len(address.packed) == 4:
            yield f" ip address {text} {_mask(address.length)}"
        else:
            yield f" ipv6 address {text}/{address.length}"
    if config.kind == "ipsec" and versions != {4}:
        raise UsageError(f'{_MAKER}: the link with {tunnel.peer} carries IPv4 alone: give it an IPv4 pool, or kind = "gre+ipsec"')
    if 4 in versions:
        yield f" ip mtu {tunnel.mtu}"
        yield f" ip tcp adjust-mss {tunnel.mtu - _TCP_AND_IPV4}"
    if 6 in versions:
        yield f" ipv6 mtu {tunnel.mtu}"
        yield f" ipv6 tcp adjust-mss {tunnel.mtu - _TCP_AND_IPV6}"
    yield f" tunnel source {config.local}"
    yield f" tunnel destination {config.remote}"
    yield f" tunnel mode {'ipsec' if config.kind == 'ipsec' else 'gre'} {_delivery(config.kind, config.family)}"
    if config.kind != "ipsec":
        yield from _gre(tunnel)
    if config.ipsec is not None:
        yield f" tunnel protection ipsec profile GINNEL-{tunnel.peer}"


def _delivery(kind: str, family: int) -> str:
    if family == 6:
        return "ipv6"
    return "ipv4" if kind == "ipsec" else "ip"


def _gre(tunnel: TunnelDescription) -> Iterator[str]:
    config = tunnel.config
    if config.okey is not None:
        yield f" tunnel key {config.okey}"
    if config.ocsum:
        yield " tunnel checksum"
    if config.oseq:
        yield " tunnel sequence-datagrams"
    if config.ttl:
        yield f" tunnel ttl {config.ttl}"
    if config.tos:
        yield f" tunnel tos {config.tos}"
    if config.pmtudisc and config.family == 4:
        yield " tunnel path-mtu-discovery"
    # Cisco's does not go together with protection, and ginnel sends none there either.
    if config.keepalive is not None and config.keepalive.retries and config.ipsec is None:
        yield f" keepalive {config.keepalive.interval_s} {config.keepalive.retries}"


def _routes(tunnel: TunnelDescription) -> Iterator[str]:
    for route in router.routes(tunnel):
        if route.prefix.version == 4:
            yield f"ip route {route.prefix.address} {_mask(route.prefix.length)} {route.gateway}"
        else:
            yield f"ipv6 route {route.prefix} {route.gateway}"


def _mask(length: int) -> str:
    return Prefix(((1 << 32) - (1 << (32 - length))).to_bytes(4, "big"), 32).address
