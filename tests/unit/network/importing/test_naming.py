"""Whose a file is, by its path."""

from __future__ import annotations

import pytest

from ginnel.network.importing import Source, read_hosts
from ginnel.network.importing.naming import origin

CONF = b"[Interface]\nAddress = 10.0.0.1/24\n"


@pytest.mark.parametrize(
    ("path", "name", "interface"),
    [
        ("lyon/etc/wireguard/wg0.conf", "lyon", "wg0"),
        ("fleet/lyon/etc/wireguard/office.conf", "lyon", "office"),
        ("/etc/wireguard/wg0.conf", "", "wg0"),
        ("fleet/lyon/wg0.conf", "lyon", "wg0"),
        ("fleet/lyon/wireguard/wg1.conf", "lyon", "wg1"),
        ("fleet/lyon.conf", "lyon", ""),
        ("fleet/lyon-wg0.conf", "lyon", "wg0"),
        ("fleet/lyon.wg0.conf", "lyon", "wg0"),
        ("fleet/lyon_gre1.json", "lyon", "gre1"),
        ("fleet/wg0-client-phone.conf", "phone", "wg0"),
        ("fleet/wg-lyon.conf", "lyon", ""),
        ("fleet/lyon-wg-show-all-dump.txt", "lyon", ""),
        ("fleet/lyon/wg-show-dump.txt", "lyon", ""),
        ("fleet/lyon-ip-addr.json", "lyon", ""),
        ("fleet/lyon/swanctl.conf", "lyon", ""),
        ("fleet/web-01.conf", "web-01", ""),
        ("client.conf", "client", ""),
        ("wg0.conf", "", "wg0"),
        ("./wg0.conf", "", "wg0"),
        (".conf", "", ""),
        ("", "", ""),
        ("C:\\fleet\\lyon\\wg0.conf", "lyon", "wg0"),
    ],
)
def test_a_path_tells_the_host_and_perhaps_the_interface(path: str, name: str, interface: str) -> None:
    found = origin(path)
    assert (found.name, found.interface) == (name, interface)


def test_files_of_one_host_come_out_at_one_place() -> None:
    together = ("a/lyon-wg0.conf", "a/lyon-wg1.conf", "a/lyon-ip-addr.json", "a/lyon.conf")
    assert len({origin(path).key for path in together}) == 1
    assert origin("a/lyon/wg0.conf").key == origin("a/lyon/swanctl.conf").key
    assert origin("a/lyon/etc/wireguard/wg0.conf").key == origin("a/lyon/etc/systemd/network/x.netdev", by_directory=True).key
    assert origin("a/lyon/wg0.conf").key != origin("b/lyon/wg0.conf").key


def test_what_is_said_outright_wins() -> None:
    assert origin("a/b/wg0.conf", "lyon").name == "lyon"
    hosts = read_hosts([Source("x/wg0.conf", CONF, "lyon"), Source("y/wg1.conf", CONF, "lyon")]).hosts
    assert [(host.name, [each.name for each in host.interfaces]) for host in hosts] == [("lyon", ["wg0", "wg1"])]


def test_files_called_alike_are_called_after_interfaces() -> None:
    hosts = read_hosts([Source(f"fleet/{host}/office.conf", CONF) for host in ("lyon", "paris")]).hosts
    assert [(host.name, host.interfaces[0].name) for host in hosts] == [("lyon", "office"), ("paris", "office")]


def test_no_two_hosts_have_one_name() -> None:
    hosts = read_hosts([Source(f"{top}/lyon/wg0.conf", CONF) for top in "abc"]).hosts
    assert [host.name for host in hosts] == ["lyon", "lyon-2", "lyon-3"]


def test_a_host_that_nothing_names_is_called_by_its_address() -> None:
    assert read_hosts([Source("wg0.conf", CONF)]).hosts[0].name == "host-10.0.0.1"


def test_a_file_that_names_its_host_does_so() -> None:
    content = b"[Interface]\n# Name = paris\nAddress = 10.0.0.1/24\n"
    assert read_hosts([Source("a/some-file.conf", content)]).hosts[0].name == "paris"
    assert read_hosts([Source("lyon/etc/wireguard/wg0.conf", content)]).hosts[0].name == "lyon"
