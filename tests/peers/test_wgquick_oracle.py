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

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ginnel.config import wgquick
from ginnel.crypto import Secret
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
