"""
`ginnel-wireguard [-f|--foreground] IFNAME`: a bare interface, started and ended exactly as wireguard-go is.

So that what starts wireguard-go starts ginnel: `WG_QUICK_USERSPACE_IMPLEMENTATION=ginnel-wireguard wg-quick up wg0`. It returns
when the device and the UAPI socket are usable, and the process it leaves ends when the link or the socket file is removed.

    WG_PROCESS_FOREGROUND=1    as --foreground
    WG_TUN_FD, WG_UAPI_FD      descriptors to adopt instead of making them
    LOG_LEVEL                  verbose, debug, info, warn, error, silent; given, a detached process keeps writing to its stderr

Only the standard library and the daemon itself are imported: this is what stands between a command and a working tunnel.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from ginnel.engine import VERSION
from ginnel.errors import GinnelError, UsageError
from ginnel.runtime import daemon, process

USAGE = "usage: ginnel-wireguard [-f|--foreground] INTERFACE-NAME\n       ginnel-wireguard --version\n"


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[daemon.Options, bool]:
    """
    What to run, and whether in the foreground.

    Raises:
        UsageError: says what was expected.
    """
    foreground = environment.get("WG_PROCESS_FOREGROUND") == "1"
    rest = list(arguments)
    if rest and rest[0] in {"-f", "--foreground"}:
        foreground = True
        del rest[0]
    if len(rest) != 1 or rest[0].startswith("-"):
        raise UsageError(USAGE.rstrip("\n"))
    return daemon.Options(
        daemon.check_name(rest[0]),
        tun_fd=_descriptor(environment, "WG_TUN_FD"),
        uapi_fd=_descriptor(environment, "WG_UAPI_FD"),
    ), foreground


def _descriptor(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UsageError(f"{name}: expected the number of a descriptor, found {text!r}")
    try:
        os.fstat(int(text))
    except OSError:
        raise UsageError(f"{name}={text}: no such descriptor is open") from None
    return int(text)


def main() -> int:
    """The command."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        sys.stdout.write(f"ginnel-wireguard v{VERSION}\n\nUser-space WireGuard for Linux, the engine of ginnel.\n")
        return 0
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    try:
        options, foreground = parse(arguments, os.environ)
    except GinnelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return daemon.start(options, foreground=foreground, starter=process.Readiness(None))


if __name__ == "__main__":
    sys.exit(main())
