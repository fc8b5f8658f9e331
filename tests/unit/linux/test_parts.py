"""The parts of `linux`, each alone: the UAPI client, records, DNS, nft, endpoints, tables, saving, interfaces."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ginnel.config import wgquick
from ginnel.config.wgquick import HostPort
from ginnel.errors import GinnelError, KernelError
from ginnel.linux import endpoints, links, nft, uapi
from ginnel.linux.backend import Process, control, end_process, wait_gone
from ginnel.linux.device_lines import device_lines, port_number
from ginnel.linux.dns import SystemResolver
from ginnel.linux.host import Rule
from ginnel.linux.kernel_wireguard import requests
from ginnel.linux.record import DnsDone, FirewallDone, LinkDone, Record, RuleDone, Store
from ginnel.linux.saving import saved_text
from ginnel.linux.shell import Bash, HookError
from ginnel.linux.tables import table_number
from ginnel.units import Endpoint

KEY = "mEEyFdKeEQWDxqZCT/qu2hr0gHnGKsdz8DgQYIPjJ2M="
A = "UbjMLkDPHcFlIhOlcuwHUc6VyUuBrGgr2NEGaNdAKgo="
PSK = "8X2Qq9XGX6dJg0Rk2bCM4mZzQpV7cYFqVbWq3mHnL0M="

# ---------------------------------------------------------------- UAPI


class Served:
    """A socket that answers once with what it is given, in pieces, and remembers what it was asked."""

    def __init__(self, directory: Path, pieces: list[bytes], name: str = "wg0") -> None:
        self.asked = b""
        self.pieces = pieces
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / f"{name}.sock"))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            while not self.asked.endswith(b"\n") or self.asked.count(b"\n") < 2:
                piece = connection.recv(65536)
                if not piece:
                    break
                self.asked += piece
                if self.asked.startswith(b"{"):
                    break
            for piece in self.pieces:
                connection.sendall(piece)

    def close(self) -> None:
        self.thread.join(10)
        self.listener.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    made: list[Served] = []

    def start(*pieces: bytes) -> Served:
        made.append(Served(tmp_path, list(pieces)))
        return made[-1]

    yield start
    for each in made:
        each.close()


ANSWER = (
    b"private_key=" + b"12" * 32 + b"\nlisten_port=51820\nfwmark=9\n"
    b"public_key=" + b"ab" * 32 + b"\npreshared_key=" + b"0" * 64 + b"\nprotocol_version=1\nendpoint=[fe80::1%3]:5\n"
    b"last_handshake_time_sec=7\nlast_handshake_time_nsec=8\ntx_bytes=1\nrx_bytes=2\npersistent_keepalive_interval=25\n"
    b"allowed_ip=10.0.0.0/8\nallowed_ip=::/0\n"
    b"public_key=" + b"cd" * 32 + b"\npreshared_key=" + b"34" * 32 + b"\nsome_future_key=1\nerrno=0\n\n"
)


def test_a_device_is_read(serve: Any, tmp_path: Path) -> None:
    served = serve(ANSWER)
    device = uapi.read("wg0", tmp_path)
    assert served.asked == b"get=1\n\n"
    assert (device.private_key, device.listen_port, device.fwmark) == ("12" * 32, 51820, 9)
    first, second = device.peers
    assert first == uapi.DevicePeer("ab" * 32, "", "[fe80::1%3]:5", 7, 8, 2, 1, 25, ["10.0.0.0/8", "::/0"])
    assert second == uapi.DevicePeer("cd" * 32, "34" * 32)
    assert "12" * 32 not in repr(device)


def test_an_answer_may_come_in_any_pieces(serve: Any, tmp_path: Path) -> None:
    serve(*(bytes([byte]) for byte in ANSWER))
    assert len(uapi.read("wg0", tmp_path).peers) == 2


@pytest.mark.parametrize("size", [0, 1, 50, len(ANSWER) - 1, len(ANSWER) - 9])
def test_an_answer_cut_short_is_an_error(size: int, serve: Any, tmp_path: Path) -> None:
    serve(ANSWER[:size])
    with pytest.raises(GinnelError, match="cut short"):
        uapi.read("wg0", tmp_path)


def test_a_refusal_carries_its_number_whichever_sign(serve: Any, tmp_path: Path) -> None:
    serve(b"errno=-98\n\n")
    with pytest.raises(KernelError, match="configure wg0: Address already in use"):
        uapi.write("wg0", "listen_port=1\n", tmp_path)


def test_lines_are_sent_as_one_set(serve: Any, tmp_path: Path) -> None:
    served = serve(b"errno=0\n\n")
    uapi.write("wg0", "listen_port=1\nfwmark=2\n", tmp_path)
    assert served.asked == b"set=1\nlisten_port=1\nfwmark=2\n\n"


def test_dead_sockets_are_not_served(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    (tmp_path / "file.sock").touch()
    assert uapi.served_names(tmp_path) == []
    assert uapi.served_names(tmp_path / "none") == []
    for name in ("dead", "none"):
        with pytest.raises(GinnelError, match=f"{name} is not served by any user-space WireGuard"):
            uapi.read(name, tmp_path)


def test_control_answers(serve: Any, tmp_path: Path) -> None:
    served = serve(b'{"ok": true}\n')
    assert control("wg0", {"op": "state"}, tmp_path) == {"ok": True}
    assert served.asked == b'{"op": "state"}\n'
    assert control("none", {"op": "state"}, tmp_path) is None


@pytest.mark.parametrize("answer", [b"", b"[]\n", b"nonsense\n", b'{"ok": false, "error": "no"}\n'])
def test_control_answers_that_are_errors(answer: bytes, serve: Any, tmp_path: Path) -> None:
    serve(answer)
    with pytest.raises(GinnelError):
        control("wg0", {"op": "state"}, tmp_path)


# ---------------------------------------------------------------- records


def test_a_record_is_written_and_read_back_for_root_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    record = Record("wg0", "/x.conf", "engine", "net:[1]", 5, Process.of(os.getpid()), Process(7, 8, "b"), True, "off", 3)
    record.done = [
        LinkDone("wg0", 4),
        RuleDone(Rule(6, 100, "unmarked", 1, 2)),
        RuleDone(Rule(4, 99, "specific", 0, 0)),
        FirewallDone("wg0", (4, 6)),
        DnsDone({"kind": "resolvconf", "key": "tun.wg0"}),
    ]
    record.hooks = {"pre_down": ["a"], "post_down": []}
    store.save(record)
    assert store.load("wg0") == record
    assert store.path("wg0").stat().st_mode & 0o777 == 0o600
    assert store.names() == ["wg0"]
    store.delete("wg0")
    store.delete("wg0")
    assert store.load("wg0") is None


@pytest.mark.parametrize("spoil", ["", "{}", "[]", '{"schema": "ginnel.record/2"}', "null"])
def test_a_record_that_cannot_be_read_is_said_never_guessed(spoil: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path("wg0").write_text(spoil)
    with pytest.raises(GinnelError, match="undo that by hand, then delete the file"):
        store.load("wg0")


def test_an_unknown_effect_is_not_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = Record("wg0", "x", "engine", "", 0, Process())
    plain = json.loads(record.to_json())
    plain["done"] = [{"kind": "from the future"}]
    store.path("wg0").write_text(json.dumps(plain))
    with pytest.raises(GinnelError, match="not an effect that this version knows"):
        store.load("wg0")


def test_a_process_is_not_taken_for_a_later_one() -> None:
    here = Process.of(os.getpid())
    assert here.alive
    assert not Process(here.pid, here.start_ticks + 1, here.boot_id).alive
    assert not Process(here.pid, here.start_ticks, "another boot").alive
    assert not Process().alive
    child = subprocess.Popen(["true"])
    process = Process.of(child.pid)
    assert wait_gone(process, 10)
    assert not process.alive
    child.wait()


def test_a_process_that_will_not_end_is_made_to() -> None:
    child = subprocess.Popen(
        ["python3", "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    process = Process.of(child.pid)
    end_process(process, 0.2)
    assert not process.alive
    child.wait()
    child.stdout.close()


# ---------------------------------------------------------------- DNS by the file


@pytest.fixture
def resolver(tmp_path: Path) -> SystemResolver:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "etc" / "resolv.conf").write_text("nameserver 1.1.1.1\n")
    return SystemResolver(tmp_path / "run", tmp_path / "etc")


def method(tmp_path: Path, name: str) -> dict[str, str]:
    backup = tmp_path / "run" / f"{name}.resolv.conf"
    return {"kind": "file", "interface": name, "path": str(tmp_path / "etc" / "resolv.conf"), "backup": str(backup)}


def test_the_file_is_written_and_restored(resolver: SystemResolver, tmp_path: Path) -> None:
    path = tmp_path / "etc" / "resolv.conf"
    path.chmod(0o644)
    way = method(tmp_path, "wg0")
    resolver.install(way, ["10.0.0.53"], ["corp"])
    assert path.read_text().splitlines()[1:] == ["nameserver 10.0.0.53", "search corp"]
    assert path.stat().st_mode & 0o777 == 0o644
    resolver.remove(way)
    assert path.read_text() == "nameserver 1.1.1.1\n"
    resolver.remove(way)
    assert [each.name for each in (tmp_path / "run").iterdir()] == []


@pytest.mark.parametrize("order", [("wg0", "wg1"), ("wg1", "wg0")])
def test_stacked_tunnels_restore_in_any_order(order: tuple[str, str], resolver: SystemResolver, tmp_path: Path) -> None:
    for name in ("wg0", "wg1"):
        resolver.install(method(tmp_path, name), ["10.0.0.53"], [])
    for name in order:
        resolver.remove(method(tmp_path, name))
    assert (tmp_path / "etc" / "resolv.conf").read_text() == "nameserver 1.1.1.1\n"


def test_a_file_that_somebody_else_wrote_meanwhile_is_left(resolver: SystemResolver, tmp_path: Path) -> None:
    way = method(tmp_path, "wg0")
    resolver.install(way, ["10.0.0.53"], [])
    (tmp_path / "etc" / "resolv.conf").write_text("nameserver 9.9.9.9\n")
    resolver.remove(way)
    assert (tmp_path / "etc" / "resolv.conf").read_text() == "nameserver 9.9.9.9\n"


def test_a_link_is_followed_not_replaced(resolver: SystemResolver, tmp_path: Path) -> None:
    path = tmp_path / "etc" / "resolv.conf"
    path.rename(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    way = method(tmp_path, "wg0")
    resolver.install(way, ["10.0.0.53"], [])
    assert path.is_symlink()
    resolver.remove(way)
    assert (tmp_path / "real").read_text() == "nameserver 1.1.1.1\n"


def test_a_crash_between_backup_and_file_leaves_the_old_text(resolver: SystemResolver, tmp_path: Path) -> None:
    way = method(tmp_path, "wg0")
    Path(way["backup"]).write_text("nameserver 1.1.1.1\n")
    resolver.remove(way)
    assert (tmp_path / "etc" / "resolv.conf").read_text() == "nameserver 1.1.1.1\n"
    assert not Path(way["backup"]).exists()


def test_resolvectl_gets_all_names(monkeypatch: pytest.MonkeyPatch, resolver: SystemResolver, tmp_path: Path) -> None:
    program = tmp_path / "resolvectl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    way = {"kind": "resolvectl", "interface": "wg0"}
    assert resolver.words(way, ["10.0.0.53"], ["corp"]) == ["resolvectl dns wg0 10.0.0.53 && resolvectl domain wg0 corp ~."]
    resolver.install(way, ["10.0.0.53"], ["corp"])
    resolver.remove(way)
    assert (tmp_path / "calls").read_text().splitlines() == ["dns wg0 10.0.0.53", "domain wg0 corp ~.", "revert wg0"]


# ---------------------------------------------------------------- endpoints


def test_a_name_that_does_not_exist_fails_at_once() -> None:
    notes: list[str] = []

    def ask(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(GinnelError, match=r"endpoint a\.example:5: Name or service not known"):
        endpoints.resolve(HostPort("a.example", "5"), notes.append, ask=ask, sleep=notes.append)  # type: ignore[arg-type]
    assert notes == []


def test_a_silent_name_server_is_asked_fifteen_times_more() -> None:
    slept: list[float] = []
    notes: list[str] = []

    def ask(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.raises(GinnelError, match="is the network up"):
        endpoints.resolve(HostPort("a.example", "5"), notes.append, ask=ask, sleep=slept.append)
    assert len(slept) == 15
    assert slept[:3] == [1.0, 1.2, 1.44]
    assert max(slept) <= 20
    assert notes[0] == "Temporary failure in name resolution: `a.example:5'. Trying again in 1.00 seconds..."


@pytest.mark.parametrize(("value", "tries"), [("3", 3), ("0", 0), ("nonsense", 15)])
def test_the_number_of_tries_is_wgs_variable(value: str, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WG_ENDPOINT_RESOLUTION_RETRIES", value)
    assert len(list(endpoints.pauses(endpoints._retries()))) == tries
    monkeypatch.setenv("WG_ENDPOINT_RESOLUTION_RETRIES", "infinity")
    assert endpoints._retries() is None


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (HostPort("192.0.2.1", "5"), Endpoint.parse("192.0.2.1:5")),
        (HostPort("2001:db8::1", "domain"), Endpoint.parse("[2001:db8::1]:53")),
        (HostPort("fe80::1%lo", "5"), Endpoint(socket.inet_pton(socket.AF_INET6, "fe80::1"), 5, 1)),
    ],
)
def test_addresses_are_endpoints(where: HostPort, expected: Endpoint) -> None:
    assert endpoints.resolve(where, print) == expected


# ---------------------------------------------------------------- the rest


def test_device_lines_say_everything_of_a_file() -> None:
    file = wgquick.parse(
        f"[Interface]\nPrivateKey={KEY}\nListenPort=domain\nFwMark=5\n[Peer]\nPublicKey={A}\nPresharedKey={PSK}\n"
        "AllowedIPs=10.0.0.0/8\nPersistentKeepalive=off\nEndpoint=192.0.2.1:5\n[Peer]\nPublicKey=" + PSK
    )
    lines = device_lines(file, {file.peers[0].public_key: Endpoint.parse("192.0.2.1:5")}).splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "private_key", "listen_port", "fwmark", "public_key", "preshared_key", "endpoint", "persistent_keepalive_interval",
        "replace_allowed_ips", "allowed_ip", "public_key", "replace_allowed_ips",
    ]  # fmt: skip
    assert "listen_port=53" in lines
    with pytest.raises(GinnelError, match="expected a port or a UDP service"):
        port_number("nosuchservice")


def test_tables_by_name_and_number(tmp_path: Path) -> None:
    (tmp_path / "rt_tables").write_text("# c\n254 main\n100\tvpn # x\n0xc8 hex\nnonsense\n")
    (tmp_path / "rt_tables.d").mkdir()
    (tmp_path / "rt_tables.d" / "more.conf").write_text("101 extra\n")
    places = (tmp_path, tmp_path / "none")
    found = [table_number(name, places) for name in ("main", "vpn", "hex", "extra", "7", "nosuch", "local")]
    assert found == [254, 100, 200, 101, 7, None, 255]


def test_nft_names_fit_nfts_words() -> None:
    assert nft.table_name("a=b+c") == "ginnel-a/3db/2bc"
    script = nft.full_tunnel("wg0", 51820, ["10.0.0.1/24", "fd00::1/64"], [6])
    assert "ip6 daddr fd00::1" in script
    assert "10.0.0.1" not in script
    assert nft.removal("wg0", [4]) == "add table ip ginnel-wg0\ndelete table ip ginnel-wg0\n"


def test_hooks_end_at_the_first_failure_and_know_their_interface(tmp_path: Path) -> None:
    Bash().run(f"echo %i > {tmp_path}/out; [[ a == @(a|b) ]]", "wg0")
    assert (tmp_path / "out").read_text() == "wg0\n"
    with pytest.raises(HookError, match="ended with 7"):
        Bash().run(f"(exit 7); touch {tmp_path}/never", "wg0")
    assert not (tmp_path / "never").exists()


def test_what_is_saved_can_be_read_again() -> None:
    file = wgquick.parse(f"[Interface]\nPostUp = x # y\nTable = off\nMTU = 1400\n[Peer]\n# Name = a\nPublicKey={A}\n")
    device = uapi.parse("wg0", ANSWER.replace(b"ab" * 32, bytes.fromhex(file.peers[0].public_key.hex()).hex().encode()))
    text = saved_text(file, device, addresses=["10.0.0.1/24", "fe80::5/64"], mtu=1380, chosen_fwmark=9)
    again = wgquick.parse(text.replace("[fe80::1%3]", "[fe80::1]"))
    assert again.interface.addresses == ("10.0.0.1/24",)
    assert (again.interface.mtu, again.interface.table, again.interface.fwmark) == (1380, "off", None)
    assert again.interface.hooks == file.interface.hooks
    assert [peer.name for peer in again.peers] == ["a", ""]
    assert again.peers[0].persistent_keepalive == 25


def test_the_interfaces_are_those_of_ip() -> None:
    theirs = json.loads(subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, text=True, check=True).stdout)
    expected = [
        (link["ifname"], link["ifindex"], link["mtu"], "UP" in link["flags"], link.get("linkinfo", {}).get("info_kind", ""))
        for link in theirs
    ]
    assert [(link.name, link.index, link.mtu, link.is_up, link.kind) for link in links.links()] == expected
    assert links.link("lo") is not None
    assert links.link("nosuchlink") is None


def test_the_kernels_requests_are_what_uapi_lines_say() -> None:
    key = "ab" * 32
    interface, peers = requests(
        f"private_key={key}\nlisten_port=5\nfwmark=6\npublic_key={key}\npreshared_key={key}\nendpoint=[2001:db8::1]:7\n"
        f"persistent_keepalive_interval=8\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\npublic_key={'cd' * 32}\nremove=true\n"
    )
    assert interface == {"private_key": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "listen_port": 5, "fwmark": 6}
    assert peers[0]["endpoint_addr"] == "2001:db8::1"
    assert peers[0]["allowed_ips"] == ["10.0.0.0/8"]
    assert peers[1]["remove"] is True
    with pytest.raises(GinnelError, match="cannot be told allowed_ip"):
        requests(f"public_key={key}\nallowed_ip=-10.0.0.0/8\n")
