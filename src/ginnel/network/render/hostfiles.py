"""
What the host does beside its tunnels (`hostrules`), in the two forms that formats need: shell commands, or files that the host
reads when it starts.

The nft table is called `ginnel-NETWORK`, and every form makes it anew as a whole in one transaction, so that doing it twice is
doing it once. Two things are in it besides the host rules, where the format's reader does not see to them itself: TCP through
plain tunnels agrees on segments that fit, and a full tunnel is guarded as wg-quick guards it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ginnel.network.compile import NodeDescription
from ginnel.network.hostrules import HostRules, host_rules
from ginnel.network.render import File, interfaces, title
from ginnel.network.render.routing import routing

_SYN = "tcp flags & (syn | rst) == syn"
_HEADERS = {"ipv4": 40, "ipv6": 60}
_WORD = {4: "ip", 16: "ip6"}
_Chain = tuple[str, str, tuple[str, ...]]


def table_name(description: NodeDescription) -> str:
    """The name of the network's nft table on a host."""
    return f"ginnel-{description.network}"


def rules_of(description: NodeDescription) -> HostRules:
    """
    All that the host needs beside its tunnels, for a reader that only configures devices: `host_rules` of every interface, and
    what such a reader does not do itself.
    """
    rules = host_rules(description)
    for each in description.beside:
        rules += host_rules(each)
    guarded = [each for each in interfaces(description) if routing(each).full]
    chains = (*_segments(description), *(chain for each in guarded for chain in _guard(each)))
    # Without it the answers to the tunnel's own packets fail reverse path filtering.
    marks = (("net.ipv4.conf.all.src_valid_mark", "1"),) if any(4 in routing(each).full for each in guarded) else ()
    return rules + HostRules(sysctls=marks, chains=chains)


def _segments(description: NodeDescription) -> Iterator[_Chain]:
    clamped = [tunnel for tunnel in description.tunnels if tunnel.config.mss_clamp]
    if not clamped:
        return
    out = f"oifname {_names([tunnel.config.name for tunnel in clamped])} {_SYN} tcp option maxseg size set rt mtu"
    back = []
    for size in sorted({tunnel.mtu for tunnel in clamped}):
        names = _names([tunnel.config.name for tunnel in clamped if tunnel.mtu == size])
        for version, headers in _HEADERS.items():
            back.append(f"iifname {names} meta nfproto {version} {_SYN} tcp option maxseg size set {size - headers}")
    yield "tunnel_segments", "type filter hook forward priority mangle;", (out, *back)
    yield "own_segments", "type filter hook output priority mangle;", (out,)


def _guard(description: NodeDescription) -> Iterator[_Chain]:
    """Nobody but the tunnel speaks to its addresses; answers to its own packets are known by the mark of what they answer."""
    name, mark = description.interface, routing(description).mark
    strangers = tuple(
        f'iifname != "{name}" {_WORD[len(each.packed)]} daddr {each.host.address} fib saddr type != local drop'
        for each in description.address
    )
    yield "guard", "type filter hook prerouting priority raw;", strangers
    yield "mark_in", "type filter hook prerouting priority mangle;", ("meta l4proto udp meta mark set ct mark",)
    marked = f"meta l4proto udp meta mark {mark} ct mark set meta mark"
    yield "mark_out", "type filter hook postrouting priority mangle;", (marked,)


def _names(names: Sequence[str]) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"


# ---------------------------------------------------------------- as shell


def of_device(name: str) -> bool:
    """Whether a setting is one device's, so that the device has to be there first."""
    parts = name.split(".")
    return parts[2:3] == ["conf"] and parts[3] not in ("all", "default")


def setting(name: str, value: str) -> str:
    """A setting of the kernel, made."""
    path = name.translate(str.maketrans("./", "/."))
    return f"echo {shlex.quote(value)} > {shlex.quote(f'/proc/sys/{path}')}"


def nft_up(rules: HostRules, table: str) -> str:
    """One command that makes the table, or makes it anew; empty where there is nothing to be in it."""
    if not rules.chains:
        return ""
    steps = [f"add table inet {table}", f"delete table inet {table}", f"add table inet {table}"]
    for name, head, lines in rules.chains:
        steps.append(f"add chain inet {table} {name} {{ {head} }}")
        steps += [f"add rule inet {table} {name} {line}" for line in lines]
    return f"nft {shlex.quote('; '.join(steps))}"


def nft_down(rules: HostRules, table: str) -> str:
    """One command that takes it away, there or not."""
    return f"nft {shlex.quote(f'add table inet {table}; delete table inet {table}')}" if rules.chains else ""


def ip_words(verb: str, kind: str, words: str) -> str:
    """`ip -4 KIND VERB WORDS`, of the words of `HostRules`: IPv6 where there is a colon in them."""
    return shlex.join(["ip", "-6" if ":" in words else "-4", kind, verb, *words.split()])


def up(rules: HostRules) -> Iterator[str]:
    """Addresses, routes and neighbours, there or not; policy rules, which `ip` adds as often as it is asked to."""
    yield from (ip_words("replace", "address", words) for words in rules.addresses)
    yield from (ip_words("replace", "route", words) for words in rules.routes)
    yield from (ip_words("replace", "neighbour", words) for words in rules.neighbours)
    yield from (ip_words("add", "rule", words) for words in rules.rules)


def down(rules: HostRules, table: str) -> Iterator[str]:
    """What undoes `up` and `nft_up`, but for what goes with its device."""
    yield from (ip_words("delete", "rule", words) for words in rules.rules)
    yield from (ip_words("delete", "neighbour", words) for words in rules.neighbours)
    yield from (ip_words("delete", "route", words) for words in rules.routes if words.endswith(" dev lo"))
    yield from (ip_words("delete", "address", words) for words in rules.addresses)
    yield from filter(None, (nft_down(rules, table),))


# ---------------------------------------------------------------- as files


def files(description: NodeDescription, rules: HostRules, after: str) -> tuple[File, ...]:
    """
    The host's part as files: settings for sysctl.d, the table for nft, and a unit that loads it.

    Args:
        rules: settings and table; of addresses, routes, neighbours and rules those that the format does not write itself.
        after: the unit behind which it comes.
    """
    made = []
    table = table_name(description)
    if rules.sysctls:
        lines = [title(description), "# In force after the next start, or by: sysctl --system"]
        lines += [f"{name} = {value}" for name, value in rules.sysctls]
        made.append(File(f"60-{table}.conf", _text(lines), "/etc/sysctl.d/"))
    if rules.chains:
        lines = [title(description), f"table inet {table}", f"delete table inet {table}", rules.nft(table).rstrip("\n")]
        made.append(File(f"{table}.nft", _text(lines), "/etc/nftables.d/"))
    commands = list(up(rules))
    if rules.chains or commands:
        made.append(File(f"{table}.service", _text(list(_unit(description, rules, commands, after))), "/etc/systemd/system/"))
    return tuple(made)


def _unit(description: NodeDescription, rules: HostRules, commands: list[str], after: str) -> Iterator[str]:
    """Of the words of `ip` and the name of a table, none of which systemd takes for anything else."""
    table = table_name(description)
    yield title(description)
    yield f"# systemctl enable --now {table}.service"
    yield from ("[Unit]", f"Description=Host rules of the network {description.network}", f"After={after}")
    yield from ("", "[Service]", "Type=oneshot", "RemainAfterExit=yes")
    if rules.chains:
        yield f"ExecStart=/usr/sbin/nft -f /etc/nftables.d/{table}.nft"
    yield from (f"ExecStart=/sbin/{command}" for command in commands)
    yield from (f"ExecStop=-/sbin/{command}" for command in down(replace(rules, chains=()), table))
    if rules.chains:
        yield f"ExecStop=/usr/sbin/nft delete table inet {table}"
    yield from ("", "[Install]", "WantedBy=multi-user.target")


def _text(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
