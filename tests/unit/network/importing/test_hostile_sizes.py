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


@pytest.mark.parametrize(
    "hook",
    [
        "nft 'add table inet ginnel-acme'; touch /tmp/here",
        "nft 'add table inet ginnel-acme' | sh",
        "echo 1 > /proc/sys/net/ipv4/ip_forward;reboot",
        "sysctl -w $(reboot)",
        "wg set wg0 private-key /etc/wireguard/wg0.key;reboot",
    ],
)
def test_what_only_begins_as_ours_is_not_lost(hook: str) -> None:
    text = f"# acme: paris. Rendered by ginnel; changes belong in the network file.\n[Interface]\nPostUp = {hook}\n"
    (host,) = read_hosts([Source("paris/wg0.conf", text.encode())]).hosts
    assert host.interfaces[0].hooks == (("PostUp", hook),)


def test_a_hook_with_a_password_for_another_program_is_left_out() -> None:
    text = "[Interface]\nPostUp = sshpass -p hunter2 ssh there\nPostDown = PASS=hunter2 there\n"
    imported = read_hosts([Source("paris/wg0.conf", text.encode())])
    assert imported.hosts[0].interfaces[0].hooks == ()
    assert "hunter2" not in repr(imported)
