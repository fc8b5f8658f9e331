"""Chapter 02: who reaches whom. NAT, relays, exits, protected origins; endpoints inside of tunnels."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0201": Code(
        "both-behind-nat",
        "error",
        "Neither end of a link knows an endpoint of the other: neither can begin, and there will never be a handshake.",
        '`[[link]] between = ["lyon", "phone"]`, and neither node has an endpoint.',
        "Give one of them an endpoint (a port forwarded by its router is one), or take the link out and let a relay carry.",
    ),
    "G0202": Code(
        "keepalive-missing",
        "warning",
        "A host behind NAT sends no keepalives, and others are to reach what is behind it: after half a minute without traffic "
        "its NAT "
        "forgets the mapping, and until it speaks again nobody gets through.",
        "The office router has a LAN, no endpoint, and no `PersistentKeepalive`.",
        "`PersistentKeepalive = 25` at its peers that have an endpoint.",
    ),
    "G0203": Code(
        "keepalive-none",
        "note",
        "A host behind NAT sends no keepalives: others reach it only for a while after it has spoken. That saves a phone's "
        "battery.",
        "`keepalive = 0` at a phone.",
        "`PersistentKeepalive = 25`, if others are to begin.",
    ),
    "G0204": Code(
        "endpoint-in-own-tunnel",
        "error",
        "The way to a peer's endpoint leads into the tunnel itself: its packets would have to be inside of themselves; none "
        "leaves.",
        "`AllowedIPs = 203.0.113.0/24` for the peer with `Endpoint = 203.0.113.10:51820`.",
        "Leave the endpoint's address out of the AllowedIPs, or route it past the tunnel. `0.0.0.0/0` is right: wg-quick sees "
        "to it.",
    ),
    "G0205": Code(
        "tunnel-in-tunnel",
        "note",
        "The way to a peer's endpoint leads through another tunnel of the host: everything is wrapped twice, and the MTU is "
        "smaller.",
        "wg1's peer has `Endpoint = 10.10.0.1:51821`, and wg0 has 10.10.0.0/24.",
        "Nothing, if it is meant; else use the address outside.",
    ),
    "G0206": Code(
        "tunnels-in-circle",
        "error",
        "Each of two tunnels of a host has its endpoint behind the other: neither can begin.",
        "wg0's endpoint lies in wg1's AllowedIPs, and wg1's in wg0's.",
        "Use an address outside for one of them.",
    ),
    "G0207": Code(
        "not-forwarding",
        "error",
        "Others send packets through a host that does not forward: what is not for itself is dropped there.",
        "The hub has peers that are to reach one another, and `net.ipv4.ip_forward = 0`.",
        "`sysctl -w net.ipv4.ip_forward=1` (and `net.ipv6.conf.all.forwarding=1`) there, or in a node file `forward = true`.",
    ),
    "G0208": Code(
        "nothing-carries",
        "error",
        "Two nodes have no link, and no relay or hub has a link with both (nor do several make a chain): nothing carries "
        "between them.",
        "Two nodes without endpoint in a mesh without `relay = true`.",
        "`relay = true` at a node with an endpoint.",
    ),
    "G0209": Code(
        "hub-missing",
        "error",
        'Shape "hub", and no hub is named.',
        '`shape = "hub"` alone.',
        '`hub = "paris"`',
    ),
    "G0210": Code(
        "hub-without-shape",
        "error",
        'A hub is named, but the shape is not "hub".',
        '`shape = "mesh"` and `hub = "paris"`.',
        '`shape = "hub"`, or take `hub` out.',
    ),
    "G0211": Code(
        "hub-behind-nat",
        "error",
        "A hub without endpoint is found by nobody.",
        '`hub = "lyon"`, and `[node.lyon]` has no endpoint.',
        "Give it an endpoint, or make another node the hub.",
    ),
    "G0212": Code(
        "relay-behind-nat",
        "error",
        "A relay without endpoint is found by nobody.",
        "`relay = true` at a node without endpoint.",
        "Give it an endpoint, or another node the relay.",
    ),
    "G0213": Code(
        "exit-itself", "error", "A node cannot leave through itself.", '`[node.paris] exit = "paris"`', "Name another."
    ),
    "G0214": Code(
        "exit-of-exit",
        "error",
        "The exit of a node itself leaves through another: what it is given would go round, or out where nobody expects it.",
        "phone leaves through lyon, lyon leaves through paris.",
        "Let both leave through the last one.",
    ),
    "G0215": Code(
        "exit-not-linked",
        "error",
        "A node leaves through one with which it has no link.",
        'Shape "hub" with hub paris, and `exit = "berlin"`.',
        "Add the link, or leave through the hub.",
    ),
    "G0216": Code(
        "exit-in-clear",
        "error",
        "The link with the exit is GRE without protection: all of the node's traffic would travel in clear.",
        '`kind = "gre"` between phone and its exit.',
        'Make that link kind = "wireguard".',
    ),
    "G0217": Code(
        "exit-takes-tunnels",
        "error",
        "A node with an exit has GRE or IPsec links as well: their packets, too, would leave through the exit, into one another.",
        'lyon leaves through paris, and has a link kind = "gre" with berlin.',
        'Make all of its links kind = "wireguard", or take the exit out.',
    ),
    "G0218": Code(
        "gre-behind-nat",
        "error",
        "Bare GRE has no ports by which a NAT could tell tunnels apart.",
        '`encapsulation = "none"` with a node that has no endpoint.',
        '`encapsulation = "auto"` takes it through a NAT in UDP.',
    ),
    "G0219": Code(
        "esp-behind-nat",
        "error",
        "Raw ESP has no ports by which a NAT could tell tunnels apart.",
        '`encapsulation = "raw"` under [ipsec], with a node that has no endpoint.',
        "Leave it out: then ESP goes in UDP where there is a NAT.",
    ),
    "G0220": Code(
        "near-itself", "error", "A region is near itself.", '`[region.eu] near = ["eu"]`', "Name other regions, nearest first."
    ),
    "G0221": Code(
        "region-empty",
        "note",
        "A region has no node.",
        '`[region.asia]`, and no node says `region = "asia"`.',
        "Take it out, or say it of its nodes.",
    ),
    "G0222": Code(
        "hub-outside-group",
        "error",
        "The hub of a group is not one of its nodes.",
        '`[group.branches] nodes = ["lyon", "nice"], shape = "hub", hub = "paris"`',
        "Name it among the group's nodes.",
    ),
    "G0230": Code(
        "protect-not-linked",
        "error",
        "An edge has no link with the origin that it protects.",
        '`[[protect]] edge = "paris", origin = "lyon"`, and no link between the two.',
        'Add [[link]] between = ["paris", "lyon"].',
    ),
    "G0231": Code(
        "protect-itself", "error", "A node is the edge of itself.", '`edge = "paris"`, `origin = "paris"`', "Name another origin."
    ),
    "G0232": Code(
        "protect-edge-behind-nat",
        "error",
        "An edge without endpoint: packets for the protected addresses do not come to it from the internet.",
        "`edge` names a node without endpoint.",
        "Name a node that the provider routes the addresses to.",
    ),
    "G0233": Code(
        "protect-overlap",
        "error",
        "Protected addresses overlap a pool, a LAN, or those of another origin: a packet for both has one way to go.",
        '`addresses = ["10.20.0.0/28"]` inside of a node\'s LAN.',
        "Protected addresses are public ones that nobody else has.",
    ),
    "G0234": Code(
        "origin-exposed",
        "warning",
        "The origin can be reached past its edges: attackers who learn its own address need not care for the edges.",
        "The origin has an endpoint of its own in the network file, or its firewall does not refuse what comes from elsewhere.",
        "Leave the endpoint out (the origin speaks first), or let its own address answer nobody but the edges.",
    ),
    "G0235": Code(
        "protect-origin-leaves",
        "error",
        "The origin has an exit: answers of its protected addresses would leave there instead of through the edge they came by.",
        '`[node.origin] exit = "berlin"`',
        "Take the exit out.",
    ),
    "G0236": Code(
        "protect-without-ipv4",
        "error",
        "IPv4 addresses are protected, and no pool gives the origin's links an IPv4 address. Linux drops what comes by an "
        "interface without one when it checks sources (rp_filter), as most distributions have it.",
        '`addresses = ["203.0.113.64/28"]`, and `pool = ["fd10:10::/64"]` alone.',
        "Add an IPv4 prefix to `pool`.",
    ),
    "G0237": Code(
        "protect-too-many",
        "error",
        "An edge answers ARP and NDP address by address, for 1024 of them at most; an origin tells 255 edges apart by the marks "
        "of connections.",
        '`uplink = "eth0"` with `addresses = ["2001:db8:64::/64"]`.',
        "Let the provider route a prefix of this size to the edge, and take uplink out.",
    ),
}
