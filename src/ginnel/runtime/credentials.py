"""
What IKE proves identities with, from the files that a node file names: secrets, keys, certificates,
authorities, revocation lists.

All of it is read once, by the short-lived command before it touches anything and by the process before it makes anything, and
what is wrong is said with the name of the file. What is secret must be a regular file of root's or ours that nobody else can
read: 0600 or 0400. What is public must be a regular file that others cannot write.

    pre-shared secret    one line; the newline that an editor adds at its end is not part of it
                         0x…    the rest is hexadecimal            0s…    the rest is base64
                         anything else is taken as it stands, blanks and all

Both prefixes are strongSwan's. A secret with a newline, a NUL or another control character inside is refused: it would be two
lines, or something that a person did not mean; write it as 0x….

A secret becomes `KeyMaterial`, which the engine keeps; its bytes are dropped. Files that many tunnels share are read once.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ginnel.config.node import IpsecConfig
from ginnel.crypto.ike import KeyMaterial
from ginnel.errors import UsageError
from ginnel.ikev2.psk import PskBelieving, PskProving

if TYPE_CHECKING:
    from ginnel.ikev2.connection import Believing, Proving

#: What it is called in sentences.
PSK = "the pre-shared secret"
#: Longer ones are no keys; a PSK of 64 bytes is as strong as it gets.
SECRET_MAX_BYTES = 4_096
#: A private key in PEM: RSA-16384 is 13 kB.
KEY_MAX_BYTES = 64 << 10
#: A bundle of authorities.
CERTIFICATE_MAX_BYTES = 1 << 20
#: The largest lists of public authorities.
CRL_MAX_BYTES = 32 << 20
CRASH_SECRET_BYTES = 32


def read(path: str, what: str, limit_bytes: int, *, secret: bool) -> bytes:
    """
    A file's bytes.

    Args:
        what: it is for people: "the pre-shared secret".
        secret: nobody but its owner may read it.

    Raises:
        UsageError: it cannot be read, is not what it should be, or others may read it (or, if public, write it).
    """
    try:
        # Symbolic links are followed: what hands out certificates keeps them behind such.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        made = ": `(umask 077; head -c 32 /dev/urandom | base64 > FILE)` makes one" if what == PSK else ""
        hint = f"\n  hint: a relative path lies beside the node file{made}" if error.errno == errno.ENOENT else ""
        raise UsageError(f"{path}: {what} cannot be read: {os.strerror(error.errno or 0)}{hint}") from None
    try:
        _check_owner(fd, path, what, secret=secret)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise UsageError(f"{path}: {what} cannot be read: {os.strerror(error.errno or 0)}") from None
    finally:
        os.close(fd)
    if not data:
        raise UsageError(f"{path}: {what} is missing: the file is empty")
    if len(data) > limit_bytes:
        raise UsageError(f"{path}: expected {what} of at most {limit_bytes} bytes")
    return data


def _check_owner(fd: int, path: str, what: str, *, secret: bool) -> None:
    """The open file's kind, owner and mode: what was looked at is what is read."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        found = "a directory" if stat.S_ISDIR(status.st_mode) else "something else"
        raise UsageError(f"{path}: expected a regular file with {what}, found {found}")
    if status.st_uid not in (0, os.geteuid()):
        raise UsageError(
            f"{path}: {what} belongs to user {status.st_uid}, expected root or user {os.geteuid()}\n  hint: `chown root {path}`"
        )
    mode = stat.S_IMODE(status.st_mode)
    if secret and mode & 0o077:
        raise UsageError(
            f"{path}: others may read {what}: expected mode 0600, found {mode:04o}\n"
            f"  hint: `chmod 600 {path}`; if anybody may have read it, replace it at both ends"
        )
    if mode & 0o022:
        raise UsageError(f"{path}: others may write {what}: expected mode 0644, found {mode:04o}\n  hint: `chmod go-w {path}`")


def psk_of(data: bytes, path: str) -> KeyMaterial:
    """
    The secret that a file's bytes are; see the module.

    Raises:
        UsageError: they are none. Never quotes them.
    """
    line = data.removesuffix(b"\r\n" if data.endswith(b"\r\n") else b"\n")
    prefix, rest = line[:2], line[2:]
    if prefix in {b"0x", b"0s"}:
        coding = "hexadecimal" if prefix == b"0x" else "base64"
        try:
            raw = bytes.fromhex(rest.decode("ascii")) if prefix == b"0x" else base64.b64decode(rest, validate=True)
        except (ValueError, binascii.Error):
            raise UsageError(f"{path}: expected {coding} behind {prefix.decode()}") from None
    else:
        if any(byte < 0x20 or byte == 0x7F for byte in line):
            raise UsageError(
                f"{path}: expected one line of text, found a newline or control character inside the secret\n"
                "  hint: keep it on one line; binary secrets are written 0x… or 0s…"
            )
        raw = line
    if not raw:
        raise UsageError(f"{path}: the pre-shared secret is empty")
    return KeyMaterial.from_bytes(raw)


class Credentials:
    """What one host proves itself with and what it believes, for all of its tunnels; each file is read once."""

    def __init__(self) -> None:
        self._secrets: dict[str, KeyMaterial] = {}
        self._files: dict[tuple[str, str], bytes] = {}
        self._made: dict[object, tuple[Proving, Believing]] = {}

    def of(self, config: IpsecConfig) -> tuple[Proving, Believing]:
        """
        Both for one tunnel.

        Raises:
            UsageError: a file is missing, unreadable, too widely readable, or not what it should be.
        """
        key = (
            config.auth, config.remote_auth, config.psk_file, config.certificate_files, config.private_key_file,
            config.ca_files, config.crl_files, config.revocation, config.peer_key_file,
        )  # fmt: skip
        if key not in self._made:
            self._made[key] = self._proving(config), self._believing(config)
        return self._made[key]

    def doubts(self, config: IpsecConfig, unix_ns: int) -> tuple[str, ...]:
        """Sentences about a secret that is short, a certificate or list that is out of its time or soon will be."""
        proving, believing = self.of(config)
        if isinstance(proving, PskProving):
            found = proving.doubts()
        else:
            from ginnel.ikev2.proofs import CertificateProving

            found = proving.doubts(unix_ns) if isinstance(proving, CertificateProving) else ()
        if isinstance(believing, PskBelieving):
            return found
        from ginnel.ikev2.proofs import CertificateBelieving

        return (*found, *(believing.doubts(unix_ns) if isinstance(believing, CertificateBelieving) else ()))

    def forget_files(self) -> None:
        """What was read is no longer needed: what was made of it stays."""
        self._files.clear()

    # ------------------------------------------------------------ one side each

    def _proving(self, config: IpsecConfig) -> Proving:
        if config.auth == "psk":
            return PskProving(self._secret(config.psk_file), config.psk_file)
        from ginnel.ikev2 import credentials

        return credentials.load_proving(config.auth, config.certificate_files, config.private_key_file, self._read_for(config))

    def _believing(self, config: IpsecConfig) -> Believing:
        auth = config.remote_auth or config.auth
        if auth == "psk":
            return PskBelieving(self._secret(config.psk_file), config.psk_file)
        from ginnel.ikev2 import credentials

        return credentials.load_believing(
            auth, config.ca_files, config.crl_files, config.revocation, config.peer_key_file, self._read_for(config)
        )

    def _secret(self, path: str) -> KeyMaterial:
        if not path:
            raise UsageError("psk_file: expected a file with the pre-shared secret")
        if path not in self._secrets:
            self._secrets[path] = psk_of(read(path, PSK, SECRET_MAX_BYTES, secret=True), path)
        return self._secrets[path]

    def _read_for(self, config: IpsecConfig) -> dict[str, bytes]:
        """Every file that certificates and keys of *config* lie in, by its path."""
        groups: tuple[tuple[Sequence[str], str, int, bool], ...] = (
            ((config.private_key_file,), "the private key", KEY_MAX_BYTES, True),
            (config.certificate_files, "the certificate", CERTIFICATE_MAX_BYTES, False),
            (config.ca_files, "the authority's certificate", CERTIFICATE_MAX_BYTES, False),
            (config.crl_files, "the revocation list", CRL_MAX_BYTES, False),
            ((config.peer_key_file,), "the peer's key", CERTIFICATE_MAX_BYTES, False),
        )
        found: dict[str, bytes] = {}
        for paths, what, limit_bytes, secret in groups:
            for path in filter(None, paths):
                if (path, what) not in self._files:
                    self._files[path, what] = read(path, what, limit_bytes, secret=secret)
                found[path] = self._files[path, what]
        return found


# ---------------------------------------------------------------- across a crash


def crash_secret(path: str) -> KeyMaterial:
    """
    What tokens of RFC 6290 are made of: kept in *path* (mode 0600), so that a process that was killed and started again can prove
    to its peers that it forgot them. Made when it is not there.

    Raises:
        UsageError: the file is there and not ours alone, or it cannot be made.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return _new_crash_secret(path)
    except OSError as error:
        raise UsageError(f"{path}: {os.strerror(error.errno or 0)}") from None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o077
        if not ours:
            raise UsageError(f"{path}: expected a file that only its owner can read and write\n  hint: remove it")
        data = file.read(CRASH_SECRET_BYTES + 1)
    if len(data) != CRASH_SECRET_BYTES:  # a full disk, say: peers find out by liveness checks instead
        return _new_crash_secret(path)
    return KeyMaterial.from_bytes(data)


def _new_crash_secret(path: str) -> KeyMaterial:
    data = os.urandom(CRASH_SECRET_BYTES)
    temporary = f"{path}.tmp"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path}: {os.strerror(error.errno or 0)}") from None
    return KeyMaterial.from_bytes(data)


def forget_crash_secret(path: str) -> None:
    """The process ends in order: its peers were told."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
