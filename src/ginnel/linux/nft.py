"""
The firewall of a full tunnel, as wg-quick has it, in one nftables transaction.

Three things, in a table of our own for each IP version that the tunnel takes over:
  - preraw: nobody outside may speak to the tunnel's own addresses except through the tunnel (CVE-2019-14899);
  - postmangle: the tunnel's own datagrams (they carry the mark) give their mark to the connection;
  - premangle: answers to them get the mark back, so that reverse path filtering looks them up as the underlay's.

The tables are called `ginnel-NAME`, so that no other program takes them for its own. A transaction first deletes what an earlier
run may have left. No iptables: where `nft` is missing, this says so.

Source: wg-quick(8), add_default.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterable, Sequence

from ginnel.errors import GinnelError, KernelError
from ginnel.linux.host import Version

_FAMILY: dict[Version, str] = {4: "ip", 6: "ip6"}
TIMEOUT_S = 30.0


def table_name(interface: str) -> str:
    """The name of an interface's tables; nft's words hold no `=` and no `+`, and tables cannot be quoted."""
    return "ginnel-" + interface.replace("=", "/3d").replace("+", "/2b")


def full_tunnel(interface: str, mark: int, addresses: Sequence[str], versions: Iterable[Version]) -> str:
    """
    The transaction that makes the tables of *interface*.

    Args:
        mark: what the tunnel's own datagrams carry.
        addresses: the interface's addresses with lengths, both versions.
        versions: those of which the tunnel takes the default route.
    """
    table = table_name(interface)
    lines: list[str] = []
    for version in versions:
        family = _FAMILY[version]
        lines += [
            f"add table {family} {table}",
            f"delete table {family} {table}",
            f"add table {family} {table}",
            f"add chain {family} {table} preraw {{ type filter hook prerouting priority -300; }}",
            f"add chain {family} {table} premangle {{ type filter hook prerouting priority -150; }}",
            f"add chain {family} {table} postmangle {{ type filter hook postrouting priority -150; }}",
        ]
        for address in addresses:
            bare = address.partition("/")[0]
            if (":" in bare) == (version == 6):
                stranger = f'iifname != "{interface}" {family} daddr {bare} fib saddr type != local'
                lines.append(f"add rule {family} {table} preraw {stranger} drop")
        lines += [
            f"add rule {family} {table} postmangle meta l4proto udp mark {mark} ct mark set mark",
            f"add rule {family} {table} premangle meta l4proto udp meta mark set ct mark",
        ]
    return "".join(f"{line}\n" for line in lines)


def removal(interface: str, versions: Iterable[Version]) -> str:
    """The transaction that deletes the tables, there or not: a table is added before it is deleted."""
    table = table_name(interface)
    return "".join(f"add table {_FAMILY[v]} {table}\ndelete table {_FAMILY[v]} {table}\n" for v in versions)


class Nft:
    """`host.Firewall` by the `nft` command, which is atomic and quick."""

    def apply(self, script: str) -> None:
        """See `host.Firewall`."""
        try:
            done = subprocess.run(
                ["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except FileNotFoundError:
            needed_by = "a full tunnel (0.0.0.0/0 or ::/0) needs" if "preraw" in script else "tunnels of a node file need"
            without = "" if "preraw" in script else "; with mss-clamp = false they may not"
            hint = f"{needed_by} nftables: `apt install nftables`{without}"
            raise KernelError("nft -f -", errno.ENOENT, hint) from None
        except subprocess.TimeoutExpired:
            raise KernelError("nft -f -", errno.ETIMEDOUT, f"nft did not end within {TIMEOUT_S:.0f} s") from None
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            hint = " Is this root, and does the kernel have nf_tables?" if "Operation not permitted" in done.stderr else ""
            raise GinnelError(f"nft -f -: {said[0] if said else f'ended with {done.returncode}'}{hint}")
