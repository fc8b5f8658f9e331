"""
What lies beside a host's tunnels: sysctl.d files that switch forwarding on, nft tables and services that ginnel rendered.

Of sysctl only what concerns forwarding means anything here, and nothing else of it is anybody's loss: such a file configures no
tunnel. A firewall that ginnel did not render is not read.
"""

from __future__ import annotations

import re

from ginnel.network.importing.ours import is_ours, of_nft
from ginnel.network.importing.reading import Notes
from ginnel.network.importing.source import Part

_SYSCTL = re.compile(r"^\s*-?net[./]ipv(?:4[./]ip_forward|6[./]conf[./]all[./]forwarding)\s*=\s*([01])\s*$", re.MULTILINE)


def detect(text: str) -> bool:
    """Whether a text is one of these."""
    return _SYSCTL.search(text) is not None or (
        is_ours(text) and re.search(r"^(?:table inet |\[Unit\]|net\.\S+ = )", text, re.MULTILINE) is not None
    )


def read(text: str, interface: str, notes: Notes) -> Part:  # noqa: ARG001 - they are about the host
    """Read one of them."""
    part = Part(ours=is_ours(text), place=notes.place(0))
    values = _SYSCTL.findall(text)
    if values:
        part.forwards = "1" in values
    elif part.ours:
        meant = of_nft(text)
        part.masquerades, part.mapped = meant.masquerades, meant.mapped
    return part
