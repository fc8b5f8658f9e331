"""
A node as a shell script of ip, wg and nft, for a host that has nothing else: `NETWORK.sh up`, `NETWORK.sh down`.

POSIX sh, and every word in it is quoted. `up` a second time changes what differs and interrupts nothing: devices are made where
they are not, `wg syncconf` keeps sessions, addresses and routes are replaced, the table of nft is made anew in one transaction.
`down` takes away what `up` made, there or not, but for the kernel's settings, on which others may rely.

Keys are given to wg on its standard input, never as an argument. Without secrets they are read from where `setconf` says;
a file that is missing ends `up`.

Source: ip-link(8), ip-rule(8), wg(8); the full tunnel as in wg-quick(8).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ginnel.config.link_words import kernel_kind, link_options
from ginnel.network.compile import NodeDescription, TunnelDescription
from ginnel.network.hostrules import HostRules
from ginnel.network.render import NONE, File, Secrets, hostfiles, interfaces, kernel, setconf, sound, title
from ginnel.network.render.routing import routing

_GRE = 47
#: wg-quick's rules lie just before the main table's, 32766.
_NEAR, _THROUGH = 32764, 32765

#: Before what begins at the left margin, whatever is around it: here-documents do.
_AT_MARGIN = "\0"

_FUNCTIONS = """\
# there DEVICE: whether there is such a device.
there() { ip link show dev "$1" >/dev/null 2>&1; }
# once FAMILY RULE...: the policy rule, one time.
once() { family=$1; shift; ip "$family" rule delete "$@" 2>/dev/null || true; ip "$family" rule add "$@"; }
# gone COMMAND...: what takes something away that may not be there.
gone() { "$@" 2>/dev/null || true; }"""


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """The one script."""
    sound.check(description, secrets)
    for tunnel in description.tunnels:
        kernel.check(tunnel.config, "the kernel")
    lines = list(_script(description, secrets))
    secret = any(setconf.is_secret(each, secrets) for each in interfaces(description))
    text = "\n".join(lines) + "\n"
    return (File(f"{description.network}.sh", text.encode(), "/usr/local/sbin/", secret, executable=True),)


def _script(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    rules, table = hostfiles.rules_of(description), hostfiles.table_name(description)
    yield "#!/bin/sh"
    yield title(description)
    yield f"# usage: {description.network}.sh up|down"
    yield from (f"# {note}" for note in kernel.notes(description, "", hooks=False))
    yield from ("set -eu", "", *_FUNCTIONS.splitlines())
    yield from ("", "up() {")
    for line in _up(description, secrets, rules, table):
        yield line.removeprefix(_AT_MARGIN) if line.startswith(_AT_MARGIN) else f"    {line}"
    yield from ("}", "", "down() {")
    yield from (f"    {line}" for line in _down(description, rules, table))
    yield from ("}", "", 'case "${1:-}" in', "up) up ;;", "down) down ;;")
    yield f'*) echo "usage: {description.network}.sh up|down" >&2; exit 2 ;;'
    yield "esac"


def _up(description: NodeDescription, secrets: Secrets, rules: HostRules, table: str) -> Iterator[str]:
    own = description.interface
    yield from _hooks(description, "PreUp")
    for name, value in rules.sysctls:
        if not hostfiles.of_device(name):
            yield hostfiles.setting(name, value)
    # Before the devices: what is to be dropped is dropped from the first packet on.
    yield from filter(None, (hostfiles.nft_up(rules, table),))
    for each in interfaces(description):
        yield from _wireguard(each, secrets)
    for port, six in _ports(description):
        shown = "-e ' -6'" if six else "-ve ' -6'"
        known = f"ip fou show | grep {shown} | grep -qw 'port {port}'"
        yield f"{known} || ip fou add port {port} ipproto {_GRE}{' -6' if six else ''}"
    for tunnel in description.tunnels:
        yield from _tunnel(tunnel)
    for name, value in rules.sysctls:
        if hostfiles.of_device(name):
            yield hostfiles.setting(name, value)
    yield from (hostfiles.ip_words("replace", "address", text) for text in rules.addresses)
    yield from (hostfiles.ip_words("replace", "route", text) for text in rules.routes)
    yield from (hostfiles.ip_words("replace", "neighbour", text) for text in rules.neighbours)
    yield from (_once(text) for text in rules.rules)
    if description.dns:
        lines = [f"nameserver {address}" for address in description.dns]
        lines += [f"search {' '.join(description.search)}"] if description.search else []
        yield f"printf '%s\\n' {shlex.join(lines)} | resolvconf -a {own} -m 0 -x"
    yield from _hooks(description, "PostUp")


def _wireguard(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    name, ways = shlex.quote(description.interface), routing(description)
    yield f"there {name} || ip link add dev {name} type wireguard"
    yield f"wg syncconf {name} /dev/stdin <<END"
    lines = list(setconf.interface(description, secrets.private_key, ways.mark))
    if not secrets.private_key:
        lines.insert(1, f"PrivateKey = $(cat {setconf.key_file(description.beside_of or description.interface)})")
    read = {
        peer.name: f"$(cat {setconf.psk_file(description.interface, peer.name)})"
        for peer in description.peers
        if peer.psk and peer.name not in secrets.psk
    }
    lines += setconf.peers(description, {**secrets.psk, **read})
    yield _AT_MARGIN + "\n".join([*lines, "END"])
    yield from (f"ip address replace {address} dev {name}" for address in description.address)
    yield f"ip link set dev {name} mtu {description.mtu} up"
    place = f" table {shlex.quote(ways.table)}" if ways.table else ""
    yield from (f"ip -{prefix.version} route replace {prefix} dev {name}{place}" for prefix in ways.routes)
    for version in ways.full:
        every = "0.0.0.0/0" if version == 4 else "::/0"
        yield f"ip -{version} route replace {every} dev {name} table {ways.mark}"
        yield f"once -{version} table main suppress_prefixlength 0 priority {_NEAR}"
        yield f"once -{version} not fwmark {ways.mark} table {ways.mark} priority {_THROUGH}"


def _tunnel(tunnel: TunnelDescription) -> Iterator[str]:
    config, name = tunnel.config, shlex.quote(tunnel.config.name)
    words = f"dev {name} type {kernel_kind(config)} {shlex.join(link_options(config))}"
    yield f"if there {name}; then ip link change {words}; else ip link add {words}; fi"
    yield from (f"ip address replace {address} dev {name}" for address in config.address)
    yield f"ip link set dev {name} mtu {tunnel.mtu} up"
    yield from (f"{hostfiles.ip_words('replace', 'route', f'{text} dev {config.name}')}" for text in config.routes)
    yield from (_once(text) for text in config.rules)


def _once(words: str) -> str:
    return f"once {'-6' if ':' in words else '-4'} {shlex.join(words.split())}"


def _ports(description: NodeDescription) -> list[tuple[int, bool]]:
    """UDP ports whose datagrams the kernel is to take for GRE, each once."""
    found = [
        (config.encapsulation.listen, config.family == 6)
        for config in (tunnel.config for tunnel in description.tunnels)
        if config.encapsulation is not None
    ]
    return list(dict.fromkeys(found))


def _hooks(description: NodeDescription, when: str) -> Iterator[str]:
    """The node's own, each a shell of its own: a mistake in one does not reach into the script, nor keep it from going down."""
    for key, command in description.node.hooks:
        if key == when:
            keep_going = " || true" if when.endswith("Down") else ""
            yield f"sh -c {shlex.quote(command.replace('%i', description.interface))}{keep_going}"


def _down(description: NodeDescription, rules: HostRules, table: str) -> Iterator[str]:
    yield from _hooks(description, "PreDown")
    if description.dns:
        yield f"gone resolvconf -d {description.interface} -f"
    for tunnel in description.tunnels:
        yield f"gone ip link delete dev {shlex.quote(tunnel.config.name)}"
        for text in tunnel.config.rules:
            yield f"gone {hostfiles.ip_words('delete', 'rule', text)}"
    for port, six in _ports(description):
        yield f"gone ip fou del port {port}{' -6' if six else ''}"
    for each in interfaces(description):
        yield f"gone ip link delete dev {shlex.quote(each.interface)}"
        for version in routing(each).full:
            yield f"gone ip -{version} rule delete table main suppress_prefixlength 0 priority {_NEAR}"
            mark = routing(each).mark
            yield f"gone ip -{version} rule delete not fwmark {mark} table {mark} priority {_THROUGH}"
    yield from (f"gone {command}" for command in hostfiles.down(rules, table))
    yield from _hooks(description, "PostDown")
    yield ":"
