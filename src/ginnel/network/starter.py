"""
The network file that `ginnel init` writes: small enough to be read, with every section in it.

What a first network needs is there; the rest stands as comments, `#` directly before what would be TOML without it and `# `
before prose, so that taking away the first kind of `#` everywhere leaves a file that is right (a test does that).
"""

from __future__ import annotations

from collections.abc import Sequence

from ginnel.network.addressing import within
from ginnel.units import Prefix

#: The schema's file beside it, by which editors complete and check.
SCHEMA_FILE = "network.schema.json"

#: Addresses that documentation may use (RFC 5737): nobody has them.
_ENDPOINTS = ("203.0.113.10", "198.51.100.20", "192.0.2.30")

_TEXT = """\
#:schema {schema}
# The whole network in one file: `ginnel check` looks for mistakes, `ginnel lab` rehearses it on this machine, `ginnel render`
# makes each host's files. No secret belongs here; this file and its lock file belong in git.

[network]
name = "{name}"
pool = [{pool}]          # tunnel addresses come from here
kind = "wireguard"       # or "gre", "gre+ipsec", "ipsec"; a link may be of another
shape = "mesh"           # or "hub" with hub = "paris", or "none": then only the links below
#psk = "random"           # preshared keys on all WireGuard links
#dns = ["{resolver}"]
#search = ["{name}.example"]

# A node with an endpoint can be reached from outside.
[node.paris]
endpoint = "{first}"
lans = ["{lan_a}"]
#relay = true             # may carry between nodes that have no link
#region = "west"

# One without is behind NAT: it speaks first, and keeps speaking.
[node.lyon]
lans = ["{lan_b}"]
#underlay_mtu = 1492      # behind PPPoE

#[node.berlin]
#endpoint = "{second}:4500"
# The LAN is 192.168.1.0/24 there, as everywhere; the others know it by a prefix of its own.
#lans = [{{ seen = "{lan_c}", real = "192.168.1.0/24" }}]
#region = "east"
#listen_port = 4500

# A phone: no ginnel there, only a rendered file (or a QR code); all its traffic leaves through paris.
#[node.phone]
#runs = "wg-quick"
#exit = "paris"

# Nodes that are near to one another use their own relays and hubs first.
#[region.west]
#near = ["east"]
#[region.east]

# Nodes under one name, for links and expectations.
#[group.branches]
#nodes = ["lyon", "berlin"]

# A link that the shape does not make, or that differs from the others.
#[[link]]
#between = ["paris", "berlin"]
#kind = "gre+ipsec"
#[[link]]
#between = ["paris", "@branches"]
#ends.lyon = {{ keepalive = 15 }}

# What links of kind "gre", and those under IPsec, are unless they say otherwise.
#[gre]
#routes = true
#[ipsec]
#auth = "psk"

# Addresses that paris takes from outside for lyon, which stays hidden.
#[[protect]]
#edge = "paris"
#origin = "lyon"
#addresses = ["{protected}"]

# What must hold: `ginnel check` asks the model, `ginnel lab` tries it.
[[expect]]
from = "lyon"
to = "{host_a}:443"      # a host in the LAN of paris

#[[expect]]
#from = "@branches"
#to = "paris"

# What the lab's internet does to packets.
#[lab]
#delay = "10ms"
#[lab.node.lyon]
#loss = "1%"
"""


def starting_file(name: str, pool: Sequence[Prefix]) -> str:
    """
    The text for a network called *name*, with tunnel addresses from *pool*.

    Raises:
        ValueError: the pools leave no private prefix for the LANs of the example.
    """
    lans = [lan for lan in _private() if not any(_overlap(lan, each) for each in pool)][:3]
    endpoints = [text for text in _ENDPOINTS if not any(within(Prefix.parse(text).packed, each) for each in pool)]
    if len(lans) < 3 or len(endpoints) < 3:
        raise ValueError("the pools leave no addresses for LANs and endpoints: use a smaller one, such as 10.10.0.0/24")
    first, second, protected = endpoints
    return _TEXT.format(
        schema=SCHEMA_FILE,
        name=name,
        pool=", ".join(f'"{each}"' for each in pool),
        lan_a=lans[0],
        lan_b=lans[1],
        lan_c=lans[2],
        host_a=lans[0].address.removesuffix("0") + "5",
        resolver=lans[0].address.removesuffix("0") + "53",
        first=first,
        second=second,
        # Of a family that the tunnels carry.
        protected=f"{protected}/32" if any(each.version == 4 for each in pool) else "2001:db8:30::/64",
    )


def _private() -> list[Prefix]:
    texts = [f"10.{number}.0.0/24" for number in range(20, 250, 10)]
    texts += [f"172.{number}.0.0/24" for number in range(16, 32)]
    texts += [f"192.168.{number}.0/24" for number in range(20, 250, 10)]
    return [Prefix.parse(text) for text in texts]


def _overlap(one: Prefix, other: Prefix) -> bool:
    return one.version == other.version and (within(one.packed, other) or within(other.packed, one))
