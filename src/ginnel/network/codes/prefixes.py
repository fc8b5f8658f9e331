"""Chapter 01: prefixes. Which peer gets which destination, and whose sources are let in."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0101": Code(
        "allowed-ips-shadowed",
        "warning",
        "A longer prefix of another peer takes a part of this one, and what is in that part is at this peer: packets for it go "
        "to "
        "the other one, and its own packets are dropped as forged.",
        "`AllowedIPs = 10.20.0.0/24` for paris and `AllowedIPs = 10.20.0.128/25` for lyon, while 10.20.0.200 is in paris' LAN.",
        "Take the longer prefix from the peer that has nothing in it, or give the two sites ranges of their own.",
    ),
    "G0102": Code(
        "allowed-ips-duplicate",
        "error",
        "Two peers of an interface have the same prefix. WireGuard gives it to the last one and takes it from the others "
        "without a "
        "word: `wg show` has `allowed ips: (none)` for them, the handshake still works, and no packet passes.",
        "`AllowedIPs = 10.10.0.2/32, 0.0.0.0/0` for two peers of wg0.",
        "Leave the prefix at one peer; where two are to share the work, give each an interface of its own, or route between "
        "them.",
    ),
    "G0103": Code(
        "allowed-ips-carved",
        "note",
        "A longer prefix of another peer takes a part of this one. That is right where the part lies behind the other peer.",
        "`AllowedIPs = 10.20.0.0/16` for paris, `AllowedIPs = 10.20.7.0/24` for lyon.",
        "Nothing, if it is meant.",
    ),
    "G0104": Code(
        "address-not-accepted",
        "error",
        "The other side does not have this interface's address among the AllowedIPs of this peer: it decrypts the packets, and "
        "drops "
        "them, because their source is not allowed; and it does not send answers here.",
        "wg0 has `Address = 10.10.0.3/24`, and the hub has `AllowedIPs = 10.10.0.2/32` for it.",
        "Add the address to the AllowedIPs of this peer on the other side.",
    ),
    "G0105": Code(
        "lan-not-accepted",
        "warning",
        "A LAN lies behind this host, and a peer that the host sends to does not have it among its AllowedIPs: packets from "
        "the LAN "
        "are dropped on arrival, those of the host itself pass.",
        "lyon has the LAN 10.30.0.0/24, paris has `AllowedIPs = 10.10.0.2/32` for lyon.",
        "Add the LAN to the AllowedIPs on the other side; or leave it out on purpose, and `--ignore G0105`.",
    ),
    "G0106": Code(
        "no-return-route",
        "warning",
        "A destination is sent through a peer that carries it on, and the host that has it sends the answers to no peer, or to "
        "another one than the packets come from: they are dropped, on the way there or on the way back.",
        "lyon sends 10.40.0.0/24 to the hub, the hub has it at berlin, and berlin has only the hub's own address at the hub.",
        "Give the host at the end the sender's address (or the whole tunnel network) at the peer that carries.",
    ),
    "G0107": Code(
        "own-lan-routed-away",
        "warning",
        "A host has its own LAN, or a part of it, among the AllowedIPs of a peer: wg-quick makes a route into the tunnel for "
        "what is "
        "next door, and what comes from the peer may carry the LAN's addresses.",
        "paris has the LAN 10.20.0.0/24, and `AllowedIPs = 10.10.0.2/32, 10.20.0.0/24` for lyon: AllowedIPs name what is "
        "behind the "
        "peer, not what is behind oneself.",
        "Take the LAN out here; it belongs to the AllowedIPs that the peer has for this host.",
    ),
    "G0108": Code(
        "loop",
        "warning",
        "Two hosts have the same prefix, each at the other, and nobody has it: a packet for it goes to and fro until its TTL "
        "is used up.",
        "paris has `AllowedIPs = 10.0.0.0/8` for lyon, and lyon has `AllowedIPs = 10.0.0.0/8` for paris.",
        "Leave the wide prefix at the side that is nearer to the rest of the network only.",
    ),
    "G0109": Code(
        "route-twice",
        "error",
        "Two devices of a host have a route for the same prefix: the second one cannot be made, or takes what was meant for "
        "the first.",
        "wg0 and wg1 both have a peer with `AllowedIPs = 10.20.0.0/24`.",
        "Leave it at one of them, or `Table = off` and decide by rules.",
    ),
    "G0110": Code(
        "masquerade-towards-site",
        "warning",
        "A hook hides what leaves into the tunnel behind this host's address, although the other side accepts the LAN itself: "
        "there "
        "nobody sees who a connection is from, and firewalls and logs are wrong.",
        "`PostUp = iptables -t nat -A POSTROUTING -o %i -j MASQUERADE` at a site whose LAN is in the peer's AllowedIPs.",
        "Take the rule out; masquerading belongs to the device that leads to the internet (`-o eth0`).",
    ),
    "G0111": Code(
        "default-not-routed",
        "note",
        "A peer may have everything, but with `Table = off` and no hook that routes, wg-quick sends it nothing.",
        "`Table = off` and `AllowedIPs = 0.0.0.0/0`: usual under a routing daemon.",
        "Nothing, where a routing daemon does it; else take `Table = off` out.",
    ),
    "G0112": Code(
        "ipv6-beside-exit",
        "note",
        "All of IPv4 leaves through a peer, and IPv6 does not: where the host has IPv6, a good part of its traffic goes past "
        "the tunnel.",
        "`AllowedIPs = 0.0.0.0/0`",
        "`AllowedIPs = 0.0.0.0/0, ::/0`",
    ),
    "G0113": Code(
        "allowed-ips-none",
        "warning",
        "A peer has no AllowedIPs: nothing is sent to it, and whatever it sends is dropped.",
        "A `[Peer]` of a public key alone.",
        "Give it at least the peer's tunnel address.",
    ),
}
