"""
Endpoint names to addresses, with wg's patience.

A name that does not exist fails at once; a name server that does not answer is asked again: 15 times (or as
WG_ENDPOINT_RESOLUTION_RETRIES says, a number or "infinity"), after 1 s, then 1.2 times longer each time, at most 20 s. The first
address is taken; while the tunnel runs, the daemon asks again when handshakes go stale.

Source: wireguard-tools, config.c parse_endpoint.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

from ginnel.config.wgquick import HostPort
from ginnel.errors import GinnelError
from ginnel.units import Endpoint

RETRIES = 15
FIRST_PAUSE_S = 1.0
PAUSE_MAX_S = 20.0
_FINAL = frozenset(
    {socket.EAI_NONAME, socket.EAI_FAIL, socket.EAI_SERVICE, socket.EAI_FAMILY}
    | ({socket.EAI_NODATA} if hasattr(socket, "EAI_NODATA") else set())
)


class UnresolvableError(GinnelError):
    """An endpoint whose name leads nowhere."""


def pauses(retries: int | None) -> Iterator[float]:
    """How long to wait before each further attempt, seconds; *retries* None = for ever."""
    pause = FIRST_PAUSE_S
    count = 0
    while retries is None or count < retries:
        yield pause
        pause = min(PAUSE_MAX_S, pause * 1.2)
        count += 1


def resolve(
    where: HostPort,
    note: Callable[[str], None],
    *,
    ask: Callable[..., list[tuple[int, int, int, str, tuple[object, ...]]]] = socket.getaddrinfo,  # type: ignore[assignment]
    sleep: Callable[[float], None] = time.sleep,
) -> Endpoint:
    """
    The first address of *where*.

    Args:
        note: told before each wait.

    Raises:
        UnresolvableError: the name does not exist, or nobody answered to the end.
    """
    waits = pauses(_retries())
    while True:
        try:
            found = ask(where.host, where.port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP)
            return _endpoint_of(found[0][4])
        except socket.gaierror as error:
            reason = str(error.strerror or error)
            pause = None if error.errno in _FINAL else next(waits, None)
            if pause is None:
                hint = (
                    "is the name right, and has this host DNS yet? An address instead of a name needs no DNS"
                    if error.errno in _FINAL
                    else "the name server did not answer: is the network up?"
                )
                raise UnresolvableError(f"endpoint {where}: {reason}\n  hint: {hint}") from None
            note(f"{reason}: `{where}'. Trying again in {pause:.2f} seconds...")
            sleep(pause)


def _endpoint_of(address: tuple[object, ...]) -> Endpoint:
    host, port = str(address[0]), int(str(address[1]))
    if ":" not in host:
        return Endpoint(socket.inet_pton(socket.AF_INET, host), port)
    return Endpoint(socket.inet_pton(socket.AF_INET6, host.partition("%")[0]), port, int(str(address[3])))


def _retries() -> int | None:
    text = os.environ.get("WG_ENDPOINT_RESOLUTION_RETRIES", "")
    if text == "infinity":
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else RETRIES
