"""
ESP's suites in everybody's words: ginnel's, iproute2's, scapy's, tshark's, strongSwan's.

A `Suite` has ginnel's name and the sizes that follow from it; `Keys` is one direction's random keys.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ginnel._native import KeyMaterial

SALT = 4
#: iproute2's, scapy's, tshark's and strongSwan's names; bytes of the key and of the ICV.
INTEGRITY = {
    "sha1": ("hmac(sha1)", "HMAC-SHA1-96", "HMAC-SHA-1-96 [RFC2404]", 20, 12),
    "sha256": ("hmac(sha256)", "SHA2-256-128", "HMAC-SHA-256-128 [RFC4868]", 32, 16),
    "sha384": ("hmac(sha384)", "SHA2-384-192", "HMAC-SHA-384-192 [RFC4868]", 48, 24),
    "sha512": ("hmac(sha512)", "SHA2-512-256", "HMAC-SHA-512-256 [RFC4868]", 64, 32),
}


@dataclass(frozen=True, slots=True)
class Keys:
    """One direction's secrets, as bytes; empty integrity for AEAD."""

    key: bytes
    integrity: bytes

    def material(self) -> dict[str, KeyMaterial]:
        """As `add_inbound` and `set_outbound` take them."""
        return {"key": KeyMaterial.from_bytes(self.key), "integrity": KeyMaterial.from_bytes(self.integrity)}


@dataclass(frozen=True, slots=True)
class Suite:
    """One of ginnel's names, taken apart."""

    name: str

    @property
    def aead(self) -> bool:
        """Whether one algorithm does both."""
        return "-" not in self.name

    @property
    def bits(self) -> int:
        """The key's, without salt."""
        return 256 if self.name.startswith("chacha") else int(self.name[3:6])

    @property
    def hash(self) -> str:
        """Of the integrity algorithm."""
        return self.name.partition("-")[2]

    @property
    def icv(self) -> int:
        """Bytes of the checksum."""
        return 16 if self.aead else INTEGRITY[self.hash][4]

    def keys(self, chance: random.Random) -> Keys:
        """Random ones."""
        size = self.bits // 8 + (SALT if self.aead else 0)
        return Keys(chance.randbytes(size), b"" if self.aead else chance.randbytes(INTEGRITY[self.hash][3]))

    def xfrm(self, keys: Keys) -> list[str]:
        """For `ip xfrm state add`."""
        if self.aead:
            algorithm = "rfc7539esp(chacha20,poly1305)" if self.name.startswith("chacha") else "rfc4106(gcm(aes))"
            return ["aead", algorithm, f"0x{keys.key.hex()}", "128"]
        algorithm, bits = INTEGRITY[self.hash][0], str(8 * self.icv)
        return ["enc", "cbc(aes)", f"0x{keys.key.hex()}", "auth-trunc", algorithm, f"0x{keys.integrity.hex()}", bits]

    def scapy(self, keys: Keys) -> dict[str, object]:
        """For `SecurityAssociation`."""
        if self.aead:
            return {"crypt_algo": "CHACHA20-POLY1305" if self.name.startswith("chacha") else "AES-GCM", "crypt_key": keys.key}
        return {
            "crypt_algo": "AES-CBC", "crypt_key": keys.key, "auth_algo": INTEGRITY[self.hash][1], "auth_key": keys.integrity
        }  # fmt: skip

    def tshark(self, keys: Keys) -> tuple[str, str, str, str] | None:
        """The last four fields of a row of `esp_sa`; None where 4.0.17 has no name for it."""
        if self.name.startswith("chacha"):
            return None
        if self.aead:
            return "AES-GCM with 16 octet ICV [RFC4106]", f"0x{keys.key.hex()}", "NULL", ""
        return "AES-CBC [RFC3602]", f"0x{keys.key.hex()}", INTEGRITY[self.hash][2], f"0x{keys.integrity.hex()}"

    def strongswan(self) -> str:
        """The start of a proposal."""
        return self.name


SUITES = [
    Suite(name)
    for name in (
        *("aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305"),
        *("aes128-sha256", "aes192-sha384", "aes256-sha512", "aes256-sha256", "aes128-sha1"),
    )
]
