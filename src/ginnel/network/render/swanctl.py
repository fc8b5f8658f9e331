"""
A node's tunnels under IPsec for strongSwan and the Linux kernel: connections for swanctl, and a script for the devices.

    NETWORK.conf            connections and children for /etc/swanctl/conf.d/: algorithms, identities, mode, selectors and
                            encapsulation are those of the other end, which ginnel renders from the same network
    NETWORK.secrets.conf    the pre-shared secrets, when they are given; else they are to be written there, as a comment in
                            NETWORK.conf shows. Certificates lie where swanctl has them: x509/node.crt, private/node.key,
                            x509ca/ca.crt
    NETWORK.sh              `up`: devices, addresses, routes, and the host's rules; `down` takes them away. GRE devices are the
                            kernel's own; of a link without GRE the device is an xfrm interface, tied to its child by a number

Nothing leaves in clear, whatever strongSwan does or does not: the script's nft table ginnel-NETWORK-ipsec drops GRE from and to a
protected peer beside IPsec, and an xfrm interface sends nothing without a policy.

A GRE tunnel whose other end is behind NAT is refused: the kernel's GRE sends to an address, and there is none. A node that has
WireGuard links too gets wg-quick's file beside, and there the host's rules are.

Source: swanctl.conf(5); ip-link(8), TYPE xfrm; nft(8), `rt ipsec` and `meta ipsec`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ginnel.config.link_words import link_words
from ginnel.config.node import IpsecConfig
from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription, TunnelDescription
from ginnel.network.hostrules import HostRules, tunnel_part
from ginnel.network.render import NONE, File, Secrets, hostfiles, router, sound, title, wgquick

_WHERE = "/etc/swanctl/conf.d/"
#: Chains of `hostfiles` that are about the tunnels, and so not in the file of wg-quick.
_SEGMENTS = ("tunnel_segments", "own_segments")
#: What the end that begins does, the one that waits for something to send, and the one whose peer is behind NAT. One that begins
#: has no trap beside: each packet that springs it while the start is under way would make one child more.
_ACTIONS = {
    "start_action": {"start": "start", "trap": "trap", "wait": "none"},
    "dpd_action": {"start": "restart", "trap": "trap", "wait": "clear"},
    "close_action": {"start": "start", "trap": "trap", "wait": "none"},
}


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """
    See the module.

    Raises:
        UsageError: no link of the node is protected; GRE under IPsec to a node behind NAT; GRE in UDP.
    """
    sound.check(description, secrets)
    if not any(tunnel.config.ipsec for tunnel in description.tunnels):
        raise UsageError(f"{description.name} has no link that IPsec protects, and swanctl is for those\n  hint: --as iproute2")
    if description.node.hooks and not description.wireguard:
        raise UsageError(f"{description.name} has hooks, which are a WireGuard interface's, and it has none")
    for tunnel in description.tunnels:
        if tunnel.config.kind != "ipsec" and not router.is_numeric(tunnel.config.remote):
            raise UsageError(
                f"{tunnel.peer} has no numeric endpoint, and the kernel's GRE at {description.name} needs an address to send to\n"
                '  hint: kind = "ipsec" for that link, or ginnel on this end'
            )
        if tunnel.config.encapsulation is not None:
            raise UsageError(f"GRE in UDP, to {tunnel.peer}, is not rendered with swanctl\n  hint: --as node")
    network = description.network
    made = [
        File(f"{network}.conf", _text([*_head(description, secrets), *_connections(description)]), _WHERE),
        *_secrets_file(description, secrets),
        File(f"{network}.sh", _text(_script(description)), "/etc/ginnel/", executable=True),
    ]
    if description.wireguard:
        made += wgquick.files(description, secrets)
    return tuple(made)


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


# ---------------------------------------------------------------- connections


def _head(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    yield title(description)
    yield f"# Devices, and rules without which GRE could leave in clear, are made by {description.network}.sh up, beside; then:"
    yield "# swanctl --load-all"
    wanting = [tunnel for tunnel in _by_secret(description) if not secrets.ipsec.get(tunnel.peer)]
    if wanting:
        yield f"# Secrets are still to be written into {_WHERE}{description.network}.secrets.conf, mode 0600:"
        yield "#   secrets {"
        for tunnel in wanting:
            yield from (f"#   {line}" for line in _secret(description, tunnel, router.no_secret(description, tunnel.peer)))
        yield "#   }"


def _by_secret(description: NodeDescription) -> list[TunnelDescription]:
    return [tunnel for tunnel in description.tunnels if tunnel.config.ipsec is not None and tunnel.config.ipsec.auth == "psk"]


def _connections(description: NodeDescription) -> Iterator[str]:
    numbers = router.numbers(description)
    yield "connections {"
    for tunnel in description.tunnels:
        if tunnel.config.ipsec is not None:
            yield from _connection(description, tunnel, tunnel.config.ipsec, numbers[tunnel.peer])
    yield "}"


def _connection(description: NodeDescription, tunnel: TunnelDescription, ipsec: IpsecConfig, number: int) -> Iterator[str]:
    config = tunnel.config
    yield f"  {_name(description, tunnel)} {{"
    yield "    version = 2"
    yield "    mobike = no"
    if config.local != "any":
        yield f"    local_addrs = {config.local}"
    yield f"    remote_addrs = {'%any' if config.remote == 'any' else config.remote}"
    yield f"    proposals = {', '.join(ipsec.ike_proposals)}"
    if ipsec.encapsulation == "udp":
        yield "    encap = yes"
    if ipsec.start == "start":
        yield "    keyingtries = 0"
    yield f"    rekey_time = {ipsec.ike_rekey_s}s"
    yield f"    dpd_delay = {ipsec.dpd_s}s"
    by_certificate = ipsec.auth == "certificate"
    how = "pubkey" if by_certificate else "psk"
    yield "    local {"
    yield f"      auth = {how}"
    yield f"      id = {ipsec.local_id}"
    if by_certificate:
        yield "      certs = node.crt"
    yield "    }"
    yield "    remote {"
    yield f"      auth = {how}"
    yield f"      id = {ipsec.remote_id}"
    if by_certificate:
        yield "      cacerts = ca.crt"
    yield "    }"
    yield "    children {"
    yield f"      {_name(description, tunnel)} {{"
    yield from (f"        {line}" for line in _child(tunnel, ipsec, number))
    yield "      }"
    yield "    }"
    yield "  }"


def _child(tunnel: TunnelDescription, ipsec: IpsecConfig, number: int) -> Iterator[str]:
    yield f"mode = {ipsec.mode}"
    usual = "0.0.0.0/0, ::/0" if tunnel.config.kind == "ipsec" else "dynamic[gre]"
    yield f"local_ts = {', '.join(ipsec.local_ts) or usual}"
    yield f"remote_ts = {', '.join(ipsec.remote_ts) or usual}"
    if tunnel.config.kind == "ipsec":
        yield f"if_id_in = {_if_id(number)}"
        yield f"if_id_out = {_if_id(number)}"
    yield f"esp_proposals = {', '.join(ipsec.esp_proposals)}"
    yield f"rekey_time = {ipsec.rekey_s}s"
    for event, actions in _ACTIONS.items():
        yield f"{event} = {actions[ipsec.start]}"


def _if_id(number: int) -> int:
    return number + 1  # 0 is none


def _name(description: NodeDescription, tunnel: TunnelDescription) -> str:
    return f"{description.network}-{tunnel.peer}"


# ---------------------------------------------------------------- secrets


def _secrets_file(description: NodeDescription, secrets: Secrets) -> Iterator[File]:
    given = [(tunnel, secrets.ipsec[tunnel.peer]) for tunnel in _by_secret(description) if secrets.ipsec.get(tunnel.peer)]
    if not given:
        return
    lines = [title(description), "secrets {"]
    for tunnel, secret in given:
        lines += _secret(description, tunnel, secret)
    yield File(f"{description.network}.secrets.conf", _text([*lines, "}"]), _WHERE, secret=True)


def _secret(description: NodeDescription, tunnel: TunnelDescription, secret: str) -> Iterator[str]:
    ipsec = tunnel.config.ipsec
    assert ipsec is not None
    yield f"  ike-{_name(description, tunnel)} {{"
    yield f"    id-1 = {ipsec.local_id}"
    yield f"    id-2 = {ipsec.remote_id}"
    yield f"    secret = {_quoted(secret)}"
    yield "  }"


def _quoted(secret: str) -> str:
    """In double quotes, where a backslash protects the next character; UsageError, which does not quote it, for several lines."""
    if any(ord(character) < 0x20 or character == "\x7f" for character in secret):
        raise UsageError("a pre-shared secret is one line without control characters\n  hint: write it as 0x… instead")
    return '"' + secret.replace("\\", "\\\\").replace('"', '\\"') + '"'


# ---------------------------------------------------------------- devices


def _script(description: NodeDescription) -> list[str]:
    table = hostfiles.table_name(description)
    both = ((_guard(description), f"{table}-ipsec"), (_beside(description), table))
    return [
        "#!/bin/sh",
        title(description),
        f"# usage: {description.network}.sh up|down; strongSwan has the keys: swanctl --load-all",
        "set -eu",
        'case "${1:-}" in',
        "up)",
        *(f"    {line}" for line in _up(description, both)),
        "    ;;",
        "down)",
        *(f"    ip link delete {shlex.quote(tunnel.config.name)} || true" for tunnel in description.tunnels),
        *(f"    {command} || true" for rules, name in both for command in hostfiles.down(rules, name)),
        "    ;;",
        "*)",
        f'    echo "usage: {description.network}.sh up|down" >&2',
        "    exit 2",
        "    ;;",
        "esac",
    ]


def _beside(description: NodeDescription) -> HostRules:
    """The host's rules: all of them, or what wg-quick's file does not have."""
    rules = hostfiles.rules_of(description)
    if not description.wireguard:
        return rules
    segments = tuple(chain for chain in rules.chains if chain[0] in _SEGMENTS)
    return replace(tunnel_part(description), chains=segments)


def _up(description: NodeDescription, tables: Sequence[tuple[HostRules, str]]) -> Iterator[str]:
    numbers = router.numbers(description)
    for rules, _ in tables:
        yield from (hostfiles.setting(name, value) for name, value in rules.sysctls if not hostfiles.of_device(name))
    # Before the devices: what is to be dropped is dropped from the first packet on.
    yield from filter(None, (hostfiles.nft_up(rules, name) for rules, name in tables))
    for tunnel in description.tunnels:
        config = tunnel.config
        device = shlex.quote(config.name)
        if config.kind == "ipsec":
            yield f"ip link add {device} type xfrm dev lo if_id {_if_id(numbers[tunnel.peer])}"
        else:
            yield " ".join(map(shlex.quote, link_words(config).split()))
        yield from (f"ip address add {address} dev {device}" for address in config.address)
        yield f"ip link set {device} mtu {tunnel.mtu} up"
        yield from (f"{hostfiles.ip_words('add', 'route', words)} dev {device}" for words in config.routes)
        yield from (hostfiles.ip_words("add", "rule", words) for words in config.rules)
    for rules, _ in tables:
        yield from (hostfiles.setting(name, value) for name, value in rules.sysctls if hostfiles.of_device(name))
        yield from hostfiles.up(rules)


def _guard(description: NodeDescription) -> HostRules:
    """Nothing of a protected GRE tunnel passes beside IPsec."""
    out, back = [], []
    for tunnel in description.tunnels:
        config = tunnel.config
        if config.ipsec is None or config.kind == "ipsec" or not router.is_numeric(config.remote):
            continue
        word = "ip" if config.family == 4 else "ip6"
        out.append(f"{word} daddr {config.remote} meta l4proto gre rt ipsec missing drop")
        back.append(f"{word} saddr {config.remote} meta l4proto gre meta ipsec missing drop")
    if not out:
        return HostRules()
    return HostRules(
        chains=(
            ("protected_out", "type filter hook output priority filter;", tuple(out)),
            ("protected_in", "type filter hook input priority filter;", tuple(back)),
        )
    )
