"""
What a tunnel of a node file adds to a packet: its stacks of layers, as `ginnel.mtu` sums them.

An unprotected tunnel has one stack. A protected one has as many as it offers suites: which is agreed on is known when the peer
has answered. Without `encapsulation = "raw"` it is counted as if a NAT made it travel in UDP. What is taken for its MTU is what
fits all of them; when the suite is known and would allow more, the MTU stays (a device whose MTU grows and shrinks with each
negotiation would break connections).
"""

from __future__ import annotations

from ginnel import mtu
from ginnel.config.node import PlainConfig

#: What is offered where a file names nothing; the proposals themselves are `ginnel.ikev2.proposals.default_esp`.
DEFAULT_SUITES = ("aes256gcm16", "aes128gcm16", "chacha20poly1305", "aes256-sha256", "aes128-sha256")


def plain_stack(tunnel: PlainConfig) -> mtu.Stack | None:
    """The tunnel without its protection; None for `kind = "ipsec"`, which is nothing without it."""
    if tunnel.kind == "ipsec":
        return None
    return mtu.plain(
        tunnel.kind,
        tunnel.family,
        key=tunnel.okey is not None,
        csum=tunnel.ocsum,
        seq=tunnel.oseq,
        udp=tunnel.encapsulation is not None,
        encaplimit=tunnel.encaplimit is not None,
    )


def stacks(tunnel: PlainConfig) -> tuple[mtu.Stack, ...]:
    """
    Every way in which its packets may travel.

    Raises:
        StackError: there is no such tunnel, or a proposal of it is not known.
    """
    inside = plain_stack(tunnel)
    if tunnel.ipsec is None:
        assert inside is not None, "an IPsec tunnel has its protection"
        return (inside,)
    ipsec = tunnel.ipsec
    suites = {one for text in ipsec.esp_proposals or DEFAULT_SUITES for one in mtu.suites(text)}
    in_udp = ipsec.encapsulation != "raw"
    return tuple(
        mtu.protected(inside, tunnel.family, one, tunnel=ipsec.mode == "tunnel", udp=in_udp)
        for one in sorted(suites, key=lambda suite: suite.text)
    )


def overhead(tunnel: PlainConfig) -> int:
    """The most bytes that all layers add to an inner packet; exact for an unprotected tunnel."""
    return mtu.most(stacks(tunnel))
