"""
What is remembered of a tunnel across a crash, so that a restarted side speaks first and traffic is back within a second.

    /run/ginnel/NAME.state     mode 0600, replaced by rename, gone after a reboot

For each peer what `ginnel.wireguard.peer.Remembered` holds: where it was last, when it was last heard, and the last timestamp
that was put into an initiation to it (the next must be later, even if the clock was set back). Nothing of it is secret, but who
talks to whom is nobody else's business.

Nothing here is trusted to be well-formed: a file that is not ours, is writable by others or does not parse is ignored, with the
reason, and everything in it is optional. `decode` and `encode` are pure.

A file is written at most once in `INTERVAL_S` and never takes more than one part in `SHARE` of the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping

from ginnel.units import Endpoint, PublicKey
from ginnel.wireguard.peer import Remembered

SCHEMA = "ginnel.state/1"
INTERVAL_S = 1.0
SHARE = 50
#: A million peers of 200 bytes; a longer file is not ours.
FILE_LIMIT_BYTES = 256 << 20
#: No clock of ours says the year 2262; a file that does is damaged, and believing it would end handshakes with that peer.
LATEST_NS = 2**63


def encode(peers: Mapping[PublicKey, Remembered]) -> str:
    """The file's text: JSON, one peer a line."""
    lines = [
        f'"{key.base64()}":{{"endpoint":{f"{chr(34)}{peer.endpoint}{chr(34)}" if peer.endpoint else "null"},'
        f'"last_timestamp_ns":{peer.last_timestamp_ns},"last_active_unix_ns":{peer.last_active_unix_ns}}}'
        for key, peer in peers.items()
    ]
    return f'{{"schema":"{SCHEMA}","peers":{{\n' + ",\n".join(lines) + "\n}}\n"


def decode(text: str) -> dict[PublicKey, Remembered]:
    """
    The peers of a state file.

    Raises:
        ValueError: it is not one; says what was expected.
    """
    try:
        whole = json.loads(text)
    except RecursionError:
        raise ValueError(f"expected an object of schema {SCHEMA}") from None
    if not isinstance(whole, dict) or whole.get("schema") != SCHEMA or not isinstance(whole.get("peers"), dict):
        raise ValueError(f"expected an object of schema {SCHEMA}")
    return {PublicKey.from_base64(key): _peer(entry) for key, entry in whole["peers"].items()}


def _peer(entry: object) -> Remembered:
    if not isinstance(entry, dict):
        raise ValueError("expected an object for each peer")
    endpoint = entry.get("endpoint")
    if endpoint is not None and not isinstance(endpoint, str):
        raise ValueError("endpoint: expected address:port or null")
    times = [entry.get(key, 0) for key in ("last_timestamp_ns", "last_active_unix_ns")]
    if not all(type(time) is int and 0 <= time < LATEST_NS for time in times):
        raise ValueError("last_timestamp_ns, last_active_unix_ns: expected nanoseconds since 1970")
    return Remembered(Endpoint.parse(endpoint) if endpoint else None, *times)


def read(path: str) -> dict[PublicKey, Remembered]:
    """
    What *path* remembers; empty without the file.

    Raises:
        ValueError: it cannot be trusted or understood; says why.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"cannot be opened: {os.strerror(error.errno or 0)}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise ValueError("expected a regular file")
    with open(fd, encoding="utf-8") as file:
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise ValueError("expected a file of root's that only root can write")
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
