"""
What is remembered of a tunnel across a crash, so that a restarted side speaks first and traffic is back within a second.

    /run/ginnel/NAME.state     mode 0600, replaced by rename, gone after a reboot

For each peer: where it was last, when a session with it was last made, and the last timestamp that was put into an initiation
to it (the next must be later, even if the clock was set back). Nothing of it is secret, but who talks to whom is nobody else's
business.

Nothing here is trusted to be well-formed: a file that is not ours, is writable by others or does not parse is ignored, with the
reason, and everything in it is optional. `decode` and `encode` are pure.

A file is written at most once in `INTERVAL_S` and never takes more than one part in `SHARE` of the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from ginnel.units import Endpoint, PublicKey

SCHEMA = "ginnel.state/1"
INTERVAL_S = 1.0
SHARE = 50
#: A million peers of 200 bytes; a longer file is not ours.
FILE_LIMIT_BYTES = 256 << 20
TAI64N_SIZE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Remembered:
    """One peer as it was: `last_active_unix` is when its newest session was made (0 = never), `tai64n` the last one sent."""

    public_key: PublicKey
    endpoint: Endpoint | None
    tai64n: bytes
    last_active_unix: float


def encode(peers: Iterable[Remembered]) -> str:
    """The file's text: JSON, one peer a line."""
    lines = [
        f'"{p.public_key.base64()}":{{"endpoint":{f"{chr(34)}{p.endpoint}{chr(34)}" if p.endpoint else "null"},'
        f'"tai64n":"{p.tai64n.hex()}","last_active_unix":{p.last_active_unix:.3f}}}'
        for p in peers
    ]
    return f'{{"schema":"{SCHEMA}","peers":{{\n' + ",\n".join(lines) + "\n}}\n"


def decode(text: str) -> list[Remembered]:
    """
    The peers of a state file.

    Raises:
        ValueError: it is not one; says what was expected.
    """
    whole = json.loads(text)
    if not isinstance(whole, dict) or whole.get("schema") != SCHEMA or not isinstance(whole.get("peers"), dict):
        raise ValueError(f"expected an object of schema {SCHEMA}")
    return [_peer(key, entry) for key, entry in whole["peers"].items()]


def _peer(key: str, entry: object) -> Remembered:
    if not isinstance(entry, dict):
        raise ValueError("expected an object for each peer")
    endpoint, tai64n, active = entry.get("endpoint"), entry.get("tai64n", ""), entry.get("last_active_unix", 0)
    if not isinstance(tai64n, str) or not isinstance(active, (int, float)) or not isinstance(endpoint, (str, type(None))):
        raise ValueError("expected endpoint, tai64n and last_active_unix for each peer")
    raw = bytes.fromhex(tai64n)
    if len(raw) not in (0, TAI64N_SIZE_BYTES):
        raise ValueError(f"expected a timestamp of {TAI64N_SIZE_BYTES} bytes")
    return Remembered(PublicKey.from_base64(key), Endpoint.parse(endpoint) if endpoint else None, raw, float(active))


def read(path: str) -> list[Remembered]:
    """
    What *path* remembers; empty without the file.

    Raises:
        ValueError: it cannot be trusted or understood; says why.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f"cannot be opened: {os.strerror(error.errno or 0)}") from None
    with open(fd, encoding="utf-8") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise ValueError("expected a regular file of root's that only root can write")
        if status.st_size > FILE_LIMIT_BYTES:
            raise ValueError(f"expected at most {FILE_LIMIT_BYTES} bytes, found {status.st_size}")
        return decode(file.read())


def write(path: str, text: str) -> None:
    """Replace *path* in one step, mode 0600; OSError leaves the old one as it was."""
    temporary = f"{path}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
