"""What `ginnel mtu NAME` finds out about a tunnel that runs, with its sources in the test's hands."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ginnel.cli import mtu as command
from ginnel.cli import stacks
from ginnel.errors import GinnelError
from ginnel.linux.links import Link
from ginnel.linux.record import LinksDone, Process, Record, Store, network_namespace
from ginnel.linux.rtnl import Way
from ginnel.linux.uapi import Device, DevicePeer
from ginnel.mtu.proof import Answer, Proof

ETH0 = Link("eth0", 2, 1500, True, "")
SHOWN = {
    "kind": "gre",
    "family": 4,
    "okey": 7,
    "ocsum": True,
    "oseq": False,
    "encapsulation": "",
    "encaplimit": None,
    "remote": "198.51.100.2",
    "fwmark": 0,
    "path_mtu": None,
}


class Host:
    """Links, ways, sockets and records as the test wants them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.links = [ETH0]
        self.ways: dict[tuple[bytes, int], Way] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.devices: dict[str, Device] = {}
        self.directory, self.store = directory, Store(directory)
        monkeypatch.setattr(stacks, "RUN_DIR", directory)
        monkeypatch.setattr(stacks, "Store", lambda: self.store)
        monkeypatch.setattr(stacks, "links", lambda: self.links)
        monkeypatch.setattr(stacks, "link", lambda name: next((one for one in self.links if one.name == name), None))
        monkeypatch.setattr(stacks, "control", self._control)
        monkeypatch.setattr(stacks, "Rtnl", lambda: self)
        monkeypatch.setattr(stacks, "is_served", lambda name: name in self.devices)
        monkeypatch.setattr(stacks.devices, "read", lambda name: self.devices[name])

    def way(self, packed: bytes, *, mark: int = 0, device: int = 0) -> Way | None:
        assert device == 0
        return self.ways.get((packed, mark))

    def close(self) -> None:
        pass

    def _control(self, node: str, request: dict[str, Any]) -> dict[str, Any] | None:
        if node == "broken":
            raise GinnelError("broken does not answer")
        match request:
            case {"op": "state"}:
                return {"tunnels": [{"name": name} for name in self.answers]}
            case {"op": "show", "tunnel": name}:
                assert node == "edge"
                return {"tunnel": self.answers[name]}
        raise AssertionError(request)

    def reach(self, address: str, *, mark: int = 0, mtu: int | None = None) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.ways[socket.inet_pton(family, address), mark] = Way(ETH0.index, mtu)

    def serve(self, name: str, *, mtu: int = 1468, **fields: Any) -> None:
        (self.directory / "edge.sock").touch()
        self.links.append(Link(name, 10 + len(self.links), mtu, True, "tun"))
        self.answers[name] = {**SHOWN, **fields}

    def record(self, node: str, config: Path, namespace: str) -> None:
        self.store.save(Record(node, str(config), "kernel", namespace, 0, Process()))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    monkeypatch.setenv("NO_COLOR", "1")
    return Host(monkeypatch, tmp_path)


def test_a_tunnel_of_a_node_file(host: Host) -> None:
    host.serve("gre1", fwmark=5)
    host.reach("198.51.100.2", mark=5, mtu=1492)
    found = stacks.running("gre1")
    assert found is not None
    assert (found.stack.text, found.stack.family, found.path, found.learned) == ("gre+csum+key", 4, 1492, 0)


def test_options_that_cost_bytes_are_seen(host: Host) -> None:
    host.serve("u6", family=6, encapsulation="udp", ocsum=False, remote="2001:db8::2")
    host.serve("l6", family=6, encaplimit=4, okey=None, ocsum=False, oseq=True, remote="2001:db8::2", path_mtu=1300)
    host.reach("2001:db8::2")
    texts = []
    for name in ("u6", "l6"):
        found = stacks.running(name)
        assert found is not None
        texts.append((found.stack.text, found.stack.inner(1500), found.path, found.learned))
    assert texts == [("gre-in-udp+key", 1444, 1500, 0), ("gre+seq+encaplimit", 1444, 1500, 1300)]


def test_what_the_kernel_carries_is_known_from_its_file(host: Host, tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text('[tunnel.gre7]\nkind = "gre"\nlocal = "192.0.2.1"\nremote = "198.51.100.2"\nkey = 9\n')
    host.record("edge", config, network_namespace())
    host.links.append(Link("gre7", 7, 1472, True, "gre"))
    host.reach("198.51.100.2")
    found = stacks.running("gre7")
    assert found is not None
    assert (found.stack.text, found.path) == ("gre+key", 1500)


def test_a_record_of_another_network_namespace_is_not_asked(host: Host, tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text('[tunnel.gre7]\nkind = "gre"\nlocal = "192.0.2.1"\nremote = "198.51.100.2"\n')
    host.record("edge", config, "net:[1]")
    host.links.append(Link("gre7", 7, 1476, True, "gre"))
    (tmp_path / "edge.sock").touch()
    host.answers["gre7"] = dict(SHOWN)
    with pytest.raises(GinnelError, match="gre7 is none of the tunnels that ginnel runs: its kind is gre"):
        stacks.running("gre7")


@pytest.mark.parametrize(
    ("endpoints", "family", "path"),
    [
        (["198.51.100.2:51820"], 4, 1400),
        (["198.51.100.2:51820", ""], 4, 1400),
        (["198.51.100.2:51820", "[2001:db8::2]:51820"], 6, 1400),
        (["[fe80::1%eth0]:51820"], 6, 1280),
        ([], 6, None),
        (["203.0.113.9:1"], 4, None),
    ],
)
def test_wireguard_counts_the_larger_header_and_the_narrowest_way(
    host: Host, endpoints: list[str], family: int, path: int | None
) -> None:
    host.links.append(Link("wg0", 9, 1420, True, "tun"))
    host.devices["wg0"] = Device("wg0", fwmark=7, peers=[DevicePeer("00" * 32, endpoint=one) for one in endpoints])
    host.reach("198.51.100.2", mark=7, mtu=1400)
    host.reach("2001:db8::2", mark=7)
    host.reach("fe80::1", mark=7, mtu=1280)
    found = stacks.running("wg0")
    assert found is not None
    assert (found.stack.text, found.stack.family, found.path) == ("wireguard", family, path)


def test_a_process_that_does_not_answer_is_in_nobody_elses_way(host: Host, tmp_path: Path) -> None:
    """Its record does not name the interface; of the one whose record does, it is told."""
    host.serve("gre1")
    host.reach("198.51.100.2")
    (tmp_path / "broken.sock").touch()
    assert stacks.running("gre1") is not None
    record = Record("broken", "/x.toml", "engine", network_namespace(), 0, Process(), done=[LinksDone((("gre1", 11),))])
    host.store.save(record)
    with pytest.raises(GinnelError, match="broken does not answer"):
        stacks.running("gre1")


def test_no_such_interface_and_no_tunnel(host: Host) -> None:
    assert stacks.running("gre1") is None
    with pytest.raises(GinnelError, match="eth0 is none of the tunnels that ginnel runs: it is not a tunnel at all"):
        stacks.running("eth0")


# ---------------------------------------------------------------- and what is said of it


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    code: int = command.mtu_.main([*argv], standalone_mode=False)
    return code, capsys.readouterr().out


def test_the_table_of_a_running_tunnel(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.serve("gre1")
    host.reach("198.51.100.2")
    code, printed = said(capsys, "gre1")
    assert code == 0
    assert printed.startswith("gre1: gre+csum+key on a path of 1500\n")
    assert "warning" not in printed


@pytest.mark.parametrize(
    ("mtu", "learned", "warning"),
    [
        (1476, None, "gre1 has an MTU of 1476, 8 more than fits: ip link set gre1 mtu 1468"),
        (1400, None, "gre1 has an MTU of 1400: it could be 1468"),
        (1468, 1300, "the path takes less, as ICMP or probes told: 1300"),
    ],
)
def test_warnings(host: Host, capsys: pytest.CaptureFixture[str], mtu: int, learned: int | None, warning: str) -> None:
    host.serve("gre1", mtu=mtu, path_mtu=learned)
    host.reach("198.51.100.2")
    assert warning in said(capsys, "gre1")[1]


def test_without_a_way_the_link_must_be_said(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.serve("gre1")
    with pytest.raises(GinnelError, match="there is no way to its remote now"):
        said(capsys, "gre1")
    assert said(capsys, "gre1", "--link", "1500")[0] == 0


def test_the_other_family_is_refused(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.serve("gre1")
    with pytest.raises(GinnelError, match="gre1 runs over IPv4"):
        said(capsys, "gre1", "--over", "ipv6")


@pytest.mark.parametrize(
    ("options", "through", "asked"),
    [
        ((), "gre1", (1468, "gre1")),
        ((), "eth0", (1500, "")),
        (("--outside",), "gre1", (1500, "")),
        (("--inside",), "eth0", (1468, "gre1")),
    ],
)
def test_where_the_host_is_decides_what_is_proven(
    host: Host,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    through: str,
    asked: tuple[int, str],
) -> None:
    host.serve("gre1")
    host.reach("198.51.100.2")
    index = next(one.index for one in host.links if one.name == through)
    host.ways[socket.inet_aton("10.0.0.2"), 0] = Way(index, None)
    calls = []

    def prove(address: str, expected: int, *, device: str = "") -> Proof:
        calls.append((expected, device))
        return Proof(expected, expected, Answer(expected + 1, "silent"), expected, 0)

    monkeypatch.setattr("ginnel.linux.echo.prove", prove)
    assert said(capsys, "gre1", "--prove", "10.0.0.2", *options)[0] == 0
    assert calls == [asked]
