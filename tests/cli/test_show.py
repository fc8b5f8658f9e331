"""`show` and `set`: what `wg` prints and does, on our daemon and on another implementation; and what only we know."""

from __future__ import annotations

import json
import os
import time

import pytest

from ginnel.crypto import Secret
from namespaces import wait_until
from quick_world import World

pytestmark = pytest.mark.peers

PRIVATE = "mEEyFdKeEQWDxqZCT/qu2hr0gHnGKsdz8DgQYIPjJ2M="
A = "UbjMLkDPHcFlIhOlcuwHUc6VyUuBrGgr2NEGaNdAKgo="
B = "xVUMosqiPnT5EKbCAVF7+glX0AWHCquJTBi0JGCODE4="
PSK = "8X2Qq9XGX6dJg0Rk2bCM4mZzQpV7cYFqVbWq3mHnL0M="
FIELDS = ["public-key", "private-key", "listen-port", "fwmark", "peers", "preshared-keys", "endpoints", "allowed-ips"]
FIELDS += ["latest-handshakes", "transfer", "persistent-keepalive", "dump"]

TEXT = f"""[Interface]
PrivateKey = {PRIVATE}
ListenPort = 51820
FwMark = 0xca6c
[Peer]
# Name = lyon
PublicKey = {A}
PresharedKey = {PSK}
Endpoint = 192.0.2.2:51820
AllowedIPs = 10.20.0.0/16, fd20::/48
PersistentKeepalive = 25
[Peer]
PublicKey = {B}
Endpoint = [2001:db8::2]:51820
"""


def start(world: World, implementation: str, name: str = "wg7", text: str = TEXT) -> None:
    """An interface called *name*, by our daemon through `up` or by wireguard-go."""
    path = world.write(f"/etc/wireguard/{name}.conf", text)
    if implementation == "ginnel":
        done = world.ginnel("up", name)
        assert done.returncode == 0, done.stderr
    else:
        world.ok("wireguard-go", name)
        world.ok("wg", "setconf", name, path)
        world.ok("ip", "link", "set", "dev", name, "up")


@pytest.mark.parametrize("implementation", ["ginnel", "wireguard-go"])
def test_fields_are_those_of_wg(implementation: str, world: World) -> None:
    start(world, implementation)
    start(world, implementation, "bare", "[Interface]\n")
    start(world, implementation, "half", f"[Interface]\n[Peer]\nPublicKey = {A}\n")
    # Keepalives make counters move between two readings: compare while they stand still.
    for name in ("wg7", "bare", "half", "all"):
        for field in FIELDS:

            def equal(name: str = name, field: str = field) -> bool:
                ours, theirs = world.ginnel("show", name, field).stdout, world.ok("wg", "show", name, field)
                if implementation == "wireguard-go":  # gives its peers in another order each time
                    return sorted(ours.splitlines()) == sorted(theirs.splitlines())
                return ours == theirs

            if (name, field) == ("all", "endpoints"):
                # Debian's wg writes the interface's name once a device here, not once a peer: that one is not followed.
                assert f"wg7\t{A}\t192.0.2.2:51820\n" in world.ginnel("show", name, field).stdout
                assert f"wg7\t{B}\t[2001:db8::2]:51820\n" in world.ginnel("show", name, field).stdout
                continue
            wait_until(equal, 10, f"show {name} {field}")
    assert world.ginnel("show", "interfaces").stdout == world.ok("wg", "show", "interfaces")


def test_nothing_up_is_nothing_shown(world: World) -> None:
    done = world.ginnel("show")
    assert (done.returncode, done.stdout) == (0, "")
    assert "No tunnel is up here." in done.stderr
    assert world.ginnel("show", "interfaces").stdout == world.ok("wg", "show", "interfaces")
    done = world.ginnel("show", "wg9")
    assert done.returncode == 1
    assert "no tunnel is called wg9\n  hint: none is up" in done.stderr
    done = world.ginnel("show", "eth0")
    assert "eth0 is not a tunnel of ginnel's" in done.stderr


def test_a_person_sees_names_states_and_why(world: World) -> None:
    start(world, "ginnel")
    lines = world.ginnel("show").stdout.splitlines()
    assert lines[0].startswith("wg7: wireguard, engine, up · port 51820 · mtu 1420 · fwmark 0xca6c · public key ")
    assert lines[1].split() == ["PEER", "STATE", "HANDSHAKE", "ENDPOINT", "RX", "TX", "WHY"]
    assert lines[2].split()[:3] == ["lyon", "configured", "never"]
    assert lines[3].split()[:3] == [f"{B[:10]}…", "not", "configured"]
    assert "AllowedIPs is empty" in lines[3]
    assert A in world.ginnel("show", "--keys").stdout
    assert PRIVATE not in world.ginnel("show").stdout


def test_json_has_a_schema_and_no_secret(world: World) -> None:
    start(world, "ginnel")
    one = json.loads(world.ginnel("show", "wg7", "--json").stdout)
    every = json.loads(world.ginnel("show", "--json").stdout)
    assert one["schema"] == every["schema"] == "ginnel.show/1"
    assert [tunnel["name"] for tunnel in every["tunnels"]] == ["wg7"]
    peer = one["tunnel"]["peers"][0]
    assert (peer["name"], peer["public_key"], peer["has_preshared_key"]) == ("lyon", A, True)
    assert peer["configured"]["answer"] == "yes"
    assert peer["alive"]["answer"] == "no"
    assert PRIVATE not in json.dumps(every)
    assert PSK not in json.dumps(every)
    assert json.loads(world.ginnel("show", "interfaces", "--json").stdout)["interfaces"] == ["wg7"]


def test_of_another_implementation_it_says_what_it_cannot_know(world: World) -> None:
    start(world, "wireguard-go")
    tunnel = json.loads(world.ginnel("show", "wg7", "--json").stdout)["tunnel"]
    assert tunnel["backend"] == "other"
    assert tunnel["state"] == "up"
    assert tunnel["mtu"] == 1420
    assert {peer["public_key"]: peer["name"] for peer in tunnel["peers"]} == {A: "lyon", B: ""}
    assert {peer["carrying"]["answer"] for peer in tunnel["peers"]} == {"unknown"}
    text = world.ginnel("show", "wg7").stdout
    assert "Another implementation serves this interface: whether it carries, and what it drops, it does not tell." in text


@pytest.mark.parametrize("implementation", ["ginnel", "wireguard-go"])
def test_set_does_what_wg_set_does(implementation: str, world: World) -> None:
    key = Secret.random().clamp().reveal_base64()
    world.write("/run/new.key", key)
    world.write("/run/psk", PSK)
    changes = [
        ["listen-port", "4000", "fwmark", "0x10"],
        ["fwmark", "off", "private-key", "/run/new.key"],
        ["peer", A, "persistent-keepalive", "off", "allowed-ips", "10.30.0.0/16,10.31.0.1"],
        ["peer", A, "allowed-ips", ""],
        ["peer", B, "preshared-key", "/run/psk", "endpoint", "192.0.2.7:7"],
        ["peer", B, "preshared-key", "/dev/null", "peer", A, "remove"],
        ["private-key", "/dev/null"],
    ]
    ours, theirs = [], []
    for results, tool in ((ours, "ginnel"), (theirs, "wg")):
        name = f"{tool}0"
        start(world, implementation, name, TEXT.replace("51820\nFw", f"{5000 + len(tool)}\nFw"))
        for change in changes:
            done = world.ginnel("set", name, *change) if tool == "ginnel" else world.run("wg", "set", name, *change)
            assert done.returncode == 0, done.stderr
            lines = [line.split("\t") for line in world.ok("wg", "show", name, "dump").splitlines()]
            # Columns 5 and 6 are counters, which keepalives move.
            results.append(lines[:1] + sorted(line[:5] + line[7:] for line in lines[1:]))
        world.ok("ip", "link", "delete", "dev", name)
    assert ours == theirs
    assert ours[0][0][2:] == ["4000", "0x10"]


def test_set_takes_names_signs_and_hosts(world: World) -> None:
    world.write("/etc/hosts", "192.0.2.44 vpn.example\n", 0o644)
    start(world, "ginnel")
    done = world.ginnel("set", "wg7", "peer", "lyon", "allowed-ips", "+10.40.0.0/16,-10.20.0.0/16", "endpoint", "vpn.example:9")
    assert done.returncode == 0, done.stderr
    assert world.ok("wg", "show", "wg7", "allowed-ips").splitlines()[0].split("\t")[1].split() == ["fd20::/48", "10.40.0.0/16"]
    peer = json.loads(world.ginnel("show", "wg7", "--json").stdout)["tunnel"]["peers"][0]
    assert (peer["name"], peer["endpoint"], peer["endpoint_host"]) == ("lyon", "192.0.2.44:9", "vpn.example:9")


def test_set_says_when_the_port_is_taken(world: World) -> None:
    start(world, "ginnel")
    start(world, "ginnel", "wg8", "[Interface]\nListenPort = 51821\n")
    done = world.ginnel("set", "wg8", "listen-port", "51820")
    assert done.returncode == 1
    assert "configure wg8: Address already in use" in done.stderr


def test_ten_thousand_peers_are_dumped_quickly(world: World) -> None:
    import subprocess

    from ginnel.units import PublicKey

    peers = "".join(f"[Peer]\nPublicKey = {PublicKey(os.urandom(32)).base64()}\n" for _ in range(10_000))
    start(world, "ginnel", "wg7", f"[Interface]\nPrivateKey = {PRIVATE}\n{peers}")
    begin = time.process_time()
    before = os.times()
    done = world.ginnel("show", "wg7", "dump")
    after = os.times()
    assert isinstance(done, subprocess.CompletedProcess)
    assert len(done.stdout.splitlines()) == 10_001
    assert after.children_user - before.children_user < 1.0
    assert time.process_time() - begin < 1.0
