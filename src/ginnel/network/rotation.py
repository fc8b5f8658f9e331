"""
Keys that are replaced while the network runs: what is done in which order, who needs a new file, and what becomes of sessions.

A private key. A node's interface has one, and taking another ends all of its sessions at once (the kernel does that, and so do
we). So it is done in two steps, and only the second interrupts anything:

    1  its peers learn the key to come, as a peer without prefixes: nothing uses it, no session ends, in any order, at any time
    2  the node takes the key, its peers give its prefixes to it: from then on until both ends of a link have done their part that
       link carries nothing; then it is back with one handshake

A preshared key is looked at in handshakes alone. Sessions go on under the old one for up to 180 s (REJECT_AFTER_TIME), and the
next
handshake is 120 s after the last (REKEY_AFTER_TIME): both ends have their files within the 60 s between, and nothing is lost.

An IPsec secret is looked at when an IKE SA is authenticated, and rekeying does not authenticate again: SAs go on. Both ends
have the
new one before either is restarted.

Source: WireGuard paper 6.1, 6.2; Linux drivers/net/wireguard/netlink.c (wg_set_device, set_peer); RFC 7296 2.8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ginnel.errors import UsageError
from ginnel.network.addressing import Lock, Pinned, PinnedPair
from ginnel.network.compile import Compilation
from ginnel.units import PublicKey

#: Between the earliest next handshake of a session and its end, s.
PSK_WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class Step:
    """
    One step of a rotation.

    files: the nodes that need new files, in the order in which they had best get them. survive: whether sessions live through it;
    sessions: in words which do not, and for how long.
    """

    what: str
    files: tuple[str, ...]
    order: str
    survive: bool
    sessions: str


def key_steps(compilation: Compilation, node: str) -> tuple[Step, Step]:
    """How the private key of *node* is replaced. UsageError: it has no WireGuard link."""
    peers = tuple(dict.fromkeys(peer.name for peer in compilation.node(node).peers))
    if not peers:
        raise UsageError(f"{node} has no WireGuard link, so there is no key of its interface to rotate")
    return (
        Step(
            f"{', '.join(peers)}: a second peer, {node}'s key to come, without prefixes",
            peers,
            "in any order, at any time",
            True,
            "all sessions survive",
        ),
        Step(
            f"{node} takes the new key; {', '.join(peers)} give its prefixes to it",
            (node, *peers),
            f"{node} first, the others at once after it",
            False,
            f"the sessions of {node} end; each is back with one handshake when both of its ends have their files",
        ),
    )


def psk_step(left: str, right: str) -> Step:
    """How the preshared key between two nodes is replaced."""
    return Step(
        f"{left} and {right}: the new preshared key",
        (left, right),
        f"within {PSK_WINDOW_S} s of one another",
        True,
        "the session survives: it does not look at the key, and the next handshake finds the new one at both ends",
    )


def ipsec_step(left: str, right: str) -> Step:
    """How the secret of an IPsec link is replaced."""
    return Step(
        f"{left} and {right}: the new secret",
        (left, right),
        "both before either is restarted",
        True,
        "the SAs survive: rekeying does not authenticate again",
    )


def prepared(lock: Lock, node: str, key: PublicKey) -> Lock:
    """After step 1: *key* is the one to come."""
    return _with(lock, node, replace(lock.nodes[node], next_key=key))


def switched(lock: Lock, node: str, today: str) -> Lock:
    """After step 2: the key to come is the node's key. UsageError: none was to come."""
    following = lock.nodes[node].next_key
    if following is None:
        raise UsageError(f"{node} has no key to come")
    return _with(lock, node, replace(lock.nodes[node], public_key=following, next_key=None, key_since=today))


def cancelled(lock: Lock, node: str) -> Lock:
    """As if step 1 had not been."""
    return _with(lock, node, replace(lock.nodes[node], next_key=None))


def renewed(lock: Lock, left: str, right: str, today: str) -> Lock:
    """With the next generation of the preshared key between two nodes."""
    pin = lock.pair(left, right)
    pairs = {**lock.pairs, frozenset((left, right)): PinnedPair(pin.identity, pin.generation + 1, today)}
    return replace(lock, pairs=pairs)


def _with(lock: Lock, node: str, pin: Pinned) -> Lock:
    return replace(lock, nodes={**lock.nodes, node: pin})
