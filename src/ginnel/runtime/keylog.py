"""
The debug mode that writes keys: two tables as Wireshark and tshark keep them in a profile's directory.

    DIR/ikev2_decryption_table      IKE SAs: messages from IKE_AUTH on
    DIR/esp_sa                      ESP SAs: the packets themselves

    WIRESHARK_CONFIG_DIR=DIR tshark -r capture.pcap -o esp.enable_encryption_decode:TRUE

Whoever reads them reads the tunnels: everything that is captured while the mode is on, and for as long as anybody keeps it. So it
is off unless a person asked for it on the command line, and then it is said at the start, in the log and in `show`. The
directory must be new, or ours alone (0700) and no symbolic link; the files are ours alone (0600), and made, never found: a
file that is there already is of an earlier run and is refused.
"""

from __future__ import annotations

import errno
import os
import stat

from ginnel.errors import UsageError

TABLES = ("ikev2_decryption_table", "esp_sa")
#: A day of a thousand tunnels; nobody debugs longer.
SIZE_MAX_BYTES = 64 << 20


class KeyLog:
    """Open for as long as the process lives."""

    def __init__(self, directory: str) -> None:
        """
        Make the directory, unless it is there, and both files.

        Raises:
            UsageError: it is not ours alone, or a file is there already.
        """
        self.directory = directory
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise UsageError(f"{directory}: {os.strerror(error.errno or 0)}") from None
        try:
            folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{directory}: expected a directory: {os.strerror(error.errno or 0)}") from None
        try:
            status = os.fstat(folder)
            if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o077:
                raise UsageError(
                    f"{directory}: keys are written into a directory that nobody else can enter: expected mode 0700, found "
                    f"{stat.S_IMODE(status.st_mode):04o}\n  hint: name one that does not exist yet"
                )
            self._files = {table: _create(folder, directory, table) for table in TABLES}
        finally:
            os.close(folder)
        self._size_bytes = 0

    def write(self, table: str, line: str) -> None:
        """One line of one table; a KeyError for a table that there is not. A full disk loses lines, not the tunnel."""
        data = line.rstrip("\n").encode() + b"\n"
        if self._size_bytes + len(data) > SIZE_MAX_BYTES:
            return
        self._size_bytes += len(data)
        try:
            os.write(self._files[table], data)
        except OSError:
            self._size_bytes -= len(data)

    def close(self) -> None:
        """Write no more; the files stay."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()


def _create(folder: int, directory: str, table: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(table, flags, 0o600, dir_fd=folder)
    except OSError as error:
        hint = "\n  hint: it is of an earlier run: remove it, or name another directory" if error.errno == errno.EEXIST else ""
        raise UsageError(f"{directory}/{table}: {os.strerror(error.errno or 0)}{hint}") from None
