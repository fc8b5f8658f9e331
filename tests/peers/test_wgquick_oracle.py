"""
wg-quick as the oracle: one file through stock wg-quick and through `ginnel up` leaves the same host.

Each run has a host of its own. wg-quick gets our engine as its user-space implementation, so that only the tools differ.
Expected differences, each asserted where it shows:
  - nft tables are called ginnel-NAME instead of wg-quick-NAME;
  - Debian's wg-quick (2021) runs PreUp before the interface exists, its successors and ginnel after;
  - with several endpoints the 2021 version takes the largest path MTU, its successors and ginnel the smallest: only equal
    paths are compared here;
  - `save`: wg-quick writes the kernel's own link-local address, and loses names and host names.
"""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ginnel.config import wgquick
from ginnel.crypto import Secret
from ginnel.errors import ConfigError
from ginnel.linux.device_lines import device_lines
from ginnel.linux.endpoints import resolve
from ginnel.units import Prefix
from namespaces import Net
from quick_world import World

PRIVATE = "mEEyFdKeEQWDxqZCT/qu2hr0gHnGKsdz8DgQYIPjJ2M="
PEER_A = "UbjMLkDPHcFlIhOlcuwHUc6VyUuBrGgr2NEGaNdAKgo="
PEER_B = "xVUMosqiPnT5EKbCAVF7+glX0AWHCquJTBi0JGCODE4="
OWN = "AfewuNA8fXRTlmmAqtt4/Vf7ac7qT+LrVYrXwlCd/Cg="
PSK = "8X2Qq9XGX6dJg0Rk2bCM4mZzQpV7cYFqVbWq3mHnL0M="


def case(interface: str = "Address = 10.9.0.1/24", prefixes: str = "", more: str = "") -> str:
    """A file with one peer when there are *prefixes* for it, and *more* after that."""
    peer = f"\n[Peer]\nPublicKey = {PEER_A}\nEndpoint = 192.0.2.2:51820\nAllowedIPs = {prefixes}\n" if prefixes else ""
    return f"[Interface]\nPrivateKey = {PRIVATE}\n{interface}\n{peer}{more}"


BOTH = "Address = 10.9.0.1/24, fd09::1/64"

CASES = {
    "minimal": case(),
    "no-address": case("", "10.9.0.2/32"),
    "host-address": case("Address = 10.9.0.1", "10.9.0.0/24, 10.9.0.2/32"),
    "dual-stack": case(f"{BOTH}\nListenPort = 51820", "10.9.0.2/32, fd09::2/128, 10.20.0.0/16, fd20::/48"),
    "many-addresses": case(
        "Address = 10.9.0.1/24,10.9.0.2/24 10.10.0.1/32\nAddress = fd09::1/128", "fd09::/64, 10.10.0.0/24, 10.9.0.128/25"
    ),
    "table-off": case("Address = 10.9.0.1/24\nTable = off", "0.0.0.0/0, 10.20.0.0/16"),
    "table-1234": case("Address = 10.9.0.1/24\nTable = 1234", "0.0.0.0/0, ::/0, 10.20.0.0/16"),
    "table-name": case("Address = 10.9.0.1/24\nTable = main", "10.20.0.0/16"),
    "default-4": case(prefixes="0.0.0.0/0"),
    "default-6": case("Address = fd09::1/64", "::/0"),
    "default-both": case(BOTH, "0.0.0.0/0, ::/0, 10.20.0.0/16"),
    "default-fwmark": case("Address = 10.9.0.1/24\nFwMark = 0x1234", "0.0.0.0/0"),
    "fwmark": case("Address = 10.9.0.1/24\nFwMark = 99", "10.20.0.0/16"),
    "mtu": case("Address = 10.9.0.1/24\nMTU = 1300", "10.9.0.2/32"),
    "mtu-from-route": case(prefixes="10.9.0.2/32"),
    "endpoint-6": case(BOTH, more=f"[Peer]\nPublicKey = {PEER_A}\nEndpoint = [2001:db8::2]:51820\nAllowedIPs = fd09::2/128\n"),
    "dns": case("Address = 10.9.0.1/24\nDNS = 10.9.0.53, fd09::53, example.org", "10.9.0.2/32"),
    "two-peers": case(
        prefixes=f"10.20.0.0/16\nPersistentKeepalive = 25\nPresharedKey = {PSK}",
        more=f"[Peer]\nPublicKey={PEER_B}\nAllowedIPs=10.20.5.0/24, 10.30.0.0/16\nPersistentKeepalive = off\n",
    ),
    "own-key-as-peer": case(prefixes="10.20.0.0/16", more=f"[Peer]\nPublicKey={OWN}\nAllowedIPs=10.30.0.0/16\n"),
    "odd-spelling": (
        f"# a comment\n[interface]\nprivatekey={PRIVATE}\n  ADDRESS =10.9.0.1/24 # inside\nlisten port = 518 20\n\n[PEER]\n"
        f"publicKEY = {PEER_A}\nallowed ips = 10.20.0.0 / 16,10.30.0.0/16\nEndpoint = 192.0.2.2 : 51820\n"
    ),
    "save": case("Address = 10.9.0.1/24\nSaveConfig = true", "10.20.0.0/16"),
}


def engine() -> str:
    """Our user-space implementation for stock wg-quick."""
    found = shutil.which("ginnel-wireguard", path=str(Path(sys.executable).parent)) or shutil.which("ginnel-wireguard")
    assert found is not None, "ginnel-wireguard is not installed: `make`"
    return found


def run(tool: str, world: World, verb: str) -> subprocess.CompletedProcess[str]:
    """`wg-quick VERB wg7` as Debian has it, or `ginnel VERB wg7`."""
    if tool == "ginnel":
        return world.ginnel(verb, "wg7")
    return world.run("wg-quick", verb, "wg7", env={"WG_QUICK_USERSPACE_IMPLEMENTATION": engine()})


def facts(world: World, name: str) -> dict[str, Any]:
    """What the two runs have to agree on while the tunnel is up."""
    return {
        **world.snapshot(),
        "showconf": world.ok("wg", "showconf", name),
        "src_valid_mark": world.ok("sysctl", "-n", "net.ipv4.conf.all.src_valid_mark"),
        "resolvconf": world.ok("resolvconf", "-l"),
    }


def normalised(showconf: str, text: str) -> str:
    """A port that the kernel chose is chance."""
    return showconf if re.search(r"listen\s*port", text, re.IGNORECASE) else re.sub(r"ListenPort = \d+\n", "", showconf)


@pytest.mark.parametrize("name", CASES)
def test_up_and_down_leave_what_wg_quick_leaves(name: str, net: Net) -> None:
    text = CASES[name]
    seen: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for tool in ("wg-quick", "ginnel"):
        world = World.create(net)
        world.write("/etc/wireguard/wg7.conf", text)
        before = world.snapshot()
        done = run(tool, world, "up")
        assert done.returncode == 0, f"{tool} up: {done.stderr}"
        up = facts(world, "wg7")
        up["showconf"] = normalised(up["showconf"], text)
        done = run(tool, world, "down")
        assert done.returncode == 0, f"{tool} down: {done.stderr}"
        assert not world.has_link("wg7")
        after = world.snapshot()
        assert after == before, f"{tool} left something behind"
        seen[tool] = up, after
    up_quick, _ = seen["wg-quick"]
    up_ours, _ = seen["ginnel"]
    for what, value in up_quick.items():
        assert up_ours[what] == value, what
    # The comparison compares something: the interface is there, with the engine's offloads not hiding behind a wrong name.
    assert any(link["name"] == "wg7" for link in up_ours["links"])


def test_a_route_that_an_address_covers_is_not_added_twice(net: Net) -> None:
    world = World.create(net)
    world.write("/etc/wireguard/wg7.conf", CASES["dual-stack"])
    done = world.ginnel("up", "wg7")
    assert done.returncode == 0, done.stderr
    assert "route add 10.9.0.2/32" not in done.stderr
    assert "[#] ip -4 route add 10.20.0.0/16 dev wg7" in done.stderr


def test_hooks_run_in_the_order_of_wg_quick_with_the_interface_there(net: Net) -> None:
    trace = "echo {}:%i:$(ip -o link show dev %i 2>/dev/null | wc -l) >> /run/trace"
    phases = ("PreUp", "PostUp", "PreDown", "PostDown")
    hooks = "".join(f"{phase} = {trace.format(phase + str(n))}\n" for phase in phases for n in (1, 2))
    text = case(f"Address = 10.9.0.1/24\n{hooks}", "10.20.0.0/16")
    traces = {}
    for tool in ("wg-quick", "ginnel"):
        world = World.create(net)
        world.write("/etc/wireguard/wg7.conf", text)
        for verb in ("up", "down"):
            done = run(tool, world, verb)
            assert done.returncode == 0, f"{tool} {verb}: {done.stderr}"
        traces[tool] = world.path("/run/trace").read_text().split()
    expected = [f"{phase}{n}:wg7:{int(phase != 'PostDown')}" for phase in phases for n in (1, 2)]
    assert traces["ginnel"] == expected
    # Debian's of 2021 runs PreUp before there is an interface; nothing else differs.
    assert [line.replace(":0", ":1", 1) if line.startswith("PreUp") else line for line in traces["wg-quick"]] == expected


def test_what_save_config_writes_means_the_same(net: Net) -> None:
    results = {}
    for tool in ("wg-quick", "ginnel"):
        world = World.create(net)
        path = world.write("/etc/wireguard/wg7.conf", CASES["save"])
        for words in (["up"], None, ["down"]):
            if words is None:
                world.ok(
                    "wg",
                    "set",
                    "wg7",
                    "listen-port",
                    "51999",
                    "peer",
                    PEER_B,
                    "allowed-ips",
                    "10.40.0.0/16",
                    "endpoint",
                    "192.0.2.9:1",
                )
                world.ok("ip", "address", "add", "10.77.0.1/24", "dev", "wg7")
                continue
            done = run(tool, world, words[0])
            assert done.returncode == 0, done.stderr
        saved = world.path(path)
        assert saved.stat().st_mode & 0o777 == 0o600
        file = wgquick.parse(saved.read_text(), tool)
        addresses = [address for address in file.interface.addresses if not address.startswith("fe80:")]
        peers = {(peer.public_key, peer.endpoint, tuple(sorted(map(str, peer.allowed_ips)))) for peer in file.peers}
        results[tool] = (addresses, peers, file.interface.listen_port, file.interface.save_config, file.interface.private_key)
    assert results["ginnel"] == results["wg-quick"]
    assert results["ginnel"][0] == ["10.9.0.1/24", "10.77.0.1/24"]
    assert results["ginnel"][4] == Secret.from_base64(PRIVATE)


@pytest.mark.parametrize("name", CASES)
def test_strip_prints_what_wg_quick_strip_prints(name: str, tmp_path: Path) -> None:
    path = tmp_path / "wg7.conf"
    path.write_text(CASES[name])
    path.chmod(0o600)
    done = subprocess.run(["wg-quick", "strip", str(path)], capture_output=True, check=True)
    assert wgquick.strip(CASES[name]).encode() == done.stdout


# ---------------------------------------------------------------- `wg` itself as the oracle of the parser

#: Runs in mount namespace of its own: a listener in the place of a device, and `wg setconf` for each text on stdin.
CAPTURE = r"""
import json, os, socket, subprocess, sys, threading
os.makedirs("/run/wireguard", exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/wireguard/capture.sock")
listener.listen()
seen = []

def serve():
    while True:
        connection, _ = listener.accept()
        data = b""
        while not data.endswith(b"\n\n"):
            piece = connection.recv(65536)
            if not piece:
                break
            data += piece
        if data:
            seen.append(data.decode())
            connection.sendall(b"errno=0\n\n")
        connection.close()

threading.Thread(target=serve, daemon=True).start()
answers = []
for text in json.load(sys.stdin):
    seen.clear()
    with open("/run/capture.conf", "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    done = subprocess.run(["wg", "setconf", "capture", "/run/capture.conf"], capture_output=True, text=True)
    answers.append({"code": done.returncode, "said": done.stderr, "sent": "".join(seen)})
json.dump(answers, sys.stdout)
"""


def ask_wg(texts: list[str]) -> list[dict[str, Any]]:
    """What `wg setconf` makes of each text: its exit code, and the UAPI lines it sent."""
    script = "mount -t tmpfs tmpfs /run && exec " + shlex.join([sys.executable, "-c", CAPTURE])
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def meaning(lines: str) -> dict[str, Any]:
    """UAPI lines as a value in which order of peers and prefixes, and what is default, do not count."""
    device: dict[str, Any] = {"private_key": "0" * 64, "listen_port": "0", "fwmark": "0", "peers": {}}
    peer: dict[str, Any] | None = None
    for line in lines.splitlines():
        key, _, value = line.partition("=")
        if key in {"set", "replace_peers", "replace_allowed_ips", "protocol_version", ""}:
            continue
        if key == "public_key":
            peer = device["peers"][value] = {"allowed_ips": set(), "persistent_keepalive_interval": "0"}
        elif key == "allowed_ip" and peer is not None:
            peer["allowed_ips"].add(Prefix.parse(value))  # `wg` leaves masking to the device
        elif peer is None:
            device[key] = value
        else:
            peer[key] = value
    return device


def random_line(chance: random.Random) -> str:
    """A line that `wg` may or may not take; most are right. Not here: ports beyond 65535, which it takes modulo 65536."""
    odd = chance.random() < 0.08
    key, values, wrong = chance.choice(
        [
            ("PrivateKey", [PRIVATE], [PRIVATE[:-1], PRIVATE + "=", "x", "", PRIVATE.replace("=", "A")]),
            ("ListenPort", ["51820", "0", "65535", "007"], ["-1", "", "5 1x", "0x10"]),
            ("FwMark", ["off", "OFF", "0", "0xca6c", "010", "4294967295", "0xA"], ["0XA", "4294967296", "0x", "-1", "ten", ""]),
            ("PublicKey", [PEER_A, PEER_B], [PEER_A[1:], "", "="]),
            ("PresharedKey", [PSK], [PSK + "A", "none"]),
            ("PersistentKeepalive", ["off", "0", "25", "65535", "0025"], ["65536", "-1", "1.5", "on", ""]),
            ("AllowedIPs", ["10.0.0.0/8", "10.9.8.7/9, fd00::/8", "::/0,0.0.0.0/0", "1.2.3.4", "fd00::1", "1.2.3.4/032"],
             ["10.0.0/8", "1.2.3.4/33", "fd00::/129", "1.2.3.4/", ",", "1.2.3.4,", "1.2.3.4/-1", "1.2.3.4/+1", "x/8", ""]),
            ("Endpoint", ["192.0.2.1:51820", "[2001:db8::1]:1", "2001:db8::1:5", "192.0.2.1:domain"],
             ["192.0.2.1", "[2001:db8::1]", "[2001:db8::1]1", ":1", "192.0.2.1:", "[192.0.2.1:1"]),
        ]
    )  # fmt: skip
    value = chance.choice(wrong if odd else values)
    if chance.random() < 0.2:
        key = chance.choice([key.upper(), key.lower(), key[:3] + " " + key[3:], "\t" + key])
    if chance.random() < 0.15 and value:
        place = chance.randrange(len(value))
        value = value[:place] + chance.choice([" ", "\t"]) + value[place:]
    if chance.random() < 0.02:
        key += "x"
    if chance.random() < 0.1:
        value += chance.choice(["# comment", " #", " \r"])
    return f"{key}{chance.choice(['=', ' = ', ' ='])}{value}"


SECTION_OF = {"privatekey": 0, "listenport": 0, "fwmark": 0}


def random_file(chance: random.Random) -> str:
    """Sections in the usual order, most lines where they belong."""
    sections: list[list[str]] = [[], []]
    for _ in range(chance.randrange(1, 7)):
        line = random_line(chance)
        key = "".join(line.partition("=")[0].split()).lower()
        place = SECTION_OF.get(key, 1)
        sections[1 - place if chance.random() < 0.02 else place].append(line)
    peers = "\n".join(sections[1])
    key = f"PublicKey = {PEER_A}\n" if "publickey" not in "".join(peers.split()).lower() and chance.random() < 0.9 else ""
    heads = chance.choice([("[Interface]", "[Peer]"), ("[interface]", "[PEER]"), (" [Inter face]", "[Peer] # x")])
    return f"{heads[0]}\n" + "\n".join(sections[0]) + (f"\n\n{heads[1]}\n{key}{peers}" if sections[1] or key else "") + "\n"


def parsed_or_why(text: str) -> wgquick.WgQuickFile | str:
    """The file, or why it is refused."""
    try:
        return wgquick.parse(text)
    except ConfigError as error:
        return str(error)


def test_the_parser_takes_and_means_what_wg_takes_and_means() -> None:
    chance = random.Random(20261121)
    texts = [random_file(chance) for _ in range(600)]
    agreed = {True: 0, False: 0}
    for text, theirs in zip(texts, ask_wg(texts), strict=True):
        ours = parsed_or_why(text)
        if isinstance(ours, str):
            assert theirs["code"] != 0, f"wg takes what we refuse:\n{text}\n{ours}"
            agreed[False] += 1
            continue
        assert theirs["code"] == 0, f"we take what wg refuses ({theirs['said']}):\n{text}"
        endpoints = {peer.public_key: resolve(peer.endpoint, print) for peer in ours.peers if peer.endpoint is not None}
        assert meaning(device_lines(ours, endpoints)) == meaning(theirs["sent"]), text
        agreed[True] += 1
    assert min(agreed.values()) > 100, f"the comparison is one-sided: {agreed}"
