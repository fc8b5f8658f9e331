"""
Keys of IKE SAs and of their children.

    SKEYSEED = prf(Ni | Nr, g^ir)                           a new IKE SA
    SKEYSEED = prf(SK_d of the old one, g^ir | Ni | Nr)     its rekeying, with the old one's prf
    {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)
    KEYMAT = prf+(SK_d, [g^ir |] Ni | Nr)                   a child: initiator to responder first; encryption (with salt), then
    integrity

Everything stays in the engine; only in the debug mode lines with keys are made for tshark, and told as events.

Source: RFC 7296 2.14, 2.17, 2.18; RFC 5282 7; RFC 4303 and 4106 for what a suite needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ginnel.crypto.ike import IkeCipher, KeyMaterial, concat, prf, prf_plus
from ginnel.ikev2.algorithms import Hash
from ginnel.ikev2.effects import Keys
from ginnel.ikev2.proposals import Chosen

_PRF_BYTES: Final[dict[Hash, int]] = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}


@dataclass(frozen=True, slots=True)
class IkeKeys:
    """
    Of one IKE SA. hash: of its prf. seal, open: our direction and the peer's. sk_p_ours, sk_p_theirs: for AUTH.

    decryption_line: for tshark's `ikev2_decryption_table`; empty but in the debug mode.
    """

    hash: Hash
    sk_d: KeyMaterial
    seal: IkeCipher
    open: IkeCipher
    sk_p_ours: KeyMaterial
    sk_p_theirs: KeyMaterial
    decryption_line: str = ""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What both sides put in: nonces (of the exchange's initiator and responder) and SPIs (of the new IKE SA)."""

    nonce_i: bytes
    nonce_r: bytes
    spi_i: bytes
    spi_r: bytes


def of_ike(
    chosen: Chosen, shared: KeyMaterial, said: Exchanged, *, initiator: bool, old: IkeKeys | None = None, debug: bool = False
) -> IkeKeys:
    """
    The keys of a new IKE SA.

    Args:
        chosen: its proposal.
        shared: g^ir.
        said: what was exchanged.
        initiator: whether we are the new SA's initiator.
        old: the SA that is rekeyed.
        debug: make the line for tshark.
    """
    hash_ = chosen.hash
    nonces = said.nonce_i + said.nonce_r
    seed = prf(hash_, nonces, shared) if old is None else prf(old.hash, old.sk_d, shared, nonces)
    size = _PRF_BYTES[hash_]
    a, e = chosen.integrity_key_bytes, chosen.encryption_key_bytes
    sizes = (size, a, a, e, e, size, size)
    made = prf_plus(hash_, seed, nonces + said.spi_i + said.spi_r, sum(sizes))
    sk_d, sk_ai, sk_ar, sk_ei, sk_er, sk_pi, sk_pr = made.split(*sizes)
    line = _decryption_line(chosen, said, sk_ei, sk_er, sk_ai, sk_ar) if debug else ""
    from_i, from_r = IkeCipher(chosen.suite, sk_ei, sk_ai), IkeCipher(chosen.suite, sk_er, sk_ar)
    if initiator:
        return IkeKeys(hash_, sk_d, from_i, from_r, sk_pi, sk_pr, line)
    return IkeKeys(hash_, sk_d, from_r, from_i, sk_pr, sk_pi, line)


@dataclass(frozen=True, slots=True)
class ChildKeys:
    """
    Of one pair of ESP SAs, ours to send and to receive with. In the debug mode `esp` has (encryption, integrity) of both in hex.
    """

    outbound: Keys
    inbound: Keys
    esp: tuple[tuple[str, str], tuple[str, str]] | None = None


def of_child(
    chosen: Chosen, ike: IkeKeys, shared: KeyMaterial | None, nonces: bytes, *, initiator: bool, debug: bool = False
) -> ChildKeys:
    """
    The keys of a child.

    Args:
        chosen: its proposal.
        ike: of the IKE SA that the exchange ran in.
        shared: g^ir of the exchange, None without PFS.
        nonces: Ni | Nr of the exchange.
        initiator: whether we initiated the exchange.
        debug: keep copies in hex for tshark.
    """
    e, a = chosen.encryption_key_bytes, chosen.integrity_key_bytes
    seed: bytes | KeyMaterial = nonces if shared is None else concat(shared, nonces)
    ei, ai, er, ar = prf_plus(ike.hash, ike.sk_d, seed, 2 * (e + a)).split(e, a, e, a)
    esp = None
    if debug:
        from_i = (ei.duplicate().reveal().hex(), ai.duplicate().reveal().hex())
        from_r = (er.duplicate().reveal().hex(), ar.duplicate().reveal().hex())
        esp = (from_i, from_r) if initiator else (from_r, from_i)
    if initiator:
        return ChildKeys(Keys(ei, ai), Keys(er, ar), esp)
    return ChildKeys(Keys(er, ar), Keys(ei, ai), esp)


# ---------------------------------------------------------------- for tshark, in the debug mode alone

_INTEGRITY_IKE: Final = {
    "sha1": "HMAC_SHA1_96 [RFC2404]",
    "sha256": "HMAC_SHA2_256_128 [RFC4868]",
    "sha384": "HMAC_SHA2_384_192 [RFC4868]",
    "sha512": "HMAC_SHA2_512_256 [RFC4868]",
}
_INTEGRITY_ESP: Final = {
    "sha1": "HMAC-SHA-1-96 [RFC2404]",
    "sha256": "HMAC-SHA-256-128 [RFC4868]",
    "sha384": "HMAC-SHA-384-192 [RFC4868]",
    "sha512": "HMAC-SHA-512-256 [RFC4868]",
}


def _decryption_line(chosen: Chosen, said: Exchanged, ei: KeyMaterial, er: KeyMaterial, ai: KeyMaterial, ar: KeyMaterial) -> str:
    cipher, _, integrity = chosen.suite.partition("-")
    if bits := re.fullmatch(r"aes(\d+)gcm16", cipher):
        encryption = f"AES-GCM-{bits[1]} with 16 octet ICV [RFC5282]"
    elif bits := re.fullmatch(r"aes(\d+)", cipher):
        encryption = f"AES-CBC-{bits[1]} [RFC3602]"
    else:
        encryption = "CHACHA20_POLY1305 [RFC7634]"
    keys = [one.duplicate().reveal().hex() if len(one) else "" for one in (ei, er, ai, ar)]
    name = _INTEGRITY_IKE.get(integrity, "NONE [RFC4306]")
    return f'{said.spi_i.hex()},{said.spi_r.hex()},{keys[0]},{keys[1]},"{encryption}",{keys[2]},{keys[3]},"{name}"'


def esp_line(suite: str, source: str, destination: str, spi: int, keys: tuple[str, str]) -> str:
    """
    A line of tshark's `esp_sa`.

    Args:
        suite: the engine's name.
        source, destination: addresses as text.
        spi: of the SA.
        keys: (encryption with salt, integrity) in hex.
    """
    cipher, _, integrity = suite.partition("-")
    if cipher.endswith("gcm16"):
        encryption = "AES-GCM with 16 octet ICV [RFC4106]"
    elif cipher.startswith("aes"):
        encryption = "AES-CBC [RFC3602]"
    else:
        encryption = "ChaCha20 with Poly1305 [RFC7634]"
    family = "IPv6" if ":" in source else "IPv4"
    auth, auth_key = (_INTEGRITY_ESP[integrity], f"0x{keys[1]}") if integrity else ("NULL", "")
    return f'"{family}","{source}","{destination}","0x{spi:08x}","{encryption}","0x{keys[0]}","{auth}","{auth_key}"'
