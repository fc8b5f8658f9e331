"""
The process that owns a tunnel, from its start to each of its ends, on real devices, namespaces and sockets.

What a person meets when something is wrong (no TUN driver, no right, name taken, port taken, device deleted or moved, socket
removed, killed, clock set back, a name that does not resolve) is here with the message that it must give.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from namespaces import Namespace, Net, run, wait_until
from peers.nodes import Keys
from peers.running import BARE, DAEMON, ENVIRONMENT, Running, ask, control_path, show, state_path, uapi, uapi_path

Start = Callable[..., Running]


@pytest.fixture
def start(net: Net, tmp_path: Path) -> Iterator[Start]:
    """`start(space)`: a running interface with a name of its own; ended, and its state forgotten, at the end."""
    started: list[Running] = []

    def made(space: Namespace, interface: str = "", **environment: str) -> Running:
        running = Running.start(space, interface or net.unique("wg"), tmp_path, **environment)
        started.append(running)
        return running

    yield made
    for running in started:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(timeout=10)
        for path in (uapi_path, control_path, state_path):
            path(running.interface).unlink(missing_ok=True)


def configure(running: Running, keys: Keys, port: int, *peers: tuple[str, str, str], psk: str = "") -> None:
    """Key, port and peers (public key, prefixes, endpoint or nothing) by `wg setconf`."""
    sections = [f"[Interface]\nPrivateKey = {keys.private}\nListenPort = {port}\n"]
    for public, prefixes, endpoint in peers:
        where = f"Endpoint = {endpoint}\n" if endpoint else ""
        secret = f"PresharedKey = {psk}\n" if psk else ""
        sections.append(f"[Peer]\nPublicKey = {public}\nAllowedIPs = {prefixes}\n{where}{secret}")
    running.space.run("wg", "setconf", running.interface, "/dev/stdin", stdin="\n".join(sections))


def address_and_up(space: Namespace, interface: str, address: str) -> None:
    """Give the device its address and set it up."""
    space.ip("address", "add", address, "dev", interface)
    space.ip("link", "set", interface, "up")


class Joined:
    """Two running interfaces, configured and up: 10.77.0.1 with the other's endpoint, 10.77.0.2 without."""

    def __init__(self, net: Net, start: Start, *, psk: str = "") -> None:
        self.left_space, self.right_space = net.namespace("l"), net.namespace("r")
        self.veth = net.veth(self.left_space, self.right_space, ["192.0.2.1/24"], ["192.0.2.2/24"])
        self.left_keys, self.right_keys = Keys.fresh(), Keys.fresh()
        self.psk = psk
        self.left, self.right = start(self.left_space), start(self.right_space)
        self.configure_left()
        self.configure_right()

    def configure_left(self) -> None:
        configure(self.left, self.left_keys, 51820, (self.right_keys.public, "10.77.0.2/32", "192.0.2.2:51821"), psk=self.psk)
        address_and_up(self.left_space, self.left.interface, "10.77.0.1/24")

    def configure_right(self) -> None:
        configure(self.right, self.right_keys, 51821, (self.left_keys.public, "10.77.0.1/32", ""), psk=self.psk)
        address_and_up(self.right_space, self.right.interface, "10.77.0.2/24")


# ---------------------------------------------------------------- beginning


def detached(space: Namespace, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that may leave a process behind; its streams are files' ends, not pipes that the process would hold open."""
    return subprocess.run(
        [*space.prefix(), *argv], env={**ENVIRONMENT, **environment}, capture_output=True, text=True, timeout=20, check=False
    )


def test_it_returns_when_usable_and_leaves_a_process_of_its_own(net: Net) -> None:
    space, name = net.namespace("d"), net.unique("wg")
    began = time.monotonic()
    done = detached(space, *BARE, name)
    took_s = time.monotonic() - began
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert space.succeeds("ip", "link", "show", name)
    assert "errno=0" in uapi(name, "get=1\n\n")
    pid = ask(name, {"op": "state"})["pid"]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, session = int(fields[1]), int(fields[3])
    assert parent != os.getpid()
    assert session == pid, "it leads a session of its own"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 5, "it to end, and be no zombie")
    assert not uapi_path(name).exists()
    assert not control_path(name).exists()
    assert not space.succeeds("ip", "link", "show", name)
    assert took_s < 2.0, "an interactive command waits for this"


def test_the_directory_is_for_all_and_the_sockets_for_root(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    assert uapi_path(running.interface).parent.stat().st_mode & 0o7777 == 0o755
    for path in (uapi_path, control_path):
        assert path(running.interface).stat().st_mode & 0o777 == 0o700 & ~0o077


def test_the_daemon_says_ready_on_its_descriptor(net: Net) -> None:
    space, name = net.namespace("d"), net.unique("wg")
    reading, writing = os.pipe()
    done = subprocess.run(
        [*space.prefix(), *DAEMON, "--interface", name, "--ready-fd", str(writing), "--config", "/etc/x.conf", "--mtu", "1380"],
        env=ENVIRONMENT, pass_fds=[writing], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True,
    )  # fmt: skip
    os.close(writing)
    with open(reading, encoding="ascii") as report:
        assert report.read() == "ready\n", "and nobody holds the pipe open any more"
    assert done.stderr == b""
    described = ask(name, {"op": "state"})
    assert (described["interface"], described["config"], described["state"]) == (name, "/etc/x.conf", "down")
    assert space.ip_json("link", "show", name)[0]["mtu"] == 1380
    assert ask(name, {"op": "stop"})["ok"]
    wait_until(lambda: not uapi_path(name).exists(), 5, "it to end")


def test_the_daemon_says_error_on_its_descriptor(net: Net) -> None:
    space, name = net.namespace("d"), net.unique("wg")
    space.ip("link", "add", name, "type", "veth", "peer", "name", net.unique("ve"))
    reading, writing = os.pipe()
    done = subprocess.run(
        [*space.prefix(), *DAEMON, "--interface", name, "--ready-fd", str(writing)],
        env=ENVIRONMENT, pass_fds=[writing], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    os.close(writing)
    with open(reading, encoding="ascii") as report:
        said = report.read()
    assert done.returncode == 1
    assert said.startswith(f"error: {name}: ")
    assert "an interface of that name exists" in said
    assert "an interface of that name exists" in done.stderr
    assert not uapi_path(name).exists()
    assert not control_path(name).exists()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--version"], 0, "ginnel-wireguard v"),
        (["--help"], 0, "usage: ginnel-wireguard"),
        ([], 1, "usage: ginnel-wireguard"),
        (["-f"], 1, "usage: ginnel-wireguard"),
        (["a", "b"], 1, "usage: ginnel-wireguard"),
        (["--bogus"], 1, "usage: ginnel-wireguard"),
        (["name-that-is-too-long"], 1, "expected the name of an interface, found 'name-that-is-too-long'"),
        (["../x"], 1, "one to fifteen letters"),
        ([".."], 1, "one to fifteen letters"),
    ],
)
def test_the_command_line(net: Net, arguments: list[str], code: int, expected: str) -> None:
    done = detached(net.namespace("d"), *BARE, *arguments)
    assert done.returncode == code
    assert expected in done.stdout + done.stderr
    assert (done.stdout == "") == (code != 0), "what was asked for is on stdout, what went wrong on stderr"


def test_a_name_that_runs_already_is_refused_and_the_running_one_unharmed(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    done = detached(running.space, *BARE, running.interface)
    assert done.returncode == 1
    assert "unix socket in use" in done.stderr
    assert "errno=0" in uapi(running.interface, "get=1\n\n")
    assert running.device()


def test_without_a_tun_driver_it_says_how_to_get_one(net: Net) -> None:
    space, name = net.namespace("d"), net.unique("wg")
    script = 'mount -t tmpfs none /dev/net 2>/dev/null || { mount -t tmpfs none /dev; }; exec "$@"'
    done = detached(space, "unshare", "-m", "sh", "-c", script, "sh", *BARE, name, WG_PROCESS_FOREGROUND="1")
    assert done.returncode == 1
    assert "/dev/net/tun: No such file or directory" in done.stderr
    assert "hint: there is no TUN driver: `modprobe tun`" in done.stderr
    assert "Traceback" not in done.stderr
    assert not uapi_path(name).exists()


def test_without_the_right_to_make_devices_it_says_which(net: Net) -> None:
    space, name = net.namespace("d"), net.unique("wg")
    done = detached(space, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *BARE, name)
    assert done.returncode == 1
    assert "Operation not permitted" in done.stderr
    assert "CAP_NET_ADMIN" in done.stderr
    assert not uapi_path(name).exists()


def test_it_adopts_a_listening_socket(net: Net, tmp_path: Path) -> None:
    space, name = net.namespace("d"), net.unique("wg")
    path = tmp_path / "adopted.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        os.set_inheritable(listener.fileno(), True)
        process = space.popen(
            *BARE, "-f", name, env={**ENVIRONMENT, "WG_UAPI_FD": str(listener.fileno())}, pass_fds=[listener.fileno()]
        )
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(b"get=1\n\n")
        assert sock.recv(100) == b"errno=0\n\n"
    path.unlink()
    assert process.wait(timeout=5) == 0, "it ends when that socket's file is removed"


def test_it_adopts_a_device(net: Net) -> None:
    space, name = net.namespace("d"), net.unique("wg")
    script = (
        "import fcntl,os,struct,sys; fd=os.open('/dev/net/tun',os.O_RDWR); "
        "fcntl.ioctl(fd,0x400454ca,struct.pack('16sH22x',sys.argv[1].encode(),0x1001|0x4000)); os.set_inheritable(fd,True); "
        "os.environ['WG_TUN_FD']=str(fd); os.execv(sys.argv[2],sys.argv[2:])"
    )
    process = space.popen("python3", "-c", script, name, *BARE, "-f", name, env=ENVIRONMENT)
    wait_until(control_path(name).exists, 10, "it to run")
    space.ip("link", "set", name, "up")
    wait_until(lambda: show(name)["state"] == "up", 5, "up")
    space.ip("link", "del", name)
    assert process.wait(timeout=5) == 0


def test_a_descriptor_that_is_none_is_refused(net: Net) -> None:
    done = detached(net.namespace("d"), *BARE, "wgx", WG_TUN_FD="77")
    assert (done.returncode, done.stderr) == (1, "WG_TUN_FD=77: no such descriptor is open\n")


# ---------------------------------------------------------------- ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(start: Start, net: Net, number: signal.Signals) -> None:
    running = start(net.namespace("d"))
    running.process.send_signal(number)
    assert running.ended() == 0
    assert not uapi_path(running.interface).exists()
    assert not control_path(running.interface).exists()
    assert not running.device()
    assert f"stopping interface={running.interface} reason={number.name}" in running.said()


def test_deleting_the_device_ends_it_at_once_and_its_name_is_free(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    running.space.ip("link", "set", running.interface, "up")
    wait_until(lambda: show(running.interface)["state"] == "up", 5, "the interface to be up")
    began = time.monotonic()
    running.space.ip("link", "del", running.interface)
    assert running.ended() == 0
    assert time.monotonic() - began < 1.0
    assert not uapi_path(running.interface).exists()
    again = start(running.space, running.interface)
    assert again.device()


def test_deleting_the_device_under_load_ends_one_side_and_leaves_the_other_at_rest(start: Start, net: Net) -> None:
    two = Joined(net, start)
    assert two.left_space.ping("10.77.0.2", within_s=3)
    flood = two.right_space.popen(
        "ping", "-q", "-f", "-s", "1200", "10.77.0.1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: show(two.left.interface)["peers"][0]["rx_packets"] > 1000, 10, "load")
    two.left_space.ip("link", "del", two.left.interface)
    assert two.left.ended() == 0
    flood.terminate()
    flood.wait(timeout=5)
    wakeups, cpu_s = two.right.wakeups(), two.right.cpu_s()
    time.sleep(3)
    assert two.right.cpu_s() - cpu_s <= 0.03, "it asks for the peer that went, and rests in between"
    assert two.right.wakeups() - wakeups <= 30


def test_deleting_the_device_while_it_is_down_ends_it(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    running.space.ip("link", "del", running.interface)
    assert running.ended() == 0


def test_removing_the_uapi_socket_ends_it(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    uapi_path(running.interface).unlink()
    assert running.ended() == 0
    assert not running.device()
    assert "socket_removed" in running.said()


def test_replacing_the_uapi_socket_ends_it_and_leaves_the_new_file(start: Start, net: Net, tmp_path: Path) -> None:
    running = start(net.namespace("d"))
    other = uapi_path(running.interface).with_suffix(".new")
    other.write_text("somebody else's")
    other.rename(uapi_path(running.interface))
    assert running.ended() == 0
    assert uapi_path(running.interface).read_text() == "somebody else's"


def test_killed_it_is_mended_by_the_next_start(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    running.process.kill()
    running.ended()
    assert uapi_path(running.interface).exists(), "what a killed process leaves"
    again = start(running.space, running.interface)
    assert "errno=0" in uapi(again.interface, "get=1\n\n")
    assert again.device()


# ---------------------------------------------------------------- the link


def test_up_and_down_open_and_close_the_sockets(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    listening = lambda: running.space.run("ss", "-Hlun").count(":51999")  # noqa: E731
    uapi(running.interface, "set=1\nlisten_port=51999\n\n")
    assert listening() == 0
    running.space.ip("link", "set", running.interface, "up")
    wait_until(lambda: listening() == 2, 5, "one socket for each family")
    running.space.ip("link", "set", running.interface, "down")
    wait_until(lambda: listening() == 0, 5, "no sockets")
    assert show(running.interface)["state"] == "down"


def test_a_port_that_the_system_chose_is_kept_across_down_and_up(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    running.space.ip("link", "set", running.interface, "up")
    port = wait_until(lambda: show(running.interface)["listen_port"], 5, "a port")
    running.space.ip("link", "set", running.interface, "down")
    wait_until(lambda: show(running.interface)["state"] == "down", 5, "down")
    assert show(running.interface)["listen_port"] == port
    running.space.ip("link", "set", running.interface, "up")
    wait_until(lambda: show(running.interface)["state"] == "up", 5, "up")
    assert show(running.interface)["listen_port"] == port
    assert uapi(running.interface, "set=1\nlisten_port=0\n\n") == "errno=0\n\n"
    assert show(running.interface)["listen_port"] not in (0, port), "asked for another one, it chooses another one"


def test_a_changed_mtu_is_followed(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    assert show(running.interface)["mtu"] == 1420
    running.space.ip("link", "set", running.interface, "mtu", "1300")
    wait_until(lambda: show(running.interface)["mtu"] == 1300, 5, "the new MTU")


def test_a_taken_port_is_said_and_another_one_mends_it(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    holder = (
        "import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); "
        "s.bind(('0.0.0.0',51999)); print('bound',flush=True); sys.stdin.read()"
    )
    other = running.space.popen("python3", "-c", holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"bound\n"
    uapi(running.interface, "set=1\nlisten_port=51999\n\n")
    running.space.ip("link", "set", running.interface, "up")
    wait_until(lambda: show(running.interface)["warnings"], 5, "a warning")
    assert "UDP port 51999: Address already in use" in show(running.interface)["warnings"][0]
    assert show(running.interface)["state"] == "down"
    assert "link_up_failed" in running.said()
    assert uapi(running.interface, "set=1\nlisten_port=51999\n\n") == "errno=-98\n\n", "still taken, and wg is told"
    assert uapi(running.interface, "set=1\nlisten_port=51998\n\n") == "errno=0\n\n"
    assert show(running.interface)["state"] == "up"
    assert show(running.interface)["warnings"] == []
    assert uapi(running.interface, "set=1\nlisten_port=51999\n\n") == "errno=-98\n\n"
    assert "listen_port=51998\n" in uapi(running.interface, "get=1\n\n"), "the old port is kept"


def test_moved_into_another_namespace_it_carries_through_the_old_one(start: Start, net: Net) -> None:
    """A container whose only way out is the tunnel: the device lives inside, its sockets outside."""
    two = Joined(net, start)
    inside = net.namespace("in")
    assert two.left_space.ping("10.77.0.2", within_s=3)
    two.left_space.ip("link", "set", two.left.interface, "netns", inside.name)
    wait_until(lambda: show(two.left.interface)["namespace"] == "moved", 5, "the move to be noticed")
    wait_until(lambda: show(two.left.interface)["state"] == "down", 5, "the move sets the link down")
    address_and_up(inside, two.left.interface, "10.77.0.1/24")
    wait_until(lambda: show(two.left.interface)["state"] == "up", 5, "up, seen across the namespaces")
    assert inside.ping("10.77.0.2", within_s=3)
    inside.ip("link", "set", two.left.interface, "mtu", "1300")
    wait_until(lambda: show(two.left.interface)["mtu"] == 1300, 5, "the MTU, seen across the namespaces")
    assert "51820" in two.left_space.run("ss", "-Hlun"), "the sockets stayed where they were made"
    assert "51820" not in inside.run("ss", "-Hlun")
    uapi(two.left.interface, "set=1\nlisten_port=51830\n\n")
    assert "51830" in two.left_space.run("ss", "-Hlun"), "and a new one is made there"
    assert inside.ping("10.77.0.2", within_s=3)
    inside.ip("link", "del", two.left.interface)
    assert two.left.ended() == 0


def test_the_end_of_the_namespace_that_holds_the_device_ends_it(start: Start, net: Net) -> None:
    running, inside = start(net.namespace("d")), net.namespace("in")
    running.space.ip("link", "set", running.interface, "netns", inside.name)
    wait_until(lambda: show(running.interface)["namespace"] == "moved", 5, "the move to be noticed")
    inside.close()
    assert running.ended() == 0


# ---------------------------------------------------------------- crash


def first_answer_s(space: Namespace, target: str, within_s: float) -> float:
    """Seconds until the first ping comes back."""
    began = time.monotonic()
    wait_until(lambda: space.ping(target, within_s=0.2), within_s, f"{target} to answer")
    return time.monotonic() - began


@pytest.mark.parametrize("side", ["initiator", "responder"])
def test_killed_and_started_again_traffic_is_back_within_a_second(start: Start, net: Net, side: str) -> None:
    """The responder has no endpoint configured: it must remember where the other was. Pings come from the side that lives."""
    two = Joined(net, start, psk=run(["wg", "genpsk"]).strip())
    assert two.left_space.ping("10.77.0.2", within_s=3)
    killed = two.left if side == "initiator" else two.right
    wait_until(lambda: state_path(killed.interface).exists(), 5, "the state to be written")
    killed.process.kill()
    killed.ended()
    began = time.monotonic()
    again = start(killed.space, killed.interface)
    if side == "initiator":
        two.left = again
        two.configure_left()
        first_answer_s(two.right_space, "10.77.0.1", 5)
    else:
        two.right = again
        two.configure_right()
        first_answer_s(two.left_space, "10.77.0.2", 5)
    took_s = time.monotonic() - began
    assert "remembered peers=1" in again.said()
    assert took_s < 1.0, f"traffic was back after {took_s:.2f} s"


def test_the_state_file_is_private_and_holds_no_secret(start: Start, net: Net) -> None:
    two = Joined(net, start)
    assert two.left_space.ping("10.77.0.2", within_s=3)
    path = state_path(two.left.interface)
    wait_until(path.exists, 5, "the state to be written")
    assert path.stat().st_mode & 0o7777 == 0o600
    remembered = json.loads(path.read_text())
    assert remembered["schema"] == "ginnel.state/1"
    assert remembered["peers"][two.right_keys.public]["endpoint"] == "192.0.2.2:51821"
    assert two.left_keys.private not in path.read_text()


@pytest.mark.parametrize(
    ("text", "mode"), [("not json", 0o600), ('{"schema": "other/1", "peers": {}}', 0o600), ("{}", 0o600), ("[" * 100_000, 0o600),
                       ('{"schema": "ginnel.state/1", "peers": {}}', 0o666)]
)  # fmt: skip
def test_a_state_file_that_cannot_be_trusted_is_ignored_aloud(start: Start, net: Net, text: str, mode: int) -> None:
    name = net.unique("wg")
    state_path(name).parent.mkdir(exist_ok=True)
    state_path(name).write_text(text)
    state_path(name).chmod(mode)
    running = start(net.namespace("d"), name)
    wait_until(lambda: "state_unreadable" in running.said(), 5, "the refusal in the log")
    assert "errno=0" in uapi(name, "get=1\n\n")


def test_a_clock_set_back_is_said_and_handshakes_go_on(start: Start, net: Net) -> None:
    """As if it had run with a clock an hour ahead: the timestamps it sent then are remembered, and exceeded."""
    two = Joined(net, start)
    assert two.left_space.ping("10.77.0.2", within_s=3)
    path = state_path(two.left.interface)
    wait_until(path.exists, 5, "the state to be written")
    two.left.process.kill()
    two.left.ended()
    remembered = json.loads(path.read_text())
    remembered["peers"][two.right_keys.public]["last_timestamp_ns"] += 3600 * 10**9
    path.write_text(json.dumps(remembered))
    two.left = start(two.left_space, two.left.interface)
    two.configure_left()
    assert two.left_space.ping("10.77.0.2", within_s=3)
    (warning,) = show(two.left.interface)["warnings"]
    assert warning.startswith(("the clock was set back: it is 59 min", "the clock was set back: it is 1 h"))
    assert "clock_set_back" in two.left.said()


# ---------------------------------------------------------------- names


def test_a_host_name_is_resolved_and_its_addresses_tried_in_turn(start: Start, net: Net) -> None:
    """The name has an IPv6 address where nobody is, and the right IPv4 one: the second try at the latest reaches the peer."""
    two = Joined(net, start)
    hosts = Path("/etc/netns", two.left_space.name)
    hosts.mkdir(parents=True)
    try:
        (hosts / "hosts").write_text("2001:db8:dead::1 vpn.example.org\n192.0.2.2 vpn.example.org\n")
        two.left.process.terminate()
        two.left.ended()
        state_path(two.left.interface).unlink(missing_ok=True)
        two.left = start(two.left_space, two.left.interface)
        configure(two.left, two.left_keys, 51820, (two.right_keys.public, "10.77.0.2/32", ""))
        address_and_up(two.left_space, two.left.interface, "10.77.0.1/24")
        peers = {two.right_keys.public: {"name": "right", "endpoint_host": "vpn.example.org:51821"}}
        assert ask(two.left.interface, {"op": "names", "peers": peers})["ok"]
        first_answer_s(two.left_space, "10.77.0.2", 20)
        (peer,) = show(two.left.interface)["peers"]
        assert (peer["name"], peer["endpoint_host"], peer["endpoint"]) == ("right", "vpn.example.org:51821", "192.0.2.2:51821")
        assert "endpoint_resolved peer=right host=vpn.example.org:51821" in two.left.said()
    finally:
        (hosts / "hosts").unlink(missing_ok=True)
        hosts.rmdir()


def test_a_name_that_does_not_resolve_is_said_and_harms_nothing(start: Start, net: Net) -> None:
    running, keys = start(net.namespace("d")), Keys.fresh()
    configure(running, keys, 51820, (Keys.fresh().public, "10.77.0.2/32", ""))
    public = show(running.interface)["peers"][0]["public_key"]
    ask(running.interface, {"op": "names", "peers": {public: {"name": "lost", "endpoint_host": "nobody.invalid:1"}}})
    wait_until(lambda: "endpoint_unresolved peer=lost host=nobody.invalid:1" in running.said(), 15, "the refusal in the log")
    (peer,) = show(running.interface)["peers"]
    assert peer["configured"]["answer"] == "no"
    assert "errno=0" in uapi(running.interface, "get=1\n\n")


# ---------------------------------------------------------------- looking


def test_show_tells_the_three_parts_apart(start: Start, net: Net) -> None:
    two = Joined(net, start)
    (before,) = show(two.right.interface)["peers"]
    assert (before["configured"]["answer"], before["alive"]["answer"], before["carrying"]["answer"]) == ("yes", "no", "no")
    assert before["state"] == "no-endpoint"
    assert two.left_space.ping("10.77.0.2", count=2, within_s=3)
    tunnel = show(two.left.interface)
    (peer,) = tunnel["peers"]
    assert (peer["configured"]["answer"], peer["alive"]["answer"], peer["carrying"]["answer"]) == ("yes", "yes", "yes")
    assert (peer["state"], peer["endpoint"], peer["allowed_ips"]) == ("up", "192.0.2.2:51821", ["10.77.0.2/32"])
    assert peer["handshake_unix"] == pytest.approx(time.time(), abs=30)
    assert tunnel["alive"] == {"answer": "yes", "why": "1 of 1 peers"}
    two.right_space.ip("link", "set", two.veth.right, "down")
    two.left_space.succeeds("ping", "-c", "1", "-W", "0.2", "10.77.0.2")
    silent = wait_until(lambda: next(iter(p for p in show(two.left.interface)["peers"] if p["carrying"]["answer"] == "no"), None),
                        20, "silence to be noticed")  # fmt: skip
    assert silent["alive"]["answer"] == "yes", "the session is young: alive, and carrying nothing"
    assert "nothing came back" in silent["carrying"]["why"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"nonsense\n", "expected one JSON object a line"),
        (b"[1]\n", "expected a JSON object"),
        (b"[" * 100_000 + b"\n", "expected one JSON object a line"),
        (b'{"op": "fly"}\n', "op: expected show, names, state, initiate, terminate, rekey, rekey-ike or stop"),
        (b'{"op": "names"}\n', "peers: expected an object of public keys"),
        (b'{"op": "names", "peers": {"x": {}}}\n', "expected a key of 44 base64 characters"),
    ],
)
def test_the_control_socket_answers_every_mistake(start: Start, net: Net, line: bytes, expected: str) -> None:
    running = start(net.namespace("d"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(control_path(running.interface)))
        sock.sendall(line + b'{"op": "state"}\n')
        with sock.makefile("rb") as answers:
            refusal, served = json.loads(answers.readline()), json.loads(answers.readline())
    assert (refusal["schema"], refusal["ok"]) == ("ginnel.control/1", False)
    assert expected in refusal["error"]
    assert served["ok"], "and the connection goes on"


def test_the_control_socket_serves_root_alone(start: Start, net: Net) -> None:
    """Even when somebody opens the modes: who asks is known by its credentials."""
    running = start(net.namespace("d"))
    control_path(running.interface).parent.chmod(0o755)
    control_path(running.interface).chmod(0o666)
    # The interpreter may lie where only root reaches it, so it becomes nobody after it has started.
    client = ("import os,socket,sys; s=socket.socket(socket.AF_UNIX); s.settimeout(10)\n"
              "os.setgroups([]); os.setresgid(65534,65534,65534); os.setresuid(65534,65534,65534)\n"
              "s.connect(sys.argv[1])\n"
              "try: s.sendall(b'{\"op\": \"state\"}\\n'); print(len(s.recv(100)))\n"
              "except (BrokenPipeError, ConnectionResetError): print(0)\n")  # fmt: skip
    assert run([sys.executable, "-c", client, str(control_path(running.interface))]) == "0\n", "closed without an answer"
    wait_until(lambda: "control_refused" in running.said(), 5, "the refusal in the log")
    assert ask(running.interface, {"op": "state"})["ok"]


def test_no_secret_reaches_the_log_or_the_arguments(start: Start, net: Net) -> None:
    psk = run(["wg", "genpsk"]).strip()
    two = Joined(net, start, psk=psk)
    assert two.left_space.ping("10.77.0.2", within_s=3)
    uapi(two.left.interface, f"set=1\nprivate_key={'ab' * 31}\n\n")
    shown = json.dumps(ask(two.left.interface, {"op": "show"}))
    command = Path(f"/proc/{two.left.pid}/cmdline").read_text() + Path(f"/proc/{two.left.pid}/environ").read_text()
    for text in (two.left.said(), shown, command):
        for secret in (two.left_keys.private, psk, "ab" * 31):
            assert secret not in text


# ---------------------------------------------------------------- cost and care


def test_it_leaves_no_core_and_cannot_be_looked_into(start: Start, net: Net) -> None:
    running = start(net.namespace("d"))
    limits = Path(f"/proc/{running.pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if line.startswith("Max core file size")).split()[4:6] == ["0", "0"]
    nobody = ["setpriv", "--reuid=65534", "--clear-groups", "cat", f"/proc/{running.pid}/maps"]
    assert run(nobody, check=False) == ""
    running.process.send_signal(signal.SIGABRT)
    _, status = os.waitpid(running.pid, 0)
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)
    running.process.returncode = -signal.SIGABRT


def test_fresh_it_takes_little_memory_and_idle_it_sleeps(start: Start, net: Net) -> None:
    two = Joined(net, start)
    assert two.left_space.ping("10.77.0.2", within_s=3)
    assert two.left.status_kb("VmRSS") <= 40_000, "kB, after its first packets"
    wait_until(lambda: state_path(two.left.interface).exists(), 5, "the state to be written")
    before, cpu = two.left.wakeups(), two.left.cpu_s()
    time.sleep(10)
    assert two.left.wakeups() - before <= 10 + 5, "at most one a second, and what looking costs"
    assert two.left.cpu_s() - cpu <= 0.01 * 10


def test_ten_thousand_peers_that_never_answer_hold_nobody_up(start: Start, net: Net) -> None:
    """
    All have waited for the private key, so all begin when it comes, and again every 5 s, a second of work each time: who asks is
    served in between.
    """
    space = net.namespace("h")
    hub = start(space)
    peers = "".join(
        f"public_key={hashlib.sha256(b'%d' % number).hexdigest()}\nendpoint=127.0.0.1:9\npersistent_keepalive_interval=25\n"
        for number in range(10_000)
    )
    assert uapi(hub.interface, f"set=1\n{peers}\n") == "errno=0\n\n"
    space.ip("link", "set", hub.interface, "up")

    def at_rest() -> bool:
        before = hub.cpu_s()
        time.sleep(0.3)
        return hub.cpu_s() - before < 0.02

    wait_until(at_rest, 10, "all to have asked in vain")
    began = time.monotonic()
    assert uapi(hub.interface, f"set=1\nprivate_key={'a8' * 32}\n\n") == "errno=0\n\n"
    worst_s, until = time.monotonic() - began, time.monotonic() + 12
    while time.monotonic() < until:
        began = time.monotonic()
        assert ask(hub.interface, {"op": "state"})["state"] == "up"
        worst_s = max(worst_s, time.monotonic() - began)
        time.sleep(0.01)  # a pace, not a wait
    assert all(" initiations sent" in peer["why"] for peer in show(hub.interface)["peers"]), "each was repeated meanwhile"
    assert worst_s < 0.4, f"an answer took {worst_s:.2f} s"
