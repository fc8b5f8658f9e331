"""
Whose key is whose, where a host's own file does not say it: private keys that lie in files of their own, and are not read.

An interface's public key is the one key by which others know its addresses, or which they call by its host's name; or else
the one key that all its peers have as a peer and that is nobody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ginnel.network.host import Host, WireguardInterface
from ginnel.units import Prefix, PublicKey


@dataclass(slots=True)
class _Owner:
    host: Host
    interface: WireguardInterface
    key: PublicKey | None


def with_own_keys(hosts: Sequence[Host]) -> tuple[Host, ...]:
    """The hosts, with the public keys of their interfaces as far as the others tell them."""
    owners = [_Owner(host, interface, interface.public_key) for host in hosts for interface in host.interfaces]
    if all(owner.key is not None for owner in owners):
        return tuple(hosts)
    owned = {owner.key for owner in owners if owner.key is not None}
    _by_what_others_say(owners, owned)
    _by_peers(owners, owned)
    found = iter(owners)
    return tuple(
        replace(host, interfaces=tuple(replace(each, public_key=next(found).key) for each in host.interfaces)) for host in hosts
    )


def _by_what_others_say(owners: list[_Owner], owned: set[PublicKey]) -> None:
    by_address: dict[Prefix, set[PublicKey]] = {}
    by_name: dict[str, set[PublicKey]] = {}
    for owner in owners:
        for peer in owner.interface.peers:
            if peer.public_key is not None and peer.public_key not in owned:
                for prefix in peer.allowed_ips:
                    by_address.setdefault(prefix, set()).add(peer.public_key)
                by_name.setdefault(peer.name, set()).add(peer.public_key)
    for owner in owners:
        if owner.key is not None:
            continue
        own_peers = {peer.public_key for peer in owner.interface.peers}
        called = by_name.get(owner.host.name, set()) if owner.host.name and len(owner.host.interfaces) == 1 else set()
        for keys in ({key for address in owner.interface.address for key in by_address.get(address.host, ())}, called):
            if len(found := keys - own_peers - owned) == 1:
                (owner.key,) = found
                owned.add(owner.key)
                break


def _by_peers(owners: list[_Owner], owned: set[PublicKey]) -> None:
    by_key = {owner.key: owner for owner in owners if owner.key is not None}
    wanted: dict[PublicKey, list[_Owner]] = {}
    for owner in owners:
        if owner.key is None:
            theirs = [
                {peer.public_key for peer in other.interface.peers if peer.public_key not in owned}
                for mine in owner.interface.peers
                if mine.public_key is not None and (other := by_key.get(mine.public_key)) is not None
            ]
            common = set.intersection(*theirs) if theirs else set()
            if len(common) == 1 and (key := common.pop()) is not None:
                wanted.setdefault(key, []).append(owner)
    for key, found in wanted.items():
        if len(found) == 1:
            found[0].key = key
