"""
What all formats share: places, findings, and the handling of secrets.

Every line that is not taken in is named by a finding of chapter 08, with its place. A line is quoted only where it can hold no
secret: not one whose key sounds like one, nor one with a word as long as a key.

A private key becomes its public key at once, and a preshared key a number: two ends with the same one get the same number, by
the order in which keys were met. A number tells nothing of the key, where a short hash would let somebody with a word list try
the passphrases that IPsec's secrets are. The digests that numbers are found by live as long as the reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from ginnel.config import wgquick
from ginnel.config.wgquick import NAME_MAX_CHARACTERS
from ginnel.crypto import Secret, hash, public_key  # noqa: A004 - the paper's name
from ginnel.errors import Span
from ginnel.network.findings import Finding
from ginnel.network.host import Place
from ginnel.network.model import HostPort
from ginnel.units import Prefix, PublicKey

#: Of one file; a file of another kind altogether need not be told line by line.
FINDINGS_MAX = 200
_EXCERPT_MAX = 200
#: Of one line, where a format's lines are looked at more than once; a list of 4,000 prefixes is shorter.
LINE_MAX = 1 << 16
#: What is not understood may be anything, a pasted password too.
_NEVER_QUOTED = frozenset({"G0802", "G0805"})

_SECRET_WORD = re.compile(r"key|psk|secret|passw|passphrase|passwd|token|credential|bearer|authorization", re.IGNORECASE)
_KEY_LIKE = re.compile(r"[A-Za-z0-9+/]{32,}|[A-Fa-f0-9]{32,}")
#: What in a shell line is taken for a secret: a key as `wg` has it, a long word that is no path, `password=…`, user:word@host.
_SHELL_SECRETS = (
    re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}="),
    re.compile(
        r"(?<![A-Za-z0-9+_/.:-])(?=[A-Za-z0-9+_=-]*[0-9])(?=[A-Za-z0-9+_=-]*[A-Za-z])[A-Za-z0-9+_=-]{24,}(?![A-Za-z0-9+_/.:-])"
    ),
    re.compile(
        r"(?:passw(?:or)?d|passphrase|sshpass|\bpass\s*[=:]|token|secret|api[-_]?key|credential|authorization|bearer)",
        re.IGNORECASE,
    ),
    re.compile(r"://[^/\s:@]+:[^/\s@]+@"),
    re.compile(r"(?:^|\s)(?:-u|--user)[ =]?\S+:\S+"),
    re.compile(r"(?:psk|preshared(?:-key)?|private-key)(?:\s+|=)(?!/|<\(|\"?\$|'?/|%)\S+", re.IGNORECASE),
)


def hides_a_secret(line: str) -> bool:
    """Whether a shell line may hold a secret, so that it must not travel into a file for git."""
    return any(pattern.search(line) for pattern in _SHELL_SECRETS)


def excerpt(raw: str) -> str:
    """A line to be shown, or nothing where it may hold a secret; one character of it is one column."""
    if len(raw) > LINE_MAX or _SECRET_WORD.search(raw) or _KEY_LIKE.search(raw) or hides_a_secret(raw):
        return ""
    return "".join(c if c.isprintable() else " " for c in raw[:_EXCERPT_MAX]).rstrip()


def shown(text: str) -> str:
    """A word for a message: quoted, without control characters, short, and never one that may be a key."""
    if len(text) > LINE_MAX or _KEY_LIKE.search(text) or hides_a_secret(text):
        return "a word that may be a secret"
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return f"'{plain[:60]}'" if plain else "nothing"


def clean_name(text: str) -> str:
    """A name from a comment: on one line, no control characters, not without end, and no key."""
    name = "".join(c for c in text if c.isprintable())[:NAME_MAX_CHARACTERS].strip()
    return "" if _KEY_LIKE.search(name) else name


@dataclass(slots=True)
class Fingerprints:
    """Numbers for preshared keys. Shared by readings whose hosts are to be compared; drop it when they have been."""

    _known: dict[bytes, str] = field(default_factory=dict, repr=False)

    def of(self, key: Secret) -> str:
        """The number of a WireGuard preshared key; none for the key of zeros, which is "no key"."""
        return "" if key.is_zero() else self._number(hash(b"ginnel import wireguard psk", key))

    def of_passphrase(self, content: bytes) -> str:
        """The number of an IPsec secret."""
        return self._number(hash(b"ginnel import ipsec psk", content))

    def _number(self, digest: bytes) -> str:
        return self._known.setdefault(digest, f"psk-{len(self._known) + 1}")


@dataclass(slots=True)
class Notes:
    """What is found while one file is read."""

    source: str
    fingerprints: Fingerprints
    findings: list[Finding] = field(default_factory=list)
    #: No line of the file is quoted.
    quiet: bool = False

    def place(self, line: int, raw: str = "", part: str = "") -> Place:
        """A place in this file: line *line* (0: the whole), at *part* of its text *raw*."""
        if not line:
            return Place(self.source)
        column = raw.find(part) + 1 if part else len(raw) - len(raw.lstrip()) + 1
        return Place(self.source, Span(line, max(column, 1), len(part or raw.strip())), excerpt(raw))

    def add(self, code: str, message: str, place: Place | None = None, mend: str = "", cause: str = "") -> None:
        """One finding; of too many of a file the rest is left out, and that is said."""
        if len(self.findings) == FINDINGS_MAX:
            self.findings.append(Finding("G0801", f"{self.source}: more than {FINDINGS_MAX} findings; the rest is not told"))
        place = place or Place(self.source)
        if code in _NEVER_QUOTED or self.quiet:
            place = replace(place, excerpt="")
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(code, message, (place,), cause, mend))

    def own_key(self, text: str) -> PublicKey | None:
        """The public key of a private key in base64; None where it is none. The text goes no further."""
        try:
            return public_key(Secret.from_base64(text))
        except ValueError:
            return None

    def psk(self, text: str) -> str | None:
        """The number of a preshared key in base64; None where it is none."""
        try:
            return self.fingerprints.of(Secret.from_base64(text))
        except ValueError:
            return None


def interface_address(text: str) -> tuple[bytes, int]:
    """An address of an interface, host bits kept: `10.0.0.1/24`, without a length the address alone; ValueError otherwise."""
    address, _, _ = text.partition("/")
    prefix = Prefix.parse(text)
    return Prefix.parse(address).packed, prefix.length


def host_port(text: str) -> HostPort:
    """An endpoint as `wg` writes it, `host:port` or `[address]:port`, spelled as in a network file; ValueError otherwise."""
    found = wgquick.parse_endpoint(text)
    if not found.port.isdigit():
        raise ValueError(f"expected a port's number, found the service {shown(found.port)}")
    host = found.host.lower()
    if found.is_numeric and "%" not in host:
        host = Prefix.parse(host).address
    return HostPort(host, int(found.port))


def number(text: str, low: int, high: int) -> int:
    """A decimal number in range, or hexadecimal after 0x; ValueError otherwise."""
    if len(text) <= 12 and re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]+", text):
        found = int(text, 16) if text[:2] in {"0x", "0X"} else int(text)
        if low <= found <= high:
            return found
    raise ValueError(f"expected a number from {low} to {high}, found {shown(text)}")
