"""
The UAPI socket of a running interface: Debian's `wg` unchanged, then the socket itself, then the bulk.

Every `wg` command is given to ginnel and to wireguard-go alike, and both must show the same afterwards. Where the kernel and
wireguard-go differ, or only the socket's own words show a rule, the raw conversation is tested.
"""

from __future__ import annotations

import base64
import os
import resource
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from namespaces import Namespace, Net, run, wait_until
from peers.nodes import Keys
from peers.running import Running, control_path, show, state_path, uapi, uapi_path

Start = Callable[..., Running]


@pytest.fixture
def start(net: Net, tmp_path: Path) -> Iterator[Start]:
    """`start(space)`: a running interface; ended at the end."""
    started: list[Running] = []

    def made(space: Namespace) -> Running:
        running = Running.start(space, net.unique("wg"), tmp_path, LOG_LEVEL="info")
        started.append(running)
        return running

    yield made
    for running in started:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(timeout=10)
        for path in (uapi_path, control_path, state_path):
            path(running.interface).unlink(missing_ok=True)


@pytest.fixture
def one(start: Start, net: Net) -> Running:
    """One running interface."""
    return start(net.namespace("d"))


@pytest.fixture
def reference(net: Net) -> Iterator[str]:
    """The name of an interface that wireguard-go runs."""
    space, name = net.namespace("ref"), net.unique("wr")
    process = space.popen("wireguard-go", "-f", name, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(uapi_path(name).exists, 10, "wireguard-go")
    yield name
    process.terminate()
    process.wait(timeout=10)
    uapi_path(name).unlink(missing_ok=True)


def wg(*argv: str, stdin: str = "") -> str:
    """`wg ...`; its stdout."""
    return run(["wg", *argv], stdin=stdin)


def shown(interface: str) -> str:
    """
    What `wg showconf` and `wg show dump` say, without the interface's name; peers in the order of their keys.

    A port that nobody set is left out: wireguard-go opens its sockets at once, ginnel when the link is set up.
    """
    sections = sorted(wg("showconf", interface).split("\n[Peer]\n"))
    lines = [line.split("\t") for line in wg("show", interface, "dump").splitlines()]
    port = lines[0][2]
    if port not in CHOSEN_PORTS:
        lines[0][2] = "any"
        sections = [section.replace(f"ListenPort = {port}\n", "") for section in sections]
    return "\n".join(sections + ["\t".join(line) for line in lines[:1] + sorted(lines[1:])])


CHOSEN_PORTS = {"51976", "51977"}
PRIVATE, PSK = Keys.fresh(), run(["wg", "genpsk"]).strip()
A, B, C = Keys.fresh().public, Keys.fresh().public, Keys.fresh().public
FULL = f"""\
[Interface]
PrivateKey = {PRIVATE.private}
ListenPort = 51977
FwMark = 0x1234

[Peer]
PublicKey = {A}
PresharedKey = {PSK}
AllowedIPs = 10.1.0.0/16, fd00:1::/32, 10.9.9.9/32
Endpoint = 192.0.2.1:1001
PersistentKeepalive = 21

[Peer]
PublicKey = {B}
AllowedIPs = 10.2.0.0/16
Endpoint = [2001:db8::2]:1002

[Peer]
PublicKey = {C}
"""

#: Each a list of commands: arguments of `wg` with IF for the interface, and what it reads.
SEQUENCES: dict[str, list[tuple[list[str], str]]] = {
    "setconf": [(["setconf", "IF", "/dev/stdin"], FULL)],
    "setconf replaces": [
        (["setconf", "IF", "/dev/stdin"], FULL),
        (["setconf", "IF", "/dev/stdin"], f"[Interface]\nPrivateKey = {PRIVATE.private}\n[Peer]\nPublicKey = {B}\n"),
    ],
    "setconf unsets key and mark": [(["setconf", "IF", "/dev/stdin"], FULL), (["setconf", "IF", "/dev/stdin"], "[Interface]\n")],
    "addconf appends": [
        (["setconf", "IF", "/dev/stdin"], FULL),
        (["addconf", "IF", "/dev/stdin"], f"[Peer]\nPublicKey = {C}\nAllowedIPs = 10.3.0.0/16\n"),
    ],
    "syncconf changes what differs": [
        (["setconf", "IF", "/dev/stdin"], FULL),
        (
            ["syncconf", "IF", "/dev/stdin"],
            (
                f"[Interface]\nPrivateKey = {PRIVATE.private}\nListenPort = 51977\n"
                f"[Peer]\nPublicKey = {A}\nAllowedIPs = 10.1.0.0/16\n"
                f"[Peer]\nPublicKey = {B}\nAllowedIPs = 10.2.0.0/16, 10.4.0.0/16\n"
            ),
        ),
    ],
    "set of each thing": [
        (["set", "IF", "private-key", "/dev/stdin"], PRIVATE.private),
        (["set", "IF", "listen-port", "51976", "fwmark", "77"], ""),
        (
            [
                "set",
                "IF",
                "peer",
                A,
                "allowed-ips",
                "10.1.2.3/8,fd00::1/64",
                "endpoint",
                "192.0.2.1:9",
                "persistent-keepalive",
                "9",
            ],
            "",
        ),
        (["set", "IF", "peer", A, "preshared-key", "/dev/stdin"], PSK),
        (["set", "IF", "peer", B, "allowed-ips", "::/0,0.0.0.0/0"], ""),
    ],
    "a psk and a keepalive go": [
        (["setconf", "IF", "/dev/stdin"], FULL),
        (["set", "IF", "peer", A, "preshared-key", "/dev/null", "persistent-keepalive", "off"], ""),
    ],
    "a prefix moves to the last who asks": [
        (["setconf", "IF", "/dev/stdin"], FULL),
        (["set", "IF", "peer", B, "allowed-ips", "10.1.0.0/16"], ""),
        (["set", "IF", "peer", C, "allowed-ips", "10.1.0.0/24"], ""),
    ],
    "no prefixes left": [(["setconf", "IF", "/dev/stdin"], FULL), (["set", "IF", "peer", A, "allowed-ips", ""], "")],
    "removed": [(["setconf", "IF", "/dev/stdin"], FULL), (["set", "IF", "peer", A, "remove", "peer", B, "remove"], "")],
    "removed twice and never there": [
        (["setconf", "IF", "/dev/stdin"], FULL),
        (["set", "IF", "peer", A, "remove"], ""),
        (["set", "IF", "peer", A, "remove"], ""),
    ],
    "the private key goes": [
        (["setconf", "IF", "/dev/stdin"], FULL),
        (["set", "IF", "private-key", "/dev/null", "fwmark", "off"], ""),
    ],
    "our own key is no peer": [
        (["setconf", "IF", "/dev/stdin"], FULL),
        (["set", "IF", "peer", PRIVATE.public, "allowed-ips", "10.66.0.0/16"], ""),
    ],
    "a peer that becomes ourselves goes": [
        (["set", "IF", "peer", PRIVATE.public, "allowed-ips", "10.66.0.0/16"], ""),
        (["set", "IF", "private-key", "/dev/stdin"], PRIVATE.private),
    ],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_wg_does_to_ginnel_what_it_does_to_wireguard_go(one: Running, reference: str, name: str) -> None:
    for interface in (one.interface, reference):
        for argv, stdin in SEQUENCES[name]:
            wg(*[interface if word == "IF" else word for word in argv], stdin=stdin)
    assert shown(one.interface) == shown(reference)


def test_a_private_key_reads_back_clamped(one: Running) -> None:
    raw = bytes([0xFF] * 32)
    wg("set", one.interface, "private-key", "/dev/stdin", stdin=base64.b64encode(raw).decode())
    clamped = base64.b64decode(wg("show", one.interface, "private-key").strip())
    assert clamped == bytes([0xF8]) + raw[1:31] + bytes([0x7F])


def test_setconf_while_up_listens_on_the_new_port(one: Running) -> None:
    one.space.ip("link", "set", one.interface, "up")
    wait_until(lambda: show(one.interface)["state"] == "up", 5, "up")
    random_port = wg("show", one.interface, "listen-port").strip()
    assert random_port != "0", "a random port is told once it is bound"
    wg("setconf", one.interface, "/dev/stdin", stdin=FULL)
    assert wg("show", one.interface, "listen-port") == "51977\n"
    assert one.space.run("ss", "-Hlun").count(":51977") == 2
    assert wg("show", one.interface, "fwmark") == "0x1234\n"


def test_wg_shows_every_interface_that_runs(one: Running) -> None:
    assert one.interface in wg("show", "interfaces").split()
    assert f"interface: {one.interface}\n" in wg("show", "all")


# ---------------------------------------------------------------- the conversation itself


KEY = "ab" * 32


def test_several_operations_on_one_connection(one: Running) -> None:
    said = uapi(one.interface, f"set=1\nfwmark=5\n\nget=1\n\nset=1\nfwmark=0\npublic_key={KEY}\n\nget=1\n\n")
    first, second, third, fourth, rest = said.split("\n\n")
    assert (first, second, third, rest) == ("errno=0", "fwmark=5\nerrno=0", "errno=0", "")
    assert fourth == (
        f"public_key={KEY}\npreshared_key={'0' * 64}\nprotocol_version=1\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n"
        "tx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\nerrno=0"
    )


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ("set=1\nfwmark=x\n\n", "errno=-22\n\n"),
        ("set=1\nfwmark\n\n", "errno=-71\n\n"),
        ("set=1\nnonsense=1\n\n", "errno=-22\n\n"),
        (f"set=1\npublic_key={KEY}\nprotocol_version=2\n\n", "errno=-22\n\n"),
        ("get=1\nfwmark=1\n\n", "errno=22\n\n"),
        ("frobnicate=1\n\n", ""),
        ("\n", ""),
    ],
)
def test_what_cannot_be_understood_has_its_errno_and_is_closed_upon(one: Running, request_text: str, answer: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(uapi_path(one.interface)))
        sock.sendall(request_text.encode())
        said = b""
        while data := sock.recv(4096):
            said += data
    assert said.decode() == answer


def test_lines_before_a_wrong_one_stay_applied(one: Running) -> None:
    said = uapi(one.interface, f"set=1\nfwmark=9\npublic_key={KEY}\nallowed_ip=10.0.0.0/8\nallowed_ip=nonsense\n\n")
    assert said == "errno=-22\n\n"
    now = uapi(one.interface, "get=1\n\n")
    assert "fwmark=9\n" in now
    assert f"public_key={KEY}\n" in now
    assert "allowed_ip=10.0.0.0/8\n" in now


def test_a_connection_that_ends_early_has_applied_what_it_said(one: Running) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(uapi_path(one.interface)))
        sock.sendall(f"set=1\npublic_key={KEY}\nallowed_ip=10.0.0.0/8\n".encode())
    wait_until(lambda: "allowed_ip=10.0.0.0/8\n" in uapi(one.interface, "get=1\n\n"), 5, "the peer")


def test_update_only_and_remove_make_nothing(one: Running) -> None:
    assert uapi(one.interface, f"set=1\npublic_key={KEY}\nupdate_only=true\nallowed_ip=10.0.0.0/8\n\n") == "errno=0\n\n"
    assert uapi(one.interface, f"set=1\npublic_key={KEY}\nremove=true\nallowed_ip=10.0.0.0/8\n\n") == "errno=0\n\n"
    assert uapi(one.interface, "get=1\n\n") == "errno=0\n\n"
    uapi(one.interface, f"set=1\npublic_key={KEY}\nallowed_ip=10.0.0.0/8\n\n")
    uapi(one.interface, f"set=1\npublic_key={KEY}\nupdate_only=true\nallowed_ip=-10.0.0.0/8\nallowed_ip=10.1.0.0/16\n\n")
    now = uapi(one.interface, "get=1\n\n")
    assert "allowed_ip=10.1.0.0/16\n" in now
    assert "10.0.0.0/8" not in now


# ---------------------------------------------------------------- bulk


def prefix_lines(count: int) -> str:
    """Half IPv4, half IPv6."""
    half = count // 2
    return "".join(f"allowed_ip=10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32\n" for i in range(half)) + "".join(
        f"allowed_ip=fd00::{i >> 16:x}:{i & 0xFFFF:x}/128\n" for i in range(count - half)
    )


def test_130560_prefixes_in_one_set_and_one_get(one: Running) -> None:
    began = time.monotonic()
    assert uapi(one.interface, f"set=1\npublic_key={KEY}\nreplace_allowed_ips=true\n{prefix_lines(130_560)}\n") == "errno=0\n\n"
    set_s = time.monotonic() - began
    began = time.monotonic()
    said = uapi(one.interface, "get=1\n\n")
    get_s = time.monotonic() - began
    assert said.count("allowed_ip=") == 130_560
    assert (set_s < 3, get_s < 3) == (True, True), f"set {set_s:.2f} s, get {get_s:.2f} s"
    assert len(wg("show", one.interface, "allowed-ips").split()) == 130_561


def setconf_text(peers: int) -> str:
    """A configuration with so many peers, each with a prefix and an endpoint."""
    sections = [
        f"[Peer]\nPublicKey = {base64.b64encode(os.urandom(32)).decode()}\n"
        f"AllowedIPs = 10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32\nEndpoint = 192.0.2.{i % 250 + 1}:{i % 60_000 + 1}\n"
        for i in range(peers)
    ]
    return f"[Interface]\nPrivateKey = {PRIVATE.private}\nListenPort = 51975\n" + "".join(sections)


def cost_s(running: Running, *argv: str, stdin: str = "") -> float:
    """
    Processor seconds that a command takes, its own and the daemon's.

    They wait for each other, so on a machine with nothing else to do that is the time it takes; on a busy one it is still true.
    """
    daemon_s, before = running.cpu_s(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run(list(argv), stdin=stdin)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return running.cpu_s() - daemon_s + after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_ten_thousand_peers(one: Running) -> None:
    """Set within a second, shown within a tenth, 8 KiB each, and idle they cost nothing."""
    one.space.ip("link", "set", one.interface, "up")
    text = setconf_text(10_000)
    before_kb = one.status_kb("VmRSS")
    assert cost_s(one, "wg", "setconf", one.interface, "/dev/stdin", stdin=text) <= 1.0
    each_kb = (one.status_kb("VmRSS") - before_kb) / 10_000
    assert each_kb <= 8
    assert min(cost_s(one, "wg", "show", one.interface, "dump") for _ in range(5)) <= 0.1
    assert len(wg("show", one.interface, "dump").splitlines()) == 10_001
    assert cost_s(one, "wg", "syncconf", one.interface, "/dev/stdin", stdin=text) <= 2.0
    cpu_s, wakeups = one.cpu_s(), one.wakeups()
    time.sleep(5)
    assert one.cpu_s() - cpu_s <= 0.005 * 5, "half a percent of a core"
    assert one.wakeups() - wakeups <= 5 + 2


def test_a_reader_that_does_not_read_costs_nothing_and_holds_up_nobody(one: Running) -> None:
    uapi(one.interface, f"set=1\npublic_key={KEY}\n{prefix_lines(130_560)}\n")
    before_kb = one.status_kb("VmRSS")
    readers = [socket.socket(socket.AF_UNIX) for _ in range(16)]
    try:
        for reader in readers:
            reader.connect(str(uapi_path(one.interface)))
            reader.sendall(b"get=1\n\n" * 100)
        assert "errno=0" in uapi(one.interface, f"set=1\npublic_key={KEY}\npersistent_keepalive_interval=7\n\n")
        assert one.status_kb("VmRSS") - before_kb <= 16 * (256 + 20_000), "a piece and a list of prefixes for each"
        before_s = one.cpu_s()
        time.sleep(1)
        assert one.cpu_s() - before_s <= 0.02, "it does not spin on them"
        readers[0].settimeout(20)
        said = b""
        while said.count(b"errno=0\n\n") < 2:
            said += readers[0].recv(1 << 20)
        assert said.count(b"allowed_ip=") >= 130_560 * 2, "when it reads, it gets all of it"
    finally:
        for reader in readers:
            reader.close()
    assert "errno=0" in uapi(one.interface, "get=1\n\n")


def test_more_connections_than_are_served_wait_and_are_served(one: Running) -> None:
    idle = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    try:
        for sock in idle:
            sock.connect(str(uapi_path(one.interface)))
        late = idle.pop()
        late.sendall(b"get=1\n\n")
        assert select.select([late], [], [], 0.3)[0] == [], "64 are served; the rest wait in the backlog"
        for sock in idle:
            sock.close()
        late.settimeout(10)
        assert late.recv(100) == b"errno=0\n\n"
        late.close()
    finally:
        for sock in idle:
            sock.close()


def test_packets_pass_and_handshakes_are_answered_during_a_full_load(start: Start, net: Net) -> None:
    left_space, right_space = net.namespace("l"), net.namespace("r")
    net.veth(left_space, right_space, ["192.0.2.1/24"], ["192.0.2.2/24"])
    left, right = start(left_space), start(right_space)
    keys = {left.interface: Keys.fresh(), right.interface: Keys.fresh()}
    for running, other, port, inner in ((left, right, 1, 2), (right, left, 2, 1)):
        text = (
            f"[Interface]\nPrivateKey = {keys[running.interface].private}\nListenPort = 5197{port}\n[Peer]\n"
            f"PublicKey = {keys[other.interface].public}\nAllowedIPs = 10.77.0.{inner}/32\n"
            f"Endpoint = 192.0.2.{inner}:5197{inner}\n"
        )
        wg("setconf", running.interface, "/dev/stdin", stdin=text)
        running.space.ip("address", "add", f"10.77.0.{port}/24", "dev", running.interface)
        running.space.ip("link", "set", running.interface, "up")
    lines = prefix_lines(130_560).replace("=10.", "=11.")
    stop = threading.Event()
    loads: list[str] = []

    def load() -> None:
        while not stop.is_set():
            loads.append(uapi(right.interface, f"set=1\npublic_key={KEY}\nreplace_allowed_ips=true\n{lines}\n"))

    loader = threading.Thread(target=load)
    loader.start()
    try:
        worst_s = 0.0
        for _ in range(5):  # down and up forgets sessions: each first ping needs a handshake, answered amid the load
            left_space.ip("link", "set", left.interface, "down")
            wait_until(lambda: show(left.interface)["state"] == "down", 5, "down")
            left_space.ip("link", "set", left.interface, "up")
            left_space.ip("address", "replace", "10.77.0.1/24", "dev", left.interface)
            wait_until(lambda: show(left.interface)["state"] == "up", 5, "up")
            began = time.monotonic()
            assert left_space.ping("10.77.0.2", within_s=5)
            worst_s = max(worst_s, time.monotonic() - began)
            time.sleep(0.2)  # pace: an initiation within 20 ms of the last one consumed is refused, and the next try is 5 s later
    finally:
        stop.set()
        loader.join()
    assert set(loads) == {"errno=0\n\n"}
    assert worst_s < 1.0, f"a handshake took {worst_s:.2f} s"
