"""
A node as a QR code that the WireGuard apps of phones scan: its file with its keys, for there is no other place to take them from.

The apps know nothing but WireGuard, and refuse a file with a key that they do not know; so hooks, tables and marks are none of
it, and a node that needs them is refused. What does not fit into the largest code (2,953 bytes) is refused as well.

    files(...)   the code for a terminal: two rows of modules a line, drawn light on dark
    text(...)    what the code says

Source: ISO/IEC 18004; the apps' parsers, wireguard-android's Interface.java and Peer.java.
"""

from __future__ import annotations

from collections.abc import Iterator

import segno

from ginnel.errors import UsageError
from ginnel.network.compile import NodeDescription
from ginnel.network.hostrules import host_rules
from ginnel.network.render import NONE, File, Secrets, setconf, sound, wireguard_only

#: Bytes in the largest code at the lowest level of correction.
MAX_BYTES = 2953
#: The margin, in modules, that a reader needs around a code.
QUIET = 4
#: The upper and the lower half of a place, each light or dark.
_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def files(description: NodeDescription, secrets: Secrets = NONE) -> tuple[File, ...]:
    """One file of text: the code, light where it is light."""
    rows = [[not dark for dark in row] for row in code(description, secrets).matrix_iter(border=QUIET)]
    if len(rows) % 2:
        rows.append([True] * len(rows[0]))
    lines = ["".join(_HALVES[pair] for pair in zip(*rows[at : at + 2], strict=True)) for at in range(0, len(rows), 2)]
    return (File(f"{description.interface}.txt", ("\n".join(lines) + "\n").encode(), "", secret=True),)


def code(description: NodeDescription, secrets: Secrets) -> segno.QRCode:
    """The code of a node; UsageError where there is none."""
    content = text(description, secrets).encode()
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"{description.name}: its file has {len(content)} bytes, and the largest QR code takes {MAX_BYTES}\n"
            "  hint: --as wg-quick, and send the file; or give the node fewer links, to a hub"
        )
    return segno.make_qr(content, mode="byte", error="l", encoding="utf-8")


def text(description: NodeDescription, secrets: Secrets) -> str:
    """What the app reads: the file of `wg-quick`, less all that is not the app's."""
    sound.check(description, secrets)
    wireguard_only(description, "a phone")
    needed = list(_not_for_phones(description))
    if needed:
        raise UsageError(f"{description.name} needs {' and '.join(needed)}, which no app on a phone does\n  hint: --as wg-quick")
    if not secrets.private_key:
        raise UsageError(
            f"a QR code holds the private key of {description.name}, and it is not at hand\n"
            f"  hint: `ginnel keys new {description.name}` makes one; then --keys DIR"
        )
    without = [peer.name for peer in description.peers if peer.psk and peer.name not in secrets.psk]
    if without:
        raise UsageError(f"the preshared key of {description.name} and {without[0]} is not at hand\n  hint: `ginnel keys new`")
    return "\n".join([*_interface(description, secrets), *_peers(description, secrets)]) + "\n"


def _not_for_phones(description: NodeDescription) -> Iterator[str]:
    node, rules = description.node, host_rules(description)
    if description.forwards:
        yield "forwarding"
    if rules.chains or rules.rules or description.beside:
        yield "rules of its host"
    if node.hooks:
        yield "hooks"
    if node.table != "auto" or node.fwmark:
        yield "a routing table or mark of its own"


def _interface(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    yield "[Interface]"
    yield f"PrivateKey = {secrets.private_key}"
    yield f"Address = {', '.join(map(str, description.address))}"
    if description.listen_port:
        yield f"ListenPort = {description.listen_port}"
    if description.dns:
        yield f"DNS = {', '.join((*description.dns, *description.search))}"
    yield f"MTU = {description.mtu}"


def _peers(description: NodeDescription, secrets: Secrets) -> Iterator[str]:
    """Without names: a code is easier to scan the less is in it."""
    for peer in description.peers:
        yield from ("[Peer]", *setconf.peer_lines(peer, secrets.psk.get(peer.name, "")))
