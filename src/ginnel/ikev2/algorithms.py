"""
Transforms of IKEv2 and ESP: IANA's numbers, strongSwan's words, the engine's names, key sizes. One table, no decisions.

What stands here and has no `engine` name is known, so that an offer can be read to a person, but never chosen. `weak` is the
sentence of the warning for what is taken only when it is named.

Source: IANA, "IKEv2 Parameters"; RFC 8247 and 8221 (what is too weak); strongSwan's list of cipher suites (the words).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

from ginnel.wire.ikev2 import Transform, TransformType

Hash = Literal["sha1", "sha256", "sha384", "sha512"]

#: A proposal without key exchange; also what an AEAD has for integrity.
NONE: Final = 0


@dataclass(frozen=True, slots=True)
class Algorithm:
    """
    word: as strongSwan writes it. engine: what the engine calls it ("" when it cannot): part of a suite's name for encryption
    and integrity, a hash for a PRF, "group" for a key exchange. key_bytes: of key material, with the salt of an AEAD.
    """

    transform: Transform
    word: str
    engine: str = ""
    key_bytes: int = 0
    aead: bool = False
    weak: str = ""


_WEAK_SHA1: Final = "SHA-1 is kept only for old devices: use sha256"


def _weak_group(bits: int) -> str:
    return f"{bits}-bit MODP groups can be broken by those who can pay for it: use x25519, ecp256 or modp2048"


def _encryption() -> list[Algorithm]:
    kind = TransformType.ENCR
    found: list[Algorithm] = []
    for bits in (128, 192, 256):
        found.append(Algorithm(Transform(kind, 12, bits), f"aes{bits}", f"aes{bits}", bits // 8))
        found.append(Algorithm(Transform(kind, 20, bits), f"aes{bits}gcm16", f"aes{bits}gcm16", bits // 8 + 4, aead=True))
        found += [Algorithm(Transform(kind, 18 + at, bits), f"aes{bits}gcm{8 + 4 * at}", aead=True) for at in (0, 1)]
        found += [Algorithm(Transform(kind, 14 + at, bits), f"aes{bits}ccm{8 + 4 * at}", aead=True) for at in (0, 1, 2)]
        found.append(Algorithm(Transform(kind, 13, bits), f"aes{bits}ctr"))
        found.append(Algorithm(Transform(kind, 21, bits), f"aes{bits}gmac", aead=True))
        found.append(Algorithm(Transform(kind, 23, bits), f"camellia{bits}"))
    found.append(Algorithm(Transform(kind, 28), "chacha20poly1305", "chacha20poly1305", 36, aead=True))
    found += [
        Algorithm(Transform(kind, number), word) for number, word in ((2, "des"), (3, "3des"), (7, "blowfish"), (11, "null"))
    ]
    return found


def _prfs() -> list[Algorithm]:
    kind = TransformType.PRF
    return [
        Algorithm(Transform(kind, 2), "prfsha1", "sha1", 20, weak=_WEAK_SHA1),
        Algorithm(Transform(kind, 5), "prfsha256", "sha256", 32),
        Algorithm(Transform(kind, 6), "prfsha384", "sha384", 48),
        Algorithm(Transform(kind, 7), "prfsha512", "sha512", 64),
        Algorithm(Transform(kind, 1), "prfmd5"),
        Algorithm(Transform(kind, 4), "prfaesxcbc"),
        Algorithm(Transform(kind, 8), "prfaescmac"),
    ]


def _integrity() -> list[Algorithm]:
    kind = TransformType.INTEG
    return [
        Algorithm(Transform(kind, 2), "sha1", "sha1", 20, weak=_WEAK_SHA1),
        Algorithm(Transform(kind, 12), "sha256", "sha256", 32),
        Algorithm(Transform(kind, 13), "sha384", "sha384", 48),
        Algorithm(Transform(kind, 14), "sha512", "sha512", 64),
        Algorithm(Transform(kind, 1), "md5"),
        Algorithm(Transform(kind, 5), "aesxcbc"),
        Algorithm(Transform(kind, 8), "aescmac"),
    ]


def _groups() -> list[Algorithm]:
    kind = TransformType.KE
    modp = ((1, 768), (2, 1024), (5, 1536), (14, 2048), (15, 3072), (16, 4096), (17, 6144), (18, 8192))
    found = [
        Algorithm(
            Transform(kind, number), f"modp{bits}", "group" if bits >= 1024 else "", weak=_weak_group(bits) if bits < 2048 else ""
        )
        for number, bits in modp
    ]
    found += [
        Algorithm(Transform(kind, 31), "x25519", "group"),
        Algorithm(Transform(kind, 19), "ecp256", "group"),
        Algorithm(Transform(kind, 20), "ecp384", "group"),
        Algorithm(Transform(kind, 21), "ecp521", "group"),
        Algorithm(Transform(kind, 32), "x448"),
    ]
    unable = (
        (22, "modp1024s160"),
        (23, "modp2048s224"),
        (24, "modp2048s256"),
        (25, "ecp192"),
        (26, "ecp224"),
        (27, "ecp224bp"),
        (28, "ecp256bp"),
        (29, "ecp384bp"),
        (30, "ecp512bp"),
        (35, "mlkem512"),
        (36, "mlkem768"),
        (37, "mlkem1024"),
    )
    return found + [Algorithm(Transform(kind, number), word) for number, word in unable]


#: All that have a name, what the engine can do among them.
TABLE: Final = (*_encryption(), *_prfs(), *_integrity(), *_groups())

_BY_TRANSFORM: Final = {(one.transform.kind, one.transform.number, one.transform.key_bits): one for one in TABLE}
_BY_WORD: Final = {one.word: one for one in TABLE}

#: Other words for the same (strongSwan's, and what people write).
_ALIASES: Final = {
    "aes": "aes128",
    "sha": "sha1",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
    "curve25519": "x25519",
    "curve448": "x448",
    "prfsha": "prfsha1",
    "prfsha2_256": "prfsha256",
    "prfsha2_384": "prfsha384",
    "prfsha2_512": "prfsha512",
    "chacha20poly1305compat": "chacha20poly1305",
    **{
        f"aes{bits}{mode}{written}": f"aes{bits}{mode}{octets}"
        for bits in (128, 192, 256)
        for mode in ("gcm", "ccm")
        for written, octets in (("64", 8), ("96", 12), ("128", 16), ("", 16))
    },
    **{f"aes{mode}{octets}": f"aes128{mode}{octets}" for mode in ("gcm", "ccm") for octets in (8, 12, 16)},
}

#: What a kind of transform is called in a sentence.
KIND_NAMES: Final[dict[int, str]] = {
    TransformType.ENCR: "encryption",
    TransformType.PRF: "prf",
    TransformType.INTEG: "integrity",
    TransformType.KE: "group",
    TransformType.ESN: "extended sequence numbers",
}

#: Transform IDs of PRF by the hash they are made of: a PRF that is not named follows the integrity algorithm.
PRF_OF_INTEGRITY: Final = {2: 2, 12: 5, 13: 6, 14: 7}


def by_word(word: str) -> Algorithm | None:
    """What *word* (in any case, an alias too) stands for; None when it is not known."""
    lower = word.lower()
    return _BY_WORD.get(_ALIASES.get(lower, lower))


def near(word: str) -> str:
    """The known word that *word*, unknown, is most like; "" when it is like none that we can do."""
    import difflib  # only mistakes need it

    found = difflib.get_close_matches(word.lower(), [one.word for one in TABLE if one.engine], n=1, cutoff=0.75)
    return found[0] if found else ""


def by_transform(transform: Transform) -> Algorithm | None:
    """The row of *transform*; None when it is not known or has attributes that are not."""
    if transform.others:
        return None
    return _BY_TRANSFORM.get((transform.kind, transform.number, transform.key_bits))


def supported(transform: Transform) -> bool:
    """Whether it may be chosen: the engine can do it. "None" of a key exchange or an integrity, and both kinds of ESN, may."""
    if transform.others:
        return False
    if transform.kind == TransformType.ESN:
        return transform.number in (0, 1) and transform.key_bits is None
    if transform.kind in (TransformType.KE, TransformType.INTEG) and transform.number == NONE:
        return transform.key_bits is None
    found = by_transform(transform)
    return found is not None and bool(found.engine)


def word(transform: Transform) -> str:
    """For a person: strongSwan's word; numbers for what has none ("encryption 40/256", "transform type 6 35")."""
    if transform.kind == TransformType.ESN and transform.number in (0, 1):
        return "esn" if transform.number else "noesn"
    if transform.number == NONE and transform.kind == TransformType.KE:
        return "none"
    if transform.number == NONE and transform.kind == TransformType.INTEG:
        return "no integrity"
    found = by_transform(transform)
    if found is not None:
        return found.word
    kind = KIND_NAMES.get(transform.kind, f"transform type {transform.kind}")
    return f"{kind} {transform.number}" + (f"/{transform.key_bits}" if transform.key_bits is not None else "")


def group_word(group: int) -> str:
    """The word of a key exchange by its number ("x25519", "none", "group 99")."""
    return word(Transform(TransformType.KE, group))


def is_aead(encryption: Transform) -> bool:
    """Whether an integrity algorithm is not wanted beside it."""
    found = by_transform(encryption)
    return found is not None and found.aead


def suite(encryption: Transform, integrity: Transform | None) -> str:
    """The engine's name of a pair that `supported` accepts: "aes256gcm16", "aes256-sha256"."""
    found = _engine(encryption)
    return found if is_aead(encryption) or integrity is None else f"{found}-{_engine(integrity)}"


def prf_hash(prf: Transform) -> Hash:
    """The hash that a supported PRF is an HMAC of."""
    return cast(Hash, _engine(prf))


def key_bytes(transform: Transform | None) -> int:
    """Bytes of key material: encryption (with salt), PRF (preferred size), integrity; 0 of None."""
    found = by_transform(transform) if transform is not None else None
    return found.key_bytes if found is not None else 0


def weakness(transform: Transform) -> str:
    """The sentence of the warning, "" of what is sound."""
    found = by_transform(transform)
    return found.weak if found is not None else ""


def _engine(transform: Transform) -> str:
    found = by_transform(transform)
    if found is None or not found.engine:
        raise ValueError(f"expected a transform that the engine can do, found {word(transform)}")
    return found.engine
