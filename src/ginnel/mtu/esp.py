"""
ESP suites in strongSwan's words, as layers.

    ESP header 8 (SPI, sequence number) | IV | ( payload, padding, pad length 1, next header 1 ) | ICV

What is in brackets is a multiple of the cipher's block, and of 4 in any case (RFC 4303, 2.4). So the largest payload is
floor(room - 8 - IV - ICV) - 2, where floor goes down to the block. AEAD and counter modes have block 4; CBC has its cipher's.

A suite is a proposal such as `aes256gcm16`, `aes128-sha256`, `aes128-sha256-modp2048`: encryption, integrity, and words that
cost nothing on the wire (key exchange, esn). Modes: *tunnel* carries whole packets behind an IP header of its own; *transport*
carries what lay behind the delivery header of the tunnel inside.

Source: RFC 4303, 3602, 4106, 4309, 3686, 7634, 8750, 2404, 4868, 3566, 4494, 4543; strongSwan's list of cipher suites.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ginnel.mtu.layers import Layer, StackError

Mode = Literal["transport", "tunnel"]

#: strongSwan writes the ICV of AEAD in bytes or in bits.
_ICV = {"8": 8, "64": 8, "12": 12, "96": 12, "16": 16, "128": 16}

#: Block and IV of what needs an integrity algorithm beside it.
_CIPHERS: dict[str, tuple[int, int]] = {
    **{f"{name}{bits}": (16, 16) for name in ("aes", "camellia") for bits in ("", 128, 192, 256)},
    **{f"{name}{bits}ctr": (4, 8) for name in ("aes", "camellia") for bits in (128, 192, 256)},
    "3des": (8, 8),
    "cast128": (8, 8),
    **{f"blowfish{bits}": (8, 8) for bits in ("", 128, 192, 256)},
    "null": (4, 0),
}

#: Bytes of ICV.
_INTEGRITY: dict[str, int] = {
    "md5": 12,
    "md5_128": 16,
    "sha": 12,
    "sha1": 12,
    "sha1_160": 20,
    "sha256": 16,
    "sha2_256": 16,
    "sha256_96": 12,
    "sha2_256_96": 12,
    "sha384": 24,
    "sha2_384": 24,
    "sha512": 32,
    "sha2_512": 32,
    "aesxcbc": 12,
    "camelliaxcbc": 12,
    "aescmac": 12,
}

_AEAD = re.compile(r"(?P<cipher>(?:aes|camellia)(?:128|192|256))(?P<mode>gcm|ccm)(?P<icv>\d*)(?P<implicit>iiv)?")
_GMAC = re.compile(r"aes(?:128|192|256)gmac")
#: Of a proposal, but nothing on the wire.
_FREE = re.compile(
    r"(?:none|modpnone|modp\d+(?:s\d+)?|ecp\d+(?:bp)?|curve25519|x25519|curve448|x448|esn|noesn|ke\d_.+|mlkem\d+|prf.+)"
)


@dataclass(frozen=True, slots=True)
class Suite:
    """What ESP takes with one proposal: the unit that the payload is padded to (4 or more), IV and ICV in bytes."""

    text: str
    unit: int
    iv_bytes: int
    icv_bytes: int

    def layers(self) -> tuple[Layer, ...]:
        """ESP alone, from the outside in, as it lies behind the IP header (and UDP)."""
        found = [Layer("ESP header", 8)]
        found += [Layer("IV", self.iv_bytes)] if self.iv_bytes else []
        found += [Layer("ICV", self.icv_bytes), Layer(f"padding to {self.unit}", 0, self.unit), Layer("ESP trailer", 2)]
        return tuple(found)


def suite(text: str) -> Suite:
    """
    A proposal in strongSwan's words.

    Raises:
        StackError: a word of it is unknown, or encryption stands without integrity.
    """
    words = text.lower().rstrip("!").split("-")
    shape = _aead(words[0])
    rest = words[1:]
    if shape is None:
        shape, rest = _composed(text, words)
    for word in rest:
        if _FREE.fullmatch(word) is None:
            known = "an integrity algorithm is not wanted beside AEAD" if word in _INTEGRITY else f"'{word}' is not known"
            raise StackError(f"esp({text}): {known}\n  hint: {_EXAMPLES}")
    return Suite(text, *shape)


def suites(text: str) -> tuple[Suite, ...]:
    """
    Every suite that a proposal with several algorithms of a kind may end in: `aes256-aes128-sha256-sha512` are four.

    Raises:
        StackError: as for `suite`.
    """
    words = text.lower().rstrip("!").split("-")
    ciphers = [word for word in words if word in _CIPHERS or _aead(word) is not None]
    integrity = [word for word in words if word in _INTEGRITY]
    free = [word for word in words if word not in ciphers and word not in integrity]
    alone = [word for word in ciphers if _aead(word) is not None]
    beside = [f"{cipher}-{word}" for cipher in ciphers if cipher not in alone for word in integrity]
    if len(alone) + len(beside) < 2:
        return (suite(text),)
    if len(alone) + len(beside) > MAX_SUITES:
        raise StackError(f"esp: {len(alone) + len(beside)} suites in one proposal; {MAX_SUITES} are enough for any")
    return tuple(suite("-".join([one, *free])) for one in (*alone, *beside))


#: One proposal's algorithms multiply; nobody offers more.
MAX_SUITES = 256

_EXAMPLES = (
    "write a suite as strongSwan does: aes256gcm16, chacha20poly1305, aes128-sha256, aes256ctr-sha256, 3des-sha1, null-sha256"
)


def _aead(word: str) -> tuple[int, int, int] | None:
    """(unit, IV, ICV) of an AEAD or of GMAC, None for anything else."""
    if word in {"chacha20poly1305", "chacha20poly1305compat"}:
        return 4, 8, 16
    if _GMAC.fullmatch(word):
        return 4, 8, 16
    found = _AEAD.fullmatch(word)
    if found is None or (found["icv"] and found["icv"] not in _ICV):
        return None
    return 4, 0 if found["implicit"] else 8, _ICV[found["icv"] or "16"]


def _composed(text: str, words: list[str]) -> tuple[tuple[int, int, int], list[str]]:
    """(unit, IV, ICV) of encryption and integrity, and the words left."""
    if words[0] not in _CIPHERS:
        raise StackError(f"esp({text}): '{words[0]}' is not an encryption that is known\n  hint: {_EXAMPLES}")
    if len(words) < 2 or words[1] not in _INTEGRITY:
        raise StackError(
            f"esp({text}): {words[0]} needs an integrity algorithm beside it\n  hint: for example esp({words[0]}-sha256)"
        )
    unit, iv_bytes = _CIPHERS[words[0]]
    return (unit, iv_bytes, _INTEGRITY[words[1]]), words[2:]
