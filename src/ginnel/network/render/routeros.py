"""
A node as MikroTik RouterOS 7 has it: WireGuard, GRE, GRE under IPsec; as lines for its terminal.

Written after MikroTik's documents and as docs/howto/ipsec-with-mikrotik.md has them; not tried with a router, and the file says
so. It has no device for IPsec alone, and its GRE has neither key nor checksum nor sequence numbers: such links are refused.
Every line is complete by itself (menus are absolute), adds one thing, and has the other end's name as its comment.

The private key: not given, RouterOS makes one when the interface is added; its public half is then pinned with
`ginnel keys new NODE --public KEY`. Preshared keys and IPsec's secrets: not given, the line that needs one is a comment.

Source: help.mikrotik.com, "WireGuard", "GRE", "IPsec".
"""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.config.node import IpsecConfig
from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription, PeerDescription, TunnelDescription
from ginnel.network.render import NONE, File, Secrets, public_key, router
from ginnel.network.render.routing import routing
from ginnel.units import Prefix

_MAKER = "routeros"
_GROUPS = {name: name for name in ("modp1536", "modp2048", "modp3072", "modp4096", "ecp256", "ecp384", "ecp521")}
_CIPHERS = {"aes128": "aes-128", "aes192": "aes-192", "aes256": "aes-256"}
_HASHES = {"sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}
_IKE = {**_CIPHERS, **_HASHES, **{f"prf{word}": name for word, name in _HASHES.items()}, **_GROUPS}
_ESP = {
    **{word: f"{name}-cbc" for word, name in _CIPHERS.items()},
    **{f"{word}gcm16": f"{name}-gcm" for word, name in _CIPHERS.items()},
    **_HASHES,
    **_GROUPS,
}


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """
    NODE.rsc: for `/import`, or the terminal.

    Raises:
        UsageError: IPsec alone, GRE with options that it has not, and what `router.refuse_what_none_can` names.
    """
    router.refuse_what_none_can(description, secrets, _MAKER)
    if description.node.fwmark:
        raise UsageError(f"{_MAKER}: it marks no packets of WireGuard's own: leave fwmark out")
    lines = router.heading(
        description,
        "#",
        "For RouterOS 7. Written after MikroTik's documents; not tried with a router.",
        "Filter rules are added at the end: move them above the one that drops.",
    )
    if description.wireguard:
        lines += _wireguard(description, secrets)
    numbers = router.numbers(description)
    for tunnel in description.tunnels:
        lines += _tunnel(description, tunnel, f"gre{numbers[tunnel.peer]}", secrets)
    lines += _nat(description)
    if description.dns:
        lines.append(f"/ip dns set servers={','.join(description.dns)}")
    if description.search:
        lines.append(f"# It has no search domains; the network has {', '.join(description.search)}.")
    content = "\n".join(lines) + "\n"
    holds = bool(secrets.private_key or secrets.psk or secrets.ipsec)
    return (File(f"{description.name}.rsc", content.encode(), "", holds),)


# ---------------------------------------------------------------- WireGuard


def _wireguard(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    name = description.interface
    words = [f"name={name}", f"mtu={description.mtu}"]
    if description.listen_port:
        words.append(f"listen-port={description.listen_port}")
    if secrets.private_key:
        words.append(f"private-key={router.quoted(router.plain_text(secrets.private_key, _MAKER, ''))}")
    else:
        yield "# It makes its own private key: see it with /interface wireguard print, and pin its public half:"
        yield f"# ginnel keys new {description.name} --public KEY"
    yield f"/interface wireguard add {' '.join(words)}"
    for peer in description.peers:
        yield from _peer(description, peer, secrets)
    for address in description.address:
        yield _address(str(address), name)
    for prefix in routing(description).routes:
        yield f"{_menu(prefix)} route add dst-address={prefix} gateway={name}"
    if description.listen_port:
        for menu in ("/ip", "/ipv6"):
            accept = f"{menu} firewall filter add chain=input action=accept"
            yield f"{accept} protocol=udp dst-port={description.listen_port} comment={name}"
    for version in sorted({4 if len(address.packed) == 4 else 6 for address in description.address}):
        for direction in ("in", "out"):
            yield (
                f"{'/ip' if version == 4 else '/ipv6'} firewall mangle add chain=forward action=change-mss new-mss=clamp-to-pmtu"
                f" passthrough=yes protocol=tcp tcp-flags=syn {direction}-interface={name} comment={name}"
            )


def _peer(description: NodeDescription, peer: PeerDescription, secrets: Secrets) -> Iterator[str]:
    words = [
        f"interface={description.interface}",
        f"comment={peer.name}",
        f"public-key={router.quoted(public_key(peer).base64())}",
        f"allowed-address={','.join(map(str, peer.allowed_ips))}",
    ]
    if peer.endpoint is not None:
        words += [f"endpoint-address={peer.endpoint.host}", f"endpoint-port={peer.endpoint.port}"]
    if peer.keepalive_s:
        words.append(f"persistent-keepalive={peer.keepalive_s}s")
    mark = ""
    if peer.psk:
        secret = secrets.psk.get(peer.name, "")
        mark = "" if secret else "# "
        words.append(f"preshared-key={router.quoted(secret or router.no_secret(description, peer.name))}")
    yield f"{mark}/interface wireguard peers add {' '.join(words)}"


# ---------------------------------------------------------------- GRE


def _tunnel(description: NodeDescription, tunnel: TunnelDescription, name: str, secrets: Secrets) -> Iterator[str]:
    config, peer = tunnel.config, tunnel.peer
    if config.kind == "ipsec":
        raise UsageError(f'{_MAKER}: it has no device for IPsec alone: kind = "gre+ipsec" for the link with {peer}')
    for wanted, word in ((config.okey is not None, "key"), (config.ocsum, "csum"), (config.oseq, "seq")):
        if wanted:
            raise UsageError(f"{_MAKER}: its GRE has no {word}, which the link with {peer} asks for")
    if config.ipsec is not None:
        yield from _ipsec(description, tunnel, config.ipsec, secrets)
    words = [
        f"name={name}",
        f"comment={peer}",
        f"local-address={config.local}",
        f"remote-address={config.remote}",
        f"mtu={tunnel.mtu}",
        "clamp-tcp-mss=yes",
    ]
    if config.ipsec is not None:
        words.append("allow-fast-path=no")  # by it packets leave in clear
    if config.keepalive is not None and config.keepalive.retries and config.ipsec is None:
        words.append(f"keepalive={config.keepalive.interval_s}s,{config.keepalive.retries}")
    else:
        words.append("!keepalive")
    yield f"/interface {'gre' if config.family == 4 else 'gre6'} add {' '.join(words)}"
    for address in tunnel.address:
        yield _address(str(address), name)
    for route in router.routes(tunnel):
        yield f"{_menu(route.prefix)} route add dst-address={route.prefix} gateway={route.gateway}"
    menu = "/ip" if config.family == 4 else "/ipv6"
    protected = " ipsec-policy=in,ipsec" if config.ipsec is not None else ""
    accept = f"{menu} firewall filter add chain=input action=accept"
    if config.ipsec is not None:
        yield f"{accept} protocol=udp dst-port=500,4500 src-address={config.remote} comment={peer}"
        yield f"{accept} protocol=ipsec-esp src-address={config.remote} comment={peer}"
    yield f"{accept} protocol=gre src-address={config.remote}{protected} comment={peer}"


def _ipsec(description: NodeDescription, tunnel: TunnelDescription, ipsec: IpsecConfig, secrets: Secrets) -> Iterator[str]:
    name, config, peer = f"ginnel-{tunnel.peer}", tunnel.config, tunnel.peer
    full = 32 if config.family == 4 else 128
    ike = router.algorithms_of(ipsec, "ike", _IKE, _MAKER, peer)
    esp = router.algorithms_of(ipsec, "esp", _ESP, _MAKER, peer)
    yield (
        f"/ip ipsec profile add name={name} hash-algorithm={ike.integrity[0]} enc-algorithm={','.join(ike.encryption)}"
        f" dh-group={','.join(ike.group)} nat-traversal=yes"
        + (f" lifetime={ipsec.ike_rekey_s}s" if ipsec.ike_rekey_s else "")
        + (f" dpd-interval={ipsec.dpd_s}s" if ipsec.dpd_s else " dpd-interval=disable-dpd")
    )
    yield (
        f"/ip ipsec proposal add name={name} auth-algorithms={','.join(esp.integrity) or chr(34) * 2}"
        f" enc-algorithms={','.join(esp.encryption)} pfs-group={esp.group[0] if esp.group else 'none'}"
        + (f" lifetime={ipsec.rekey_s}s" if ipsec.rekey_s else "")
    )
    yield (
        f"/ip ipsec peer add name={name} address={config.remote}/{full} local-address={config.local} exchange-mode=ike2"
        f" profile={name}" + (" passive=yes" if ipsec.start == "wait" else "")
    )
    mark, proof = _proof(description, tunnel, ipsec, secrets)
    yield (
        f"{mark}/ip ipsec identity add peer={name} {proof} my-id=fqdn:{ipsec.local_id} remote-id=fqdn:{ipsec.remote_id}"
        " match-by=remote-id"
    )
    yield (
        f"/ip ipsec policy add peer={name} tunnel={'yes' if ipsec.mode == 'tunnel' else 'no'} src-address={config.local}/{full}"
        f" dst-address={config.remote}/{full} protocol=gre action=encrypt level=require proposal={name}"
    )


def _proof(description: NodeDescription, tunnel: TunnelDescription, ipsec: IpsecConfig, secrets: Secrets) -> tuple[str, str]:
    """What a line that waits for its secret begins with, and its words."""
    if ipsec.auth != "psk":
        return "", "auth-method=digital-signature certificate=node.crt_0"
    secret = secrets.ipsec.get(tunnel.peer, "")
    if not secret:
        return "# ", f"auth-method=pre-shared-key secret={router.quoted(router.no_secret(description, tunnel.peer))}"
    digits = router.hexadecimal(secret)
    text = f"0x{digits}" if digits is not None else router.plain_text(secret, _MAKER, "")
    return "", f"auth-method=pre-shared-key secret={router.quoted(text)}"


# ---------------------------------------------------------------- both


def _nat(description: NodeDescription) -> Iterator[str]:
    """Whoever exits here leaves under the router's own address; LANs that the network knows by another prefix."""
    inside = description.interface
    for prefix in description.masquerades:
        menu = _menu(prefix)
        for lan in description.node.lans:
            if lan.version == prefix.version:
                yield f"{menu} firewall nat add chain=srcnat action=accept src-address={prefix} dst-address={lan}"
        yield f"{menu} firewall nat add chain=srcnat action=masquerade src-address={prefix} out-interface=!{inside}"
    for mapped in description.mapped:
        menu = _menu(mapped.seen)
        yield (
            f"{menu} firewall nat add chain=dstnat action=netmap dst-address={mapped.seen} to-addresses={mapped.real}"
            f" in-interface={inside}"
        )
        yield (
            f"{menu} firewall nat add chain=srcnat action=netmap src-address={mapped.real} to-addresses={mapped.seen}"
            f" out-interface={inside}"
        )


def _address(text: str, interface: str) -> str:
    if ":" in text:
        return f"/ipv6 address add address={text} interface={interface} advertise=no"
    return f"/ip address add address={text} interface={interface}"


def _menu(prefix: Prefix) -> str:
    return "/ip" if prefix.version == 4 else "/ipv6"
