"""
Which keys a network needs: the private key of each node with a WireGuard interface, the preshared keys and secrets of its links.

Each is a value that says whose it is and in which file of the directory of keys it lies; `is_there` and `make` know how.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ginnel.cli.keyring import Keyring, pair
from ginnel.cli.network import Opened
from ginnel.crypto import public_key
from ginnel.network import Lock
from ginnel.units import PublicKey


@dataclass(frozen=True, slots=True)
class Private:
    """The private key of a node's WireGuard interface."""

    who: str

    what = "private key"

    @property
    def file(self) -> str:
        """Its name in the directory."""
        return f"{self.who}.key"


@dataclass(frozen=True, slots=True)
class Shared:
    """The preshared key of a WireGuard link, or the secret of an IPsec link."""

    left: str
    right: str
    ipsec: bool

    @property
    def who(self) -> str:
        """Whose it is."""
        return f"{self.left} — {self.right}"

    @property
    def what(self) -> str:
        """What it is called."""
        return "IPsec secret" if self.ipsec else "preshared key"

    @property
    def file(self) -> str:
        """Its name in the directory."""
        return f"{pair(self.left, self.right)}{'.ipsec' if self.ipsec else ''}.psk"


@dataclass(frozen=True, slots=True)
class Root:
    """Of what the network's preshared keys are derived."""

    who: str

    what = "secret of all preshared keys"
    file = "network.secret"


Wanted = Private | Shared | Root


def wanted(opened: Opened, nodes: Sequence[str]) -> Iterator[Wanted]:
    """What *nodes* need, in file order, each pair once."""
    compilation, chosen = opened.compiled(), set(nodes)
    derived = opened.network.psk == "derived"
    rooted, seen = False, set[tuple[frozenset[str], bool]]()
    for node in opened.network.nodes:
        if node.name not in chosen:
            continue
        description = compilation.node(node.name)
        if description.wireguard and node.runs != "other":
            yield Private(node.name)
        shared = [(peer.name, False) for peer in description.peers if peer.psk and not peer.coming]
        shared += [(one.peer, True) for one in description.tunnels if one.config.ipsec and one.config.ipsec.psk_file]
        for peer, ipsec in shared:
            if (ends := (frozenset((node.name, peer)), ipsec)) in seen:
                continue
            seen.add(ends)
            if derived and not ipsec:
                if not rooted:
                    yield Root(opened.network.name)
                rooted = True
            else:
                yield Shared(node.name, peer, ipsec)


def is_there(want: Wanted, ring: Keyring, lock: Lock) -> bool:
    """Whether it exists: a private key that was born on its node does where its public key is pinned."""
    match want:
        case Private(node):
            return lock.nodes[node].public_key is not None
        case Shared(left, right, True):
            return ring.ipsec(left, right) is not None
        case Shared(left, right, _):
            return ring.psk(left, right) is not None
        case Root():
            return ring.root() is not None


def make(want: Wanted, ring: Keyring, lock: Lock) -> Lock:
    """Make it and keep it; the lock with what it has to know of it."""
    match want:
        case Private(node):
            # One whose public half was never pinned: it was made, and then the lock file could not be written.
            private = ring.private_key(node) or ring.new_private_key(node)
            return with_key(lock, node, public_key(private))
        case Shared(left, right, True):
            ring.new_ipsec(left, right)
        case Shared(left, right, _):
            ring.new_psk(left, right)
            pin = replace(lock.pair(left, right), since=today())
            return replace(lock, pairs={**lock.pairs, frozenset((left, right)): pin})
        case Root():
            ring.new_root()
    return lock


def with_key(lock: Lock, node: str, key: PublicKey) -> Lock:
    """With the public key of a node pinned, as of today."""
    pin = replace(lock.nodes[node], public_key=key, key_since=today())
    return replace(lock, nodes={**lock.nodes, node: pin})


def today() -> str:
    """The day as the lock file has it."""
    return dt.datetime.now(dt.UTC).date().isoformat()
