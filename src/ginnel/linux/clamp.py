"""
The nft table of a node: TCP through its tunnels agrees on segments that fit them.

A SYN that leaves through a tunnel gets the MSS of its route, one that came through a tunnel and is forwarded the MSS of that
tunnel's MTU, for the two ends each learn of the way from the other. Only ever lowered: nft does not raise an MSS. One table
`ginnel-NAME` in the inet family, made anew as a whole in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from ginnel.linux.nft import table_name

#: Header sizes that an MSS leaves out: IP and TCP without options.
_HEADERS = {"ipv4": 40, "ipv6": 60}
_SYN = "tcp flags & (syn | rst) == syn"


def table(node: str) -> str:
    """The table's name."""
    return table_name(node)


def script(node: str, sizes: Mapping[str, int], drops: Sequence[str] = ()) -> str:
    """
    The transaction that makes the table, or makes it anew.

    Args:
        sizes: MTU by interface, of the tunnels that are clamped.
        drops: matches on outgoing packets that are dropped, see `kernel_gre`.
    """
    name = table(node)
    lines = [f"add table inet {name}", f"delete table inet {name}", f"add table inet {name}"]
    if sizes:
        lines += [
            f"add chain inet {name} forward {{ type filter hook forward priority mangle; }}",
            f"add chain inet {name} output {{ type filter hook output priority mangle; }}",
        ]
        every = _set(sizes)
        lines += [f"add rule inet {name} {hook} oifname {every} {_SYN} tcp option maxseg size set rt mtu" for hook in _HOOKS]
        for size, group in groupby(sorted(sizes, key=lambda each: sizes[each]), key=lambda each: sizes[each]):
            some = _set(list(group))
            for version, headers in _HEADERS.items():
                if size > headers:
                    match = f"iifname {some} meta nfproto {version} {_SYN}"
                    lines.append(f"add rule inet {name} forward {match} tcp option maxseg size set {size - headers}")
    if drops:
        lines.append(f"add chain inet {name} kernel {{ type filter hook output priority filter; }}")
        lines += [f"add rule inet {name} kernel {match} drop" for match in drops]
    return "".join(f"{line}\n" for line in lines)


_HOOKS = ("forward", "output")


def _set(names: Sequence[str] | Mapping[str, int]) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"
