"""The networks that every format is rendered for: what it can, and what it says that it cannot."""

from __future__ import annotations

import base64
import dataclasses

from ginnel.network import NodeDescription
from ginnel.network.render import Secrets, interfaces
from unit.network.networks import compiled

#: WireGuard, both versions, a hub with an exit, preshared keys, hooks, name servers.
SITES = """\
[network]
name = "sites"
pool = ["10.10.0.0/24", "fd10:10::/64"]
shape = "hub"
hub = "paris"
psk = "random"

[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]

[node.paris.hooks]
post-up = ["logger -t ginnel 'up: %i'"]
pre-down = ["logger -t ginnel down"]

[node.lyon]
endpoint = "[2001:db8::20]:4500"
lans = ["10.30.0.0/24", "fd10:30::/64"]
mtu = 1380
table = 1234
fwmark = "0x10"

[node.phone]
exit = "paris"
dns = ["10.20.0.53", "fd10:10::1"]
search = ["sites.example"]
runs = "wg-quick"
"""

#: GRE: over IPv4 with and without a key and in UDP, and beside WireGuard.
PLAIN = """\
[network]
name = "plain"
pool = ["10.99.0.0/24", "fd99::/64"]
kind = "gre"
shape = "none"

[node.amber]
endpoint = "203.0.113.10"
lans = ["10.41.0.0/24"]

[node.basil]
endpoint = "198.51.100.20"
lans = ["10.42.0.0/24", "fd42::/64"]

[node.cedar]
endpoint = "198.51.100.30"

[node.dill]
endpoint = "198.51.100.40"

[[link]]
between = ["amber", "basil"]
key = 42
ttl = 255
keepalive = 0

[[link]]
between = ["amber", "cedar"]
encapsulation = "udp"

[[link]]
between = ["amber", "dill"]
kind = "wireguard"
"""

#: GRE over IPv6.
SIX = """\
[network]
name = "six"
pool = ["10.98.0.0/24", "fd98::/64"]
kind = "gre"

[node.elder]
endpoint = "2001:db8::10"
lans = ["10.51.0.0/24"]

[node.fern]
endpoint = "2001:db8::20"
lans = ["fd52::/64"]
"""

#: What only some formats can: checksums and sequence numbers, protection.
ODD = """\
[network]
name = "odd"
pool = ["10.97.0.0/24"]
kind = "gre"
shape = "none"

[node.gorse]
endpoint = "203.0.113.10"

[node.holly]
endpoint = "198.51.100.20"

[node.iris]
endpoint = "198.51.100.30"

[[link]]
between = ["gorse", "holly"]
csum = true
seq = true
tos = "inherit"

[[link]]
between = ["gorse", "iris"]
kind = "gre+ipsec"
"""

#: A hidden origin behind two edges, and a LAN that the network knows by another prefix.
HIDDEN = """\
[network]
name = "hidden"
pool = ["10.96.0.0/24"]
shape = "none"

[node.north]
endpoint = "203.0.113.10"

[node.south]
endpoint = "198.51.100.20"

[node.cellar]
lans = [{ seen = "10.120.0.0/24", real = "192.168.1.0/24" }]

[[link]]
between = ["north", "cellar"]

[[link]]
between = ["south", "cellar"]

[[protect]]
edge = ["north", "south"]
origin = "cellar"
addresses = ["192.0.2.64/30"]
"""

#: Whose files are compared: network, node.
SHOWN = {
    "sites": (SITES, ("paris", "lyon", "phone")),
    "plain": (PLAIN, ("amber", "basil")),
    "six": (SIX, ("elder",)),
    "odd": (ODD, ("holly", "iris")),
    "hidden": (HIDDEN, ("north", "cellar")),
}


def node(network: str, name: str) -> NodeDescription:
    """One node of one of them."""
    return compiled(SHOWN[network][0])[name]


def secrets(description: NodeDescription) -> Secrets:
    """Keys that anybody can see are none."""
    peers = dict.fromkeys(peer.name for each in interfaces(description) for peer in each.peers if peer.psk)
    tunnels = [tunnel.peer for tunnel in description.tunnels if tunnel.config.ipsec is not None]
    return Secrets(
        private_key=key("private", description.name),
        psk={name: key("shared", *sorted((description.name, name))) for name in peers},
        ipsec={name: key("ipsec", *sorted((description.name, name))) for name in tunnels},
    )


def key(*words: str) -> str:
    """32 bytes that say what they are, in base64."""
    return base64.b64encode("-".join(words).encode().ljust(32, b".")[:32]).decode()


def with_hooks(description: NodeDescription, *hooks: tuple[str, str]) -> NodeDescription:
    """The same with other hooks, as code could give them."""
    return dataclasses.replace(description, node=dataclasses.replace(description.node, hooks=hooks))
