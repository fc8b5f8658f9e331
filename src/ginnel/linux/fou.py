"""
GRE in UDP by the kernel itself: a port whose datagrams it takes for GRE (`ip fou`), for `--backend kernel`.

The port is told once for all tunnels on it; it is named by version and number, and deleted so.
"""

from __future__ import annotations

import errno
import subprocess

from ginnel.errors import KernelError

TIMEOUT_S = 10.0
GRE = 47


def words(verb: str, version: int, port: int) -> str:
    """The command that adds or deletes a port."""
    six = " -6" if version == 6 else ""
    return f"ip fou {verb} port {port}{f' ipproto {GRE}' if verb == 'add' else ''}{six}"


class IpFou:
    """`host.Fou` by the `ip` command."""

    def add(self, version: int, port: int) -> None:
        """See `host.Fou`."""
        _run(words("add", version, port))

    def delete(self, version: int, port: int) -> None:
        """See `host.Fou`."""
        try:
            _run(words("del", version, port))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise


def _run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode == 0:
        return
    said = done.stderr.strip()
    number = next((code for sentence, code in _SAID.items() if sentence in said), errno.EIO)
    hint = {
        errno.EADDRINUSE: "another program has that UDP port: choose another `listen`",
        errno.EOPNOTSUPP: "this kernel has no FOU: `modprobe fou`, or leave out --backend kernel",
        errno.EPERM: "this needs root",
        errno.EIO: f"ip said: {said}",
    }.get(number, "")
    raise KernelError(command, number, hint)


_SAID = {
    "Address already in use": errno.EADDRINUSE,
    "Operation already in progress": errno.EADDRINUSE,
    "Operation not permitted": errno.EPERM,
    "No such": errno.ENOENT,
    "Cannot find device": errno.EOPNOTSUPP,
    "Operation not supported": errno.EOPNOTSUPP,
}
