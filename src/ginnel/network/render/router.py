"""
What a node asks of a router, whoever made it: the facts of a description that the renderers of routers share, and what none of
them can do.

    numbers     a router's tunnels are numbered, not named after the other end: the number comes from the link's own subnet, which
                the lock file pins, so that a new node renumbers nobody's
    algorithms  of the proposals that the other end offers, the first that the router has all words for
    secrets     where none is given, the line that needs one is a comment with a placeholder: what is pasted unread does not
                come up with a secret that everybody can read here
    refused     what has no words there: hooks, exits, mapped LANs, protected origins; an end whose address is not known
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ginnel.config.node import IpsecConfig
from ginnel.errors import UsageError
from ginnel.ikev2 import algorithms, proposals
from ginnel.network.compile import NodeDescription, TunnelDescription
from ginnel.network.host import InterfaceAddress
from ginnel.network.render import Secrets, sound, title
from ginnel.units import Prefix
from ginnel.wire.ikev2 import TransformType

#: Numbers of tunnels are what a subnet's address has in these bits, above those of its two ends.
_NUMBER_BITS = 14


@dataclass(frozen=True, slots=True)
class Algorithms:
    """A proposal in a router's words; integrity and group may be empty, the others have one word at least."""

    encryption: tuple[str, ...]
    integrity: tuple[str, ...]
    prf: tuple[str, ...]
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """A prefix that is reached through a tunnel, and the other end's address of its family."""

    prefix: Prefix
    gateway: str


def heading(description: NodeDescription, mark: str, *lines: str) -> list[str]:
    """The first lines of each file, behind the target's *mark* of a comment."""
    return [title(description, mark), *(f"{mark} {line}" for line in lines)]


def refuse_what_none_can(description: NodeDescription, secrets: Secrets, maker: str) -> None:
    """
    UsageError with everything that no router has words for, or that cannot stand in a file.

    Args:
        maker: how the format is called, for the message.
    """
    sound.check(description, secrets)
    node = description.node
    found = []
    if node.hooks:
        found.append("hooks are commands of a Linux host")
    if node.exit is not None:
        found.append("an exit needs a route to the provider that the network file does not know")
    if node.table != "auto":
        found.append("a routing table of its own is a Linux host's")
    if description.protects or description.beside:
        found.append("protected origins need policy routes that it has no words for here")
    for tunnel in description.tunnels:
        found += _ends(tunnel)
        if tunnel.config.encapsulation is not None:
            found.append(f"GRE in UDP, to {tunnel.peer}, is not known there")
    if found:
        raise UsageError(f"{maker}: {node.name} cannot be rendered: " + "; ".join(found))


def _ends(tunnel: TunnelDescription) -> list[str]:
    wanting = []
    for whose, address in (("this end", tunnel.config.local), (tunnel.peer, tunnel.config.remote)):
        if not is_numeric(address):
            wanting.append(f"the tunnel to {tunnel.peer} needs a numeric endpoint of {whose}")
    return wanting


def is_numeric(address: str) -> bool:
    """Whether it is an address, and no name or "any"."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def numbers(description: NodeDescription) -> dict[str, int]:
    """The number of each tunnel, by its peer; two that would have the same are told apart by the order of the file."""
    found: dict[str, int] = {}
    for tunnel in description.tunnels:
        number = _number(tunnel.address)
        while number in found.values():
            number += 1
        found[tunnel.peer] = number
    return found


def _number(address: Sequence[InterfaceAddress]) -> int:
    first = address[0]
    return int.from_bytes(first.packed, "big") >> (len(first.packed) * 8 - first.length) & ((1 << _NUMBER_BITS) - 1)


def routes(tunnel: TunnelDescription) -> list[Route]:
    """Through a tunnel, in the order of the description."""
    gateways = {4 if len(each.packed) == 4 else 6: each.host.address for each in tunnel.peer_address}
    found = []
    for text in tunnel.config.routes:
        prefix = Prefix.parse(text.split()[0])
        if prefix.version not in gateways:
            raise UsageError(f"{tunnel.peer}: {prefix} is routed through a link without addresses of its family")
        found.append(Route(prefix, gateways[prefix.version]))
    return found


def algorithms_of(
    ipsec: IpsecConfig, protocol: Literal["ike", "esp"], known: Mapping[str, str], maker: str, peer: str
) -> Algorithms:
    """
    The first proposal that the router has, in its words.

    Args:
        known: strongSwan's word -> the router's.
        maker: how the format is called.
        peer: whose link it is, for the message.

    Raises:
        UsageError: it has none of them.
    """
    offered = ipsec.ike_proposals if protocol == "ike" else ipsec.esp_proposals
    wanting: list[str] = []
    for text in offered:
        by_kind: dict[TransformType, list[str]] = {kind: [] for kind in TransformType}
        missing = []
        transforms = proposals.parse_words(text, protocol).transforms
        words = [algorithms.word(transform) for transform in transforms]
        without = {"noesn", "no integrity", "none", "esn" if "noesn" in words else ""}
        for transform, word in zip(transforms, words, strict=True):
            if word in without:
                continue
            if word not in known:
                missing.append(word)
            else:
                by_kind[TransformType(transform.kind)].append(known[word])
        if not missing:
            encryption, prf, integrity, group, _ = (tuple(by_kind[kind]) for kind in TransformType)
            return Algorithms(encryption, integrity, prf, group)
        wanting += [word for word in missing if word not in wanting]
    usual = "aes256-sha256-ecp256" if protocol == "ike" else "aes256gcm16-ecp256"
    raise UsageError(
        f"{maker} has no {', '.join(wanting)}, which {protocol} of the link with {peer} asks for\n"
        f'  hint: leave {protocol} out, or write {protocol} = ["{usual}"]'
    )


def hexadecimal(secret: str) -> str | None:
    """The digits of an IPsec secret that is written 0x… or 0s… (base64), None for one that is text as it stands."""
    if secret.startswith("0x"):
        return secret[2:].lower()
    if secret.startswith("0s"):
        try:
            return base64.b64decode(secret[2:], validate=True).hex()
        except binascii.Error:
            raise UsageError("a secret begins with 0s and is no base64") from None
    return None


def plain_text(secret: str, maker: str, refused: str) -> str:
    """
    A secret that is text, checked: UsageError, which never quotes it, for what would end its line or its quotes.

    Args:
        refused: characters that have another meaning there.
    """
    if not (secret.isascii() and secret.isprintable()) or any(character in refused for character in secret):
        raise UsageError(f"{maker}: the secret has characters that cannot be written there\n  hint: write it as 0x… instead")
    return secret


def quoted(secret: str) -> str:
    """In double quotes, as they are read where a backslash protects the next character."""
    return '"' + secret.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("?", "\\?") + '"'


def no_secret(description: NodeDescription, peer: str) -> str:
    """What stands for the secret of a link until it is known."""
    return f"PUT-THE-SECRET-OF-{description.name}-AND-{peer}-HERE"
