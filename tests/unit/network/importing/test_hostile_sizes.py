"""Large texts made to be slow: what is read of them takes time by their length, not by its square."""

from __future__ import annotations

import time

import pytest

from ginnel.network.importing import Source, read_hosts

_SIZE = 300_000
_INTERFACE = "[Interface]\nAddress = 10.0.0.1/24\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n"
_SOME = [f"10.{index >> 8}.{index & 255}.0/24" for index in range(4000)]

TEXTS = {
    "sections on one line": "connections {" + "a{}" * _SIZE,
    "lines that go on": "[NetDev]\nName=wg0\nKind=wireguard\nX=" + "\\\n" * _SIZE,
    "blanks in a name": f"{_INTERFACE}# name = a{' ' * _SIZE}b\n",
    "marks behind a name": f"{_INTERFACE}# peer a{'#' * _SIZE}b\n",
    "prefixes taken back": f"{_INTERFACE}AllowedIPs = {', '.join(_SOME)}, {', '.join(f'-{one}' for one in _SOME)}\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_reading_takes_time_by_length(name: str) -> None:
    before = time.process_time()
    read_hosts([Source("paris/wg0.conf", TEXTS[name].encode())])
    assert time.process_time() - before < 5


def test_lines_that_go_on_are_one() -> None:
    text = "[NetDev]\nName=wg07\nKind=wireguard\n[WireGuard]\nListenPort=51\\\n\\\n"
    (host,) = read_hosts([Source("paris/a.netdev", text.encode())]).hosts
    assert [each.name for each in host.interfaces] == ["wg07"]
    assert host.interfaces[0].listen_port == 51
