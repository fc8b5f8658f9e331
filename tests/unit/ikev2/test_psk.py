"""AUTH of a pre-shared secret (RFC 7296 2.15), the sentence of a wrong one, and that a process with secrets alone stays small."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys

import pytest

from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2.psk import PskBelieving, PskProving
from ginnel.wire.ikev2 import Auth, AuthMethod, Id, IdType

PEER = Id(IdType.FQDN, b"moon.example.org")
OCTETS = (b"the first message", b"nonce of the other", b"maced identity")
SECRET = b"correct horse battery staple"


def reference(secret: bytes, hash_name: str, octets: bytes) -> bytes:
    padded = hmac.new(secret, b"Key Pad for IKEv2", hash_name).digest()
    return hmac.new(padded, octets, hash_name).digest()


def believing(secret: bytes = SECRET) -> PskBelieving:
    return PskBelieving(KeyMaterial.from_bytes(secret), "/etc/ginnel/moon.psk")


def verdict(auth: Auth, prf: str = "sha256", secret: bytes = SECRET) -> str:
    return believing(secret).verify(OCTETS, auth, (), PEER, prf, 0)


@pytest.mark.parametrize("prf", ["sha1", "sha256", "sha384", "sha512"])
def test_auth_is_the_rfcs(prf: str) -> None:
    auth = PskProving(KeyMaterial.from_bytes(SECRET)).auth(OCTETS, prf, frozenset())
    assert auth == Auth(AuthMethod.PSK, reference(SECRET, prf, b"".join(OCTETS)))
    assert len(auth.data) == hashlib.new(prf).digest_size
    assert verdict(auth, prf) == ""


def test_pieces_may_be_secrets_and_how_octets_are_cut_does_not_matter() -> None:
    whole = b"".join(OCTETS)
    proving = PskProving(KeyMaterial.from_bytes(SECRET))
    assert proving.auth((whole[:7], KeyMaterial.from_bytes(whole[7:])), "sha256", frozenset()) == proving.auth(
        OCTETS, "sha256", frozenset()
    )


def test_both_can_be_used_again_and_again() -> None:
    proving, judge = PskProving(KeyMaterial.from_bytes(SECRET)), believing()
    for _ in range(3):
        assert judge.verify(OCTETS, proving.auth(OCTETS, "sha256", frozenset()), (), PEER, "sha256", 0) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        bytes(32),
        reference(b"another secret", "sha256", b"".join(OCTETS)),
        reference(SECRET, "sha256", b"other octets"),
        reference(SECRET, "sha384", b"".join(OCTETS)),
        reference(SECRET, "sha256", b"".join(OCTETS))[:-1],
        reference(SECRET, "sha256", b"".join(OCTETS)) + b"\0",
        hmac.new(SECRET, b"".join(OCTETS), "sha256").digest(),
    ],
)
def test_a_wrong_auth_is_told_with_the_identity_and_the_file_and_without_the_secret(wrong: bytes) -> None:
    said = verdict(Auth(AuthMethod.PSK, wrong))
    assert "moon.example.org" in said
    assert "/etc/ginnel/moon.psk" in said
    assert SECRET.decode() not in said
    assert said.startswith("wrong pre-shared secret")


@pytest.mark.parametrize("method", [0, 1, 3, 9, 10, 11, 12, 13, 14, 255])
def test_another_method_is_refused_even_with_the_right_value(method: int) -> None:
    said = verdict(Auth(method, reference(SECRET, "sha256", b"".join(OCTETS))))
    assert said.startswith("expected moon.example.org to prove itself with a pre-shared secret, found ")


def test_an_empty_secret_is_no_secret() -> None:
    with pytest.raises(ValueError, match="expected a pre-shared secret"):
        PskProving(KeyMaterial.from_bytes(b""))
    with pytest.raises(ValueError, match="expected a pre-shared secret"):
        PskBelieving(KeyMaterial.from_bytes(b""))


def test_no_certificate_is_sent_or_asked_for() -> None:
    assert PskProving(KeyMaterial.from_bytes(SECRET)).certificates((bytes(20),)) == ()
    assert believing().requests() == b""


def test_the_library_for_certificates_is_not_loaded_for_secrets() -> None:
    program = (
        "import sys\n"
        "from ginnel.crypto.ike import KeyMaterial\n"
        "from ginnel.ikev2 import connection, ike, psk\n"
        "import ginnel.runtime.credentials, ginnel.runtime.node\n"
        "psk.PskProving(KeyMaterial.from_bytes(b'x'))\n"
        "sys.exit('cryptography is loaded' if 'cryptography' in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
