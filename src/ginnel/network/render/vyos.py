"""
A node as VyOS has it: WireGuard, GRE, GRE under IPsec, IPsec alone (a VTI); as `set` commands for its configuration mode.

For VyOS 1.4 and later, as docs/howto/ipsec-with-vyos.md has it; not tried with VyOS itself, whose IKE is strongSwan and whose
ESP, GRE and WireGuard are the Linux kernel's. Tunnels are numbered by their subnets (`router.numbers`). Values stand in single
quotes wherever they could be anything but a word.

Secrets: given, they stand in the commands; else the line that needs one is a comment (a private key is then made by
`generate pki wireguard key-pair install interface wg0`, its public half pinned with `ginnel keys new NODE --public KEY`).

Source: VyOS's own interface definitions (vyos-1x) for names and ranges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ginnel.config.node import IpsecConfig
from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription, PeerDescription, TunnelDescription
from ginnel.network.render import NONE, File, Secrets, public_key, router
from ginnel.network.render.routing import routing

_MAKER = "vyos"
_GROUPS = {
    "modp1536": "5", "modp2048": "14", "modp3072": "15", "modp4096": "16", "ecp256": "19", "ecp384": "20", "ecp521": "21",
    "x25519": "31",
}  # fmt: skip
_HASHES = {word: word for word in ("sha1", "sha256", "sha384", "sha512")}
_CIPHERS = {
    "aes128": "aes128", "aes192": "aes192", "aes256": "aes256", "aes128gcm16": "aes128gcm128", "aes192gcm16": "aes192gcm128",
    "aes256gcm16": "aes256gcm128", "chacha20poly1305": "chacha20poly1305",
}  # fmt: skip
_IKE = {**_CIPHERS, **_HASHES, **{f"prf{word}": f"prf{word}" for word in _HASHES}, **_GROUPS}
_ESP = {**_CIPHERS, **_HASHES, **_GROUPS}
#: Numbers of rules of NAT: above those that people mostly write by hand.
_FIRST_RULE = 9000


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """
    NODE.vyos: what is typed between `configure` and `commit`.

    Raises:
        UsageError: GRE with checksums or sequence numbers, an interface that VyOS would not call so, and what
            `router.refuse_what_none_can` names.
    """
    router.refuse_what_none_can(description, secrets, _MAKER)
    lines = router.heading(
        description,
        "#",
        "For VyOS 1.4 and later, between configure and commit. Not tried with VyOS itself.",
    )
    if description.wireguard:
        lines += _wireguard(description, secrets)
    numbers = router.numbers(description)
    for tunnel in description.tunnels:
        lines += _tunnel(tunnel, numbers[tunnel.peer])
    lines += _ipsec(description, numbers, secrets)
    lines += _nat(description)
    lines += [f"set system name-server {server}" for server in description.dns]
    lines += [f"set system domain-search {domain}" for domain in description.search]
    content = "\n".join(lines) + "\n"
    holds = bool(secrets.private_key or secrets.psk or secrets.ipsec)
    return (File(f"{description.name}.vyos", content.encode(), "", holds),)


# ---------------------------------------------------------------- WireGuard


def _wireguard(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    name = description.interface
    if not re.fullmatch(r"wg[0-9]+", name):
        raise UsageError(f"{_MAKER}: its WireGuard interfaces are called wg0, wg1 …; found {name}")
    at = f"set interfaces wireguard {name}"
    for address in description.address:
        yield f"{at} address {address}"
    yield f"{at} mtu {description.mtu}"
    if description.listen_port:
        yield f"{at} port {description.listen_port}"
    if description.node.fwmark:
        yield f"{at} fwmark {description.node.fwmark}"
    if secrets.private_key:
        yield f"{at} private-key {_quoted(secrets.private_key)}"
    else:
        yield f"# generate pki wireguard key-pair install interface {name}"
        yield f"# and, where the network file is: ginnel keys new {description.name} --public KEY"
    yield from _clamp(at, {len(address.packed) for address in description.address})
    for peer in description.peers:
        yield from _peer(description, peer, f"{at} peer {peer.name}", secrets)
    for prefix in routing(description).routes:
        yield f"set protocols static route{'' if prefix.version == 4 else '6'} {prefix} interface {name}"


def _peer(description: NodeDescription, peer: PeerDescription, at: str, secrets: Secrets) -> Iterator[str]:
    yield f"{at} public-key {_quoted(public_key(peer).base64())}"
    if peer.psk:
        secret = secrets.psk.get(peer.name, "")
        mark = "" if secret else "# "
        yield f"{mark}{at} preshared-key {_quoted(secret or router.no_secret(description, peer.name))}"
    for prefix in peer.allowed_ips:
        yield f"{at} allowed-ips {prefix}"
    if peer.endpoint is not None:
        yield f"{at} {'address' if router.is_numeric(peer.endpoint.host) else 'host-name'} {peer.endpoint.host}"
        yield f"{at} port {peer.endpoint.port}"
    if peer.keepalive_s:
        yield f"{at} persistent-keepalive {peer.keepalive_s}"


def _clamp(at: str, sizes: set[int]) -> Iterator[str]:
    for size, word in ((4, "ip"), (16, "ipv6")):
        if size in sizes:
            yield f"{at} {word} adjust-mss clamp-mss-to-pmtu"


# ---------------------------------------------------------------- GRE and VTI


def _tunnel(tunnel: TunnelDescription, number: int) -> Iterator[str]:
    config = tunnel.config
    if config.ocsum or config.oseq:
        raise UsageError(
            f"{_MAKER}: its GRE has no checksums and no sequence numbers, which the link with {tunnel.peer} asks for"
        )
    if config.kind == "ipsec":
        at = f"set interfaces vti vti{number}"
    else:
        at = f"set interfaces tunnel tun{number}"
        yield f"{at} encapsulation {'gre' if config.family == 4 else 'ip6gre'}"
        yield f"{at} source-address {config.local}"
        yield f"{at} remote {config.remote}"
        yield from _options(tunnel, at)
    yield f"{at} description {tunnel.peer}"
    for address in tunnel.address:
        yield f"{at} address {address}"
    yield f"{at} mtu {tunnel.mtu}"
    yield from _clamp(at, {len(address.packed) for address in tunnel.address})
    for route in router.routes(tunnel):
        word = "route" if route.prefix.version == 4 else "route6"
        yield f"set protocols static {word} {route.prefix} next-hop {route.gateway}"


def _options(tunnel: TunnelDescription, at: str) -> Iterator[str]:
    config = tunnel.config
    if config.okey is not None:
        yield f"{at} parameters ip key {config.okey}"
    if config.family == 4:
        yield f"{at} parameters ip ttl {config.ttl}"
        if config.tos is None or config.tos:
            yield f"{at} parameters ip tos {'inherit' if config.tos is None else config.tos}"
        if not config.pmtudisc:
            yield f"{at} parameters ip no-pmtu-discovery"
    elif config.ttl:
        yield f"{at} parameters ipv6 hoplimit {config.ttl}"


# ---------------------------------------------------------------- IPsec


def _ipsec(description: NodeDescription, numbers: dict[str, int], secrets: Secrets) -> Iterator[str]:
    for tunnel in description.tunnels:
        if tunnel.config.ipsec is not None:
            yield from _groups(tunnel, tunnel.config.ipsec)
            yield from _site(description, tunnel, tunnel.config.ipsec, numbers[tunnel.peer], secrets)


def _groups(tunnel: TunnelDescription, ipsec: IpsecConfig) -> Iterator[str]:
    ike = router.algorithms_of(ipsec, "ike", _IKE, _MAKER, tunnel.peer)
    esp = router.algorithms_of(ipsec, "esp", _ESP, _MAKER, tunnel.peer)
    at = f"set vpn ipsec ike-group GINNEL-{tunnel.peer}"
    yield f"{at} key-exchange ikev2"
    yield f"{at} disable-mobike"
    if ipsec.ike_rekey_s:
        yield f"{at} lifetime {max(30, min(86_400, ipsec.ike_rekey_s))}"
    if ipsec.dpd_s:
        yield f"{at} dead-peer-detection action restart"
        yield f"{at} dead-peer-detection interval {max(2, ipsec.dpd_s)}"
    for number, (cipher, group) in enumerate(((cipher, group) for cipher in ike.encryption for group in ike.group), 1):
        yield f"{at} proposal {number} encryption {cipher}"
        if ike.integrity:
            yield f"{at} proposal {number} hash {ike.integrity[0]}"
        if not ike.integrity or ike.prf[0] != f"prf{ike.integrity[0]}":
            yield f"{at} proposal {number} prf {ike.prf[0]}"
        yield f"{at} proposal {number} dh-group {group}"
    at = f"set vpn ipsec esp-group GINNEL-{tunnel.peer}"
    yield f"{at} mode {ipsec.mode}"
    if ipsec.rekey_s:
        yield f"{at} lifetime {max(30, min(86_400, ipsec.rekey_s))}"
    yield f"{at} pfs {f'dh-group{esp.group[0]}' if esp.group else 'disable'}"
    for number, cipher in enumerate(esp.encryption, 1):
        yield f"{at} proposal {number} encryption {cipher}"
        if esp.integrity:
            yield f"{at} proposal {number} hash {esp.integrity[0]}"


def _site(
    description: NodeDescription, tunnel: TunnelDescription, ipsec: IpsecConfig, number: int, secrets: Secrets
) -> Iterator[str]:
    config, peer, group = tunnel.config, tunnel.peer, f"GINNEL-{tunnel.peer}"
    at = f"set vpn ipsec site-to-site peer {peer}"
    if ipsec.auth == "psk":
        psk = f"set vpn ipsec authentication psk {peer}"
        yield f"{psk} id {ipsec.local_id}"
        yield f"{psk} id {ipsec.remote_id}"
        secret = secrets.ipsec.get(peer, "")
        mark = "" if secret else "# "
        yield f"{mark}{psk} secret {_quoted(secret or router.no_secret(description, peer))}"
        yield f"{at} authentication mode pre-shared-secret"
    else:
        yield f"{at} authentication mode x509"
        yield f"{at} authentication x509 certificate ginnel-node"
        yield f"{at} authentication x509 ca-certificate ginnel-ca"
    yield f"{at} authentication local-id {ipsec.local_id}"
    yield f"{at} authentication remote-id {ipsec.remote_id}"
    yield f"{at} connection-type {'initiate' if ipsec.start == 'start' else 'respond'}"
    if ipsec.encapsulation == "udp":
        yield f"{at} force-udp-encapsulation"
    yield f"{at} local-address {config.local}"
    yield f"{at} remote-address {config.remote}"
    yield f"{at} ike-group {group}"
    yield f"{at} default-esp-group {group}"
    if config.kind == "ipsec":
        yield f"{at} vti bind vti{number}"
        yield f"{at} vti esp-group {group}"
    else:
        yield f"{at} tunnel 1 protocol gre"


# ---------------------------------------------------------------- both


def _nat(description: NodeDescription) -> Iterator[str]:
    """Whoever exits here leaves under the router's own address; LANs that the network knows by another prefix."""
    rule = _FIRST_RULE
    for prefix in description.masquerades:
        word = "nat" if prefix.version == 4 else "nat66"
        for lan in (lan for lan in description.node.lans if lan.version == prefix.version):
            at = f"set {word} source rule {rule}"
            yield from (f"{at} source {_match(prefix.version)} {prefix}", f"{at} destination {_match(prefix.version)} {lan}")
            yield f"{at} exclude"
            rule += 1
        at = f"set {word} source rule {rule}"
        yield f"{at} source {_match(prefix.version)} {prefix}"
        yield f"{at} outbound-interface name '!{description.interface}'"
        yield f"{at} translation address masquerade"
        rule += 1
    for mapped in description.mapped:
        if mapped.seen.version != 4:
            raise UsageError(f"{_MAKER}: it maps prefixes one to one for IPv4 alone; found {mapped.seen}")
        at = f"set nat static rule {rule}"
        yield f"{at} destination address {mapped.seen}"
        yield f"{at} inbound-interface {description.interface}"
        yield f"{at} translation address {mapped.real}"
        rule += 1


def _match(version: int) -> str:
    return "address" if version == 4 else "prefix"


def _quoted(value: str) -> str:
    return f"'{router.plain_text(value, _MAKER, chr(39))}'"
