"""Chapter 04: addresses and ports. Who has which, and what is had twice."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0401": Code(
        "address-twice",
        "error",
        "Two hosts have the same address inside the tunnels: packets for it go to one of them.",
        "A host's file copied for the next one, its `Address` not changed.",
        "Give one of them another address, and change it in the AllowedIPs of its peers.",
    ),
    "G0402": Code(
        "lans-overlap",
        "error",
        "Two ranges overlap: a packet for both has one way to go.",
        "192.168.1.0/24 at two sites.",
        "Give each site its own range, or let the network know both by others: "
        '`lans = [{ seen = "10.120.0.0/24", real = "192.168.1.0/24" }]`.',
    ),
    "G0403": Code(
        "port-clash",
        "error",
        "Two interfaces of a host listen on one UDP port: the second one does not come up.",
        "`ListenPort = 51820` in wg0.conf and wg1.conf.",
        "Another port for one of them, and in the endpoints that others have for it.",
    ),
    "G0404": Code(
        "endpoint-clash",
        "error",
        "Two hosts have the same public address and port: what comes there goes to one of them.",
        "Two nodes behind one router, both forwarded on port 51820.",
        "Forward another port to one of them, and write it in its endpoint.",
    ),
    "G0405": Code(
        "lan-covers-tunnels",
        "error",
        "A LAN overlaps the addresses of the tunnels: for hosts in it, others' tunnel addresses are next door.",
        "The pool 10.10.0.0/24, and a LAN 10.10.0.0/16.",
        "Another pool, or another LAN.",
    ),
    "G0406": Code(
        "dns-unreachable",
        "warning",
        "A DNS server lies in the network, and no peer's AllowedIPs lead to it: every name takes its time and fails.",
        "`DNS = 10.20.0.53`, and 10.20.0.0/24 is in no AllowedIPs.",
        "Add its address to the AllowedIPs of the peer that it is behind.",
    ),
    "G0410": Code(
        "pool-full",
        "error",
        "A pool has no room for all nodes and links.",
        "A /28 for twenty nodes.",
        "A larger pool; the addresses that are pinned and lie in it stay.",
    ),
    "G0411": Code(
        "address-outside-pool",
        "error",
        "A fixed address or subnet does not lie in a pool, or is one that no host may have.",
        '`pool = ["10.10.0.0/24"]` and `address = ["10.11.0.5"]`.',
        "One of the pool, or widen the pool.",
    ),
    "G0412": Code(
        "pool-twice",
        "error",
        "A node or link has two addresses of one pool.",
        '`address = ["10.10.0.5", "10.10.0.6"]`',
        "One of each pool.",
    ),
    "G0413": Code(
        "address-without-interface",
        "error",
        "All links of a node are GRE or IPsec, and each has a subnet of its own: the node has no address besides.",
        "`address` at a node without WireGuard links.",
        'Say it of the link: `subnet = ["10.10.10.0/30"]`.',
    ),
    "G0414": Code(
        "endpoint-family",
        "error",
        "An endpoint is IPv6, and network.outer says that only IPv4 is used.",
        '`outer = "ipv4"` and `endpoint = "2001:db8::10"`.',
        "An IPv4 endpoint, or leave `outer` out.",
    ),
    "G0415": Code(
        "endpoint-shared",
        "error",
        "Two nodes have one address, and links of a kind that knows no ports (GRE) or one port for all (IKE).",
        "Two GRE nodes behind one public address.",
        "WireGuard links for one of them, or an address of its own.",
    ),
    "G0416": Code(
        "subnet-size",
        "error",
        "A link has two ends: its subnet is a /30 or /31, in IPv6 a /126 or /127.",
        '`subnet = ["10.10.10.0/24"]`',
        '`subnet = ["10.10.10.0/30"]`',
    ),
    "G0417": Code(
        "device-twice",
        "error",
        "Two devices of a node have one name.",
        '`interface = "gre-paris"`, which is what the GRE tunnel to paris is called.',
        "Another name for one of them.",
    ),
    "G0418": Code(
        "dns-without-interface",
        "error",
        "DNS servers are set with a WireGuard interface, and the node has none.",
        "`dns` at a node whose links are all GRE.",
        "Set them in the host's own resolver.",
    ),
    "G0421": Code(
        "mapped-twice",
        "error",
        "Two mapped LANs of one node overlap where they really are: it is not known which of the two a packet is for.",
        'Two entries with `real = "192.168.1.0/24"` at one node.',
        "One entry for each LAN.",
    ),
    "G0422": Code(
        "mapped-hides",
        "error",
        "What a mapped LAN really is overlaps a pool, or what the network knows of another node: from that LAN, it is next door.",
        '`real = "10.20.0.0/24"`, and another node has the LAN 10.20.0.0/24.',
        "Map the other one as well.",
    ),
}
