"""
What a lab needs of the machine, asked before anything is built: one message that names all that is missing.
"""

from __future__ import annotations

import os
import shutil

from ginnel.errors import UsageError
from ginnel.network import Network

#: Program and the Debian package that has it.
_ALWAYS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "nft": "nftables",
    "mount": "mount",
    "hostname": "hostname",
    "sh": "dash",
}


def require(network: Network, throughput: bool) -> None:
    """UsageError that lists every missing program with its package, and a TUN device that cannot be opened."""
    needed = dict(_ALWAYS)
    if any(node.runs == "wg-quick" for node in network.nodes):
        needed |= {"wg-quick": "wireguard-tools", "wg": "wireguard-tools"}
        if any(node.dns and node.runs == "wg-quick" for node in network.nodes):
            needed["resolvconf"] = "openresolv"
    if throughput:
        needed["iperf3"] = "iperf3"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = {program: package for program, package in needed.items() if shutil.which(program, path=path) is None}
    lines = [f"the lab needs {program} (Debian: {package})" for program, package in missing.items()]
    if missing:
        lines.append(f"  hint: apt-get install {' '.join(sorted(set(missing.values())))}")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        lines.append(f"the lab needs to open /dev/net/tun: {error.strerror}")
        if isinstance(error, PermissionError):
            lines.append("  hint: run it with sudo, or let users open it: chmod 666 /dev/net/tun")
        else:
            lines.append("  hint: modprobe tun; in a container: --device /dev/net/tun")
    if lines:
        raise UsageError("\n".join(lines))
