"""
What is imported: named texts, whoever read them; and what one of them says of a host.

A `Source` is a file's path as it was given, and its bytes. The path is a name for messages, and by `naming` it tells whose
file it is; nothing here opens anything. Bytes become text by the byte order mark that Windows' editors leave, else as
UTF-8; a byte that is none becomes U+FFFD and is refused where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ginnel.network.host import Place, Tunnel, WireguardInterface
from ginnel.network.model import Mapped
from ginnel.units import Prefix

#: One file; `wg show all dump` of a hub with 100,000 peers is 20 MB.
SOURCE_MAX_BYTES = 32 * 1024 * 1024
#: All files together.
SOURCES_MAX = 20_000
TOTAL_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """
    One text to import.

    path: as it was given, for messages, and to tell the host by. host: whose it is, where that was said outright. mode: of the
    file, where it is one.
    """

    path: str
    content: bytes = field(repr=False)
    host: str = ""
    mode: int | None = None


def text_of(content: bytes) -> str:
    """The text of a file: UTF-8 (or UTF-16 by its mark), any line ends as `\\n`, without a byte order mark."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(slots=True)
class Part:
    """
    What one file says of its host, while the files of the host are put together.

    name: what the file itself calls the host. forwards, masquerades, mapped: see `Host`. links: devices that the file says
    something of and that another file makes (name: what is said). ours: ginnel rendered it, so that what is not in it is not so.
    """

    interfaces: list[WireguardInterface] = field(default_factory=list)
    tunnels: list[Tunnel] = field(default_factory=list)
    links: list[LinkFacts] = field(default_factory=list)
    name: str = ""
    forwards: bool | None = None
    masquerades: tuple[Prefix, ...] = ()
    mapped: tuple[Mapped, ...] = ()
    #: Fingerprints of IPsec's secrets, by the identities that they belong to.
    secrets: dict[frozenset[str], str] = field(default_factory=dict, repr=False)
    ours: bool = False
    secret: bool = False
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What `ip` or a .network file says of a device: its addresses with their lengths, its MTU, the routes through it."""

    name: str
    addresses: tuple[tuple[bytes, int], ...] = ()
    mtu: int | None = None
    routes: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    table: str = "auto"
    place: Place | None = None

    def __or__(self, other: LinkFacts) -> LinkFacts:
        """What two files say of one device; the first goes before where both say something."""
        return LinkFacts(
            self.name,
            self.addresses or other.addresses,
            other.mtu if self.mtu is None else self.mtu,
            self.routes or other.routes,
            self.dns or other.dns,
            self.search or other.search,
            other.table if self.table == "auto" else self.table,
            self.place or other.place,
        )
