"""Chapter 05: MTU. What fits through which layer."""

from __future__ import annotations

from ginnel.network.codes.code import Code

CODES: dict[str, Code] = {
    "G0501": Code(
        "mtu-too-large",
        "error",
        "The MTU that the network file says does not fit the way: full packets are too large once they are wrapped.",
        "`mtu = 1450` over an underlay of 1492.",
        "Leave it out: then it is computed.",
    ),
    "G0502": Code(
        "mtu-below-ipv6",
        "error",
        "IPv6 needs 1280 bytes, and less than that fits: Linux takes the IPv6 addresses off the device.",
        "GRE over IPsec over PPPoE over another tunnel.",
        "Take the IPv6 pool out, or find a better path.",
    ),
    "G0503": Code(
        "mtu-over-path",
        "warning",
        "A full packet of this interface, wrapped, is larger than what the path carries: it is fragmented, or vanishes where "
        "fragments "
        "are not let through. Small packets pass, so ping and handshakes work, and HTTPS hangs.",
        "`MTU = 1500` in wg0.conf, or 1420 where the uplink is PPPoE (1492).",
        "Leave `MTU` out, or write what `ginnel mtu` finds.",
    ),
    "G0504": Code(
        "mtu-differs",
        "note",
        "The ends of a link have different MTUs: the larger packets are cut down by path MTU discovery, or, where ICMP is "
        "blocked, lost.",
        "1420 at one end, 1280 at the other.",
        "The smaller one at both, unless the hub has many spokes.",
    ),
    "G0505": Code(
        "mtu-in-tunnel",
        "warning",
        "A tunnel through another tunnel has an MTU that does not fit into it.",
        "wg1 with MTU 1420 to an endpoint behind wg0, whose MTU is 1420 as well.",
        "The outer tunnel's MTU less 80 (60 over IPv4).",
    ),
}
