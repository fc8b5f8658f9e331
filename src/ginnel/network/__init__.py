"""
One file for the network: `parse_network` -> `allocate` -> `compile_network` -> `render`. Pure: values in, values out.

    file  -> model -> check          the text, and every mistake in it at once
    host  -> lint                    what is wrong between hosts, compiled or imported; codes: findings
    addressing -> lock               what is allocated once, and pinned in the lock file
    links -> paths -> compile        who is linked, who reaches whom through whom; what each host runs
    render/                          the same as other programs' files
    importing/                       other programs' files, to hosts and to a network file
    plan/                            what is to be done where one set of hosts is to become another
    mtu                              arithmetic with its layers
"""

from ginnel.network.addressing import allocate
from ginnel.network.compile import Compilation, NodeDescription, PeerDescription, TunnelDescription, compile_network
from ginnel.network.file import parse_network
from ginnel.network.host import Host, InterfaceAddress
from ginnel.network.lock import Lock, parse_lock, render_lock
from ginnel.network.model import Expect, Faults, Gre, HostPort, Link, Network, Node

__all__ = [
    "Compilation",
    "Expect",
    "Faults",
    "Gre",
    "Host",
    "HostPort",
    "InterfaceAddress",
    "Link",
    "Lock",
    "Network",
    "Node",
    "NodeDescription",
    "PeerDescription",
    "TunnelDescription",
    "allocate",
    "compile_network",
    "parse_lock",
    "parse_network",
    "render_lock",
]
