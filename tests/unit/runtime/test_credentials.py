"""Files with secrets: who may read them, what of them is the secret, and that no refusal quotes it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ginnel.config.node import IpsecConfig
from ginnel.crypto.ike import KeyMaterial
from ginnel.errors import ConfigError, UsageError
from ginnel.runtime import credentials
from ginnel.runtime.credentials import Credentials, crash_secret, forget_crash_secret, psk_of, read

SECRET = b"correct horse battery staple"


def secret_file(path: Path, data: bytes = SECRET, mode: int = 0o600) -> str:
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


# ---------------------------------------------------------------- what the secret is


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"  secret \n", b"  secret "),
        (b"0x00ff10", b"\x00\xff\x10"),
        (b"0x00FF10\n", b"\x00\xff\x10"),
        (b"0sAP8Q\n", b"\x00\xff\x10"),
        (b"0X00", b"0X00"),
        ("schlüssel\n".encode(), "schlüssel".encode()),
        (b'"quoted"', b'"quoted"'),
    ],
)
def test_one_line_without_its_newline(data: bytes, secret: bytes) -> None:
    assert psk_of(data, "psk") == KeyMaterial.from_bytes(secret)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n", "is empty"),
        (b"0x", "is empty"),
        (b"two\nlines\n", "expected one line"),
        (b"secret\n\n", "expected one line"),
        (b"secret\r", "expected one line"),
        (b"nul\0inside", "expected one line"),
        (b"tab\tinside", "expected one line"),
        (b"0xzz", "expected hexadecimal"),
        (b"0x123", "expected hexadecimal"),
        (b"0sA", "expected base64"),
        (b"0s!!!!", "expected base64"),
    ],
)
def test_what_is_none_is_refused_and_never_quoted(data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        psk_of(data, "/etc/ginnel/psk")
    text = str(refused.value)
    assert text.startswith("/etc/ginnel/psk: ")
    for part in (b"two", b"lines", b"secret\n", b"inside", b"zz", b"123", b"!!!!"):
        assert part.decode() not in text.replace("inside the secret", "")


# ---------------------------------------------------------------- who may read it


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_the_owner_alone_is_well(tmp_path: Path, mode: int) -> None:
    assert read(secret_file(tmp_path / "psk", mode=mode), "the secret", 100, secret=True) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610, 0o601])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path / "psk", mode=mode)
    with pytest.raises(UsageError) as refused:
        read(path, "the secret", 100, secret=True)
    assert str(refused.value) == (
        f"{path}: others may read the secret: expected mode 0600, found {mode:04o}\n"
        f"  hint: `chmod 600 {path}`; if anybody may have read it, replace it at both ends"
    )


def test_a_public_file_may_be_read_and_not_written_by_others(tmp_path: Path) -> None:
    assert read(secret_file(tmp_path / "a", mode=0o644), "the certificate", 100, secret=False) == SECRET
    with pytest.raises(UsageError, match="others may write the certificate: expected mode 0644, found 0664"):
        read(secret_file(tmp_path / "b", mode=0o664), "the certificate", 100, secret=False)


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read(str(tmp_path / "missing"), "the secret", 100, secret=True)
    with pytest.raises(UsageError, match="expected a regular file"):
        read(str(tmp_path), "the secret", 100, secret=True)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(UsageError, match="expected a regular file"):  # and does not wait for a writer
        read(str(tmp_path / "fifo"), "the secret", 100, secret=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        with pytest.raises(UsageError, match="cannot be read"):
            read(str(tmp_path / "sock"), "the secret", 100, secret=True)
    with pytest.raises(UsageError, match="is missing: the file is empty"):
        read(secret_file(tmp_path / "empty", b""), "the secret", 100, secret=True)
    with pytest.raises(UsageError, match="at most 100 bytes"):
        read(secret_file(tmp_path / "long", b"x" * 101), "the secret", 100, secret=True)
    path = secret_file(tmp_path / "theirs")
    os.chown(path, 1234, -1)
    with pytest.raises(UsageError, match="belongs to user 1234, expected root or user 0"):
        read(path, "the secret", 100, secret=True)


def test_a_link_to_a_secret_is_followed_and_its_target_looked_at(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(secret_file(tmp_path / "psk"))
    assert read(str(tmp_path / "link"), "the secret", 100, secret=True) == SECRET
    (tmp_path / "psk").chmod(0o644)
    with pytest.raises(UsageError, match="others may read"):
        read(str(tmp_path / "link"), "the secret", 100, secret=True)


# ---------------------------------------------------------------- both proofs


def test_tunnels_share_what_they_have_in_common(tmp_path: Path) -> None:
    config = IpsecConfig(psk_file=secret_file(tmp_path / "psk"))
    found = Credentials()
    one = found.of(config)
    assert one == found.of(IpsecConfig(psk_file=config.psk_file, local_id="another"))
    assert [each.kind for each in one] == ["psk", "psk"]
    other = found.of(IpsecConfig(psk_file=secret_file(tmp_path / "other")))
    assert other[0] is not one[0]


def test_a_file_that_a_proof_needs_and_is_not_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="psk_file: expected a file"):
        Credentials().of(IpsecConfig())
    with pytest.raises(ConfigError, match="private_key_file"):
        Credentials().of(IpsecConfig(auth="certificate"))


def test_a_private_key_that_others_can_read_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    key, certificate = secret_file(tmp_path / "key", b"no key", 0o644), secret_file(tmp_path / "cert", b"none", 0o644)
    config = IpsecConfig(auth="certificate", private_key_file=key, certificate_files=(certificate,))
    with pytest.raises(UsageError, match="others may read the private key"):
        Credentials().of(config)


def test_without_certificates_their_library_is_not_loaded(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = secret_file(tmp_path / "psk")
    program = (
        "import sys; from ginnel.runtime.credentials import Credentials; from ginnel.config.node import IpsecConfig;"
        f"Credentials().of(IpsecConfig(psk_file={path!r})); assert not any(m.startswith('cryptography') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


# ---------------------------------------------------------------- across a crash


def test_a_crash_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "node.crash")
    first = crash_secret(path)
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert len(first) == credentials.CRASH_SECRET_BYTES
    assert crash_secret(path) == first
    forget_crash_secret(path)
    forget_crash_secret(path)
    assert crash_secret(path) != first
    assert [each.name for each in tmp_path.iterdir()] == ["node.crash"]


def test_a_damaged_one_is_made_anew_and_a_foreign_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.crash"
    secret_file(path, b"short")
    made = crash_secret(str(path))
    assert made == KeyMaterial.from_bytes(path.read_bytes())
    path.chmod(0o644)
    with pytest.raises(UsageError, match="only its owner"):
        crash_secret(str(path))
    path.unlink()
    path.symlink_to(secret_file(tmp_path / "elsewhere", bytes(32)))
    with pytest.raises(UsageError):
        crash_secret(str(path))
    with pytest.raises(UsageError, match="No such file"):
        crash_secret(str(tmp_path / "no" / "directory"))
