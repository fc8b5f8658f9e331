"""
Rendered files run by what they are for, on the real kernel: addresses, routes and keys are as described, packets arrive, and
nothing is left of what can be taken down.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ginnel.network import NodeDescription
from ginnel.network.render import NONE, File, renderer
from ginnel.network.render import networkd as networkd_module
from ginnel.network.render import networkmanager as networkmanager_module
from namespaces import CommandFailed, wait_until
from peers.guest import Guest
from peers.rendered_world import NO_UDP, PROOF, SIX, Host, described, place, private_key, psk, script_of, secrets
from unit.network.render.render_networks import HIDDEN

NODES, WITHOUT_UDP, SIXES = described(PROOF), described(NO_UDP), described(SIX)


@pytest.fixture(scope="module")
def far(guest: Guest) -> Iterator[dict[str, Host]]:
    """Those at the other ends."""
    hosts = {name: Host.create(guest, name) for name in ("paris", "basil", "cedar", "fern")}
    for name, host in hosts.items():
        host.run(script_of(host, SIXES[name] if name == "fern" else NODES[name]), "up")
    yield hosts
    for host in hosts.values():
        host.close()


@pytest.fixture
def lyon(far: dict[str, Host]) -> Iterator[Host]:
    host = Host.create(far["paris"].guest, "lyon")
    yield host
    host.close()


@pytest.fixture
def phone(far: dict[str, Host]) -> Iterator[Host]:
    host = Host.create(far["paris"].guest, "phone")
    yield host
    host.close()


# ---------------------------------------------------------------- what is asked of each


def is_lyon(host: Host, *, tunnels: tuple[str, ...], nodes: dict[str, NodeDescription] = NODES) -> None:
    """The node is as it is described, and reaches the ends of its tunnels and those behind them."""
    has_wireguard(host, nodes["lyon"])
    ways = {"10.20.0.5": "wg0", "fd20::5": "wg0", "10.10.0.1": "wg0", "203.0.113.10": "eth0"}
    there = ["10.10.0.1", "fd10:10::1", "10.20.0.5", "fd20::5"]
    if "gre-basil" in tunnels:
        ways["10.42.0.5"] = "gre-basil"
        there.append("10.42.0.5")
        (link,) = host.ip("-d", "link", "show", "dev", "gre-basil")
        data = link["linkinfo"]["info_data"]
        assert (data["ikey"], data["okey"], data["ttl"], link["mtu"]) == ("0.0.0.42", "0.0.0.42", 64, 1472)
    if "gre-cedar" in tunnels:
        (end,) = [address.host.address for address in nodes["lyon"].tunnel("cedar").peer_address if len(address.packed) == 4]
        ways[end] = "gre-cedar"
        there.append(end)
    if "gre-fern" in tunnels:
        ways["fd52::5"] = "gre-fern"
        there.append("fd52::5")
    assert host.devices_to(*ways) == ways
    host.ping(*there)


def has_wireguard(host: Host, description: NodeDescription) -> None:
    """Keys, peers, addresses and MTU of the interface."""
    own, *peers = (line.split("\t") for line in host.wg("show", "wg0", "dump").splitlines())
    assert own[0] == private_key(description.name)
    if description.listen_port:
        assert int(own[2]) == description.listen_port
    found = {peer[0]: (peer[1], set(peer[3].split(",")), peer[7]) for peer in peers}
    assert found == {
        peer.public_key.base64(): (
            psk(description.name, peer.name),
            set(map(str, peer.allowed_ips)),
            str(peer.keepalive_s or "off"),
        )
        for peer in description.peers
        if peer.public_key is not None
    }
    (link,) = host.ip("address", "show", "dev", "wg0")
    assert link["mtu"] == description.mtu
    addresses = {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["scope"] == "global"}
    assert addresses == set(map(str, description.address))


def is_phone(host: Host, far: dict[str, Host], *, near: str = "eth0") -> None:
    """Everything goes through paris, but what is near; and it comes back."""
    has_wireguard(host, NODES["phone"])
    ways = {"192.0.2.1": "wg0", "10.20.0.5": "wg0", "2001:db8:ffff::1": "wg0", "203.0.113.20": near}
    assert host.devices_to(*ways) == ways
    host.ping("10.10.0.1", "fd10:10::1", "192.0.2.1")
    assert "203.0.113.99" in far["paris"].wg("show", "wg0", "endpoints")


def is_clean(host: Host) -> None:
    """Nothing of ours is left."""
    assert host.links() == {"eth0"}
    assert "ginnel" not in host.run("/usr/sbin/nft", "list", "tables")
    rules = {rule["priority"] for version in ("-4", "-6") for rule in host.ip(version, "rule", "show")}
    assert rules == {0, 32766, 32767}


# ---------------------------------------------------------------- iproute2


def test_the_script_is_shell_that_nobody_objects_to(tmp_path: Path) -> None:
    for name, description in {**NODES, "fern": SIXES["fern"]}.items():
        for known in (NONE, secrets(description)):
            (file,) = renderer("iproute2").files(description, known)
            path = tmp_path / f"{name}.sh"
            path.write_bytes(file.content)
            for command in (["sh", "-n"], ["busybox", "sh", "-n"], ["shellcheck", "--shell=sh"]):
                done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
                assert (done.returncode, done.stdout + done.stderr) == (0, ""), command


def test_iproute2_without_keys_ends_with_them_comes_up_twice_and_goes_down_twice(lyon: Host) -> None:
    scripts = [script_of(lyon, NODES["lyon"], NONE), script_of(lyon, SIXES["lyon"])]
    with pytest.raises(CommandFailed, match=r"wg0\.key"):
        lyon.run(scripts[0], "up")
    keys_on(lyon)
    every = ("gre-basil", "gre-cedar", "gre-fern")
    for script in scripts:
        lyon.run(script, "up")
    is_lyon(lyon, tunnels=every)
    before = lyon.wg("show", "wg0", "latest-handshakes"), lyon.routes()
    lyon.run(scripts[0], "up")
    assert (lyon.wg("show", "wg0", "latest-handshakes"), lyon.routes()) == before, "a second `up` ends no session"
    lyon.ping("10.20.0.5", "10.42.0.5")
    for script in (*scripts, scripts[0]):
        lyon.run(script, "down")
    is_clean(lyon)
    assert lyon.guest.shell("ip -n lyon fou show").strip() == ""


def keys_on(host: Host, directory: str = "/etc/wireguard", owner: int = 0) -> None:
    """The keys of lyon, where files without them look for them."""
    host.put(f"{directory}/wg0.key", f"{private_key('lyon')}\n".encode(), 0o600, owner)
    host.put(f"{directory}/wg0.paris.psk", f"{psk('lyon', 'paris')}\n".encode(), 0o600, owner)


def test_iproute2_full_tunnel(phone: Host, far: dict[str, Host]) -> None:
    script = script_of(phone, NODES["phone"])
    phone.run(script, "up")
    is_phone(phone, far)
    phone.run(script, "down")
    is_clean(phone)


# ---------------------------------------------------------------- wg-quick and wg


def test_wg_quick_with_keys_on_the_host_and_wg_setconf(lyon: Host) -> None:
    place(lyon, renderer("wg-quick").files(NODES["lyon"]))
    keys_on(lyon)
    lyon.run("wg-quick", "up", "wg0")
    is_lyon(lyon, tunnels=())
    lyon.run("wg-quick", "down", "wg0")
    is_clean(lyon)
    # The same as `wg setconf` reads it, and `wg showconf` shows it again.
    description = dataclasses.replace(NODES["lyon"], tunnels=())
    (file,) = renderer("setconf").files(description, secrets(description))
    lyon.put("/run/wg0.setconf", file.content, 0o600)
    lyon.guest.shell("ip -n lyon link add wg0 type wireguard")
    lyon.wg("setconf", "wg0", f"/proc/{lyon.holder}/root/run/wg0.setconf")
    assert told(lyon.wg("showconf", "wg0")) == told(file.text)


def told(text: str) -> list[tuple[str, str]]:
    """A file's lines, without comments, prefixes in one order."""
    pairs = [line.partition(" = ")[::2] for line in text.splitlines() if " = " in line and not line.startswith("#")]
    return sorted((key, ", ".join(sorted(value.split(", ")))) for key, value in pairs)


# ---------------------------------------------------------------- systemd-networkd, and netplan for it

NETWORKD = ("/usr/bin/env", "SYSTEMD_LOG_TARGET=console", "/lib/systemd/systemd-networkd")
#: What networkd says of a host without udev, D-Bus and a wireless stack; anything else that it complains about is ours.
_USUAL = re.compile(
    r"Could not create runtime directory|Failed to update (link )?state file|wireless LAN|"
    r"Failed to read \$container|invalid family|Failed to save|Failed to open PID|Enumeration completed|"
    r"netdev ready|: Link (UP|DOWN)|(Gained|Lost) (carrier|IPv6LL)|netdev exists, using existing|Configuring with|"
    # netplan wants a scope where there is no gateway, and networkd then wants none for IPv6.
    r"10-netplan-\S+: Scope= is specified for IPv6 route"
)


def networkd(host: Host, ready: str) -> list[str]:
    """Run it until the host has the route to *ready*; what it complains about."""
    # It runs as a user of its own.
    owner = int(host.run("/usr/bin/id", "-u", "systemd-network"))
    host.guest.shell(f"chown -R {owner} /proc/{host.holder}/root/etc/systemd/network")
    process = host.start(*NETWORKD, log="/run/daemon.log")
    wait_until(lambda: ready in host.routes() or ended(host, process), 60, f"networkd's route to {ready}")
    wait_until(lambda: "tentative" not in host.guest.shell(f"ip -n {host.name} address"), 20, "addresses")
    complaints = [line for line in host.read("/run/daemon.log").splitlines() if line and not _USUAL.search(line)]
    host.stop(process)
    return complaints


def ended(host: Host, process: int) -> bool:
    """It must not."""
    assert host.guest.shell(f"[ -e /proc/{process} ] && echo there", check=False), host.read("/run/daemon.log")
    return False


def test_networkd_with_keys_on_the_host(lyon: Host) -> None:
    place(
        lyon, [*renderer("networkd").files(NODES["lyon"]), *renderer("networkd").files(SIXES["lyon"])], of=networkd_module.WHERE
    )
    keys_on(lyon, "/etc/systemd/network")
    assert networkd(lyon, "fd52::/64") == []
    is_lyon(lyon, tunnels=("gre-basil", "gre-cedar", "gre-fern"))


def test_networkd_full_tunnel(phone: Host, far: dict[str, Host]) -> None:
    place(phone, renderer("networkd").files(NODES["phone"], secrets(NODES["phone"])), of=networkd_module.WHERE)
    assert networkd(phone, "table 51820") == []
    is_phone(phone, far)


def generated(tmp_path: Path, *descriptions: NodeDescription, keys: bool) -> list[File]:
    """What netplan itself makes of its files."""
    directory = tmp_path / "etc/netplan"
    directory.mkdir(parents=True)
    for description in descriptions:
        file, *_ = renderer("netplan").files(description, secrets(description) if keys else NONE)
        path = directory / file.name
        path.write_bytes(file.content)
        path.chmod(0o600)
    done = subprocess.run(["netplan", "generate", "--root-dir", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    made = sorted((tmp_path / "run/systemd/network").iterdir())
    return [File(path.name, path.read_bytes(), networkd_module.WHERE, secret=keys) for path in made]


def test_netplan_with_keys_on_the_host(lyon: Host, tmp_path: Path) -> None:
    place(lyon, generated(tmp_path, WITHOUT_UDP["lyon"], SIXES["lyon"], keys=False))
    keys_on(lyon, "/etc/systemd/network")
    assert networkd(lyon, "fd52::/64") == []
    is_lyon(lyon, tunnels=("gre-basil", "gre-fern"), nodes=WITHOUT_UDP)


def test_netplan_full_tunnel(tmp_path: Path) -> None:
    (text,) = [file.text for file in generated(tmp_path, NODES["phone"], keys=True) if file.name.endswith(".network")]
    rules = [section.split("\n\n")[0].split() for section in text.split("[RoutingPolicyRule]\n")[1:]]
    every = {"0.0.0.0/0", "::/0"}
    marked = [["From=" + prefix, "Table=254", "FirewallMark=51820", "Priority=32760"] for prefix in every]
    through = [["From=" + prefix, "Table=51820", "Priority=32762"] for prefix in every]
    assert sorted(map(sorted, rules)) == sorted(map(sorted, [*marked, *through]))


# ---------------------------------------------------------------- NetworkManager


def networkmanager(host: Host, *names: str) -> None:
    """Run it, with a bus of its own, until these profiles are up."""
    host.put("/run/dbus/made", b"")
    host.start("/usr/bin/dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog", log="/run/dbus.log")
    wait_until(lambda: "system_bus_socket" in host.guest.shell(f"ls /proc/{host.holder}/root/run/dbus"), 60, "the bus")
    manager = host.start(
        "/usr/sbin/NetworkManager", "--debug", "--log-level=WARN", "--state-file=/run/nm.state", log="/run/daemon.log"
    )

    def up() -> bool:
        ended(host, manager)
        routes = host.routes()
        if not all(f"dev {name} " in routes for name in names):
            return False  # nmcli costs seconds
        shown = host.run("/usr/bin/nmcli", "-t", "-f", "NAME,STATE", "connection", "show", "--active", check=False)
        return all(f"{name}:activated" in shown for name in names)

    try:
        wait_until(up, 120, f"{names} in NetworkManager")
    except AssertionError:
        raise AssertionError(host.read("/run/daemon.log")) from None


def test_networkmanager(lyon: Host) -> None:
    nodes = WITHOUT_UDP
    for description in (nodes["lyon"], SIXES["lyon"]):
        place(lyon, renderer("networkmanager").files(description, secrets(description)), of=networkmanager_module.WHERE)
    networkmanager(lyon, "wg0", "gre-basil", "gre-fern")
    is_lyon(lyon, tunnels=("gre-basil", "gre-fern"), nodes=nodes)


def test_networkmanager_full_tunnel(phone: Host, far: dict[str, Host]) -> None:
    place(phone, renderer("networkmanager").files(NODES["phone"], secrets(NODES["phone"])), of=networkmanager_module.WHERE)
    networkmanager(phone, "wg0")
    is_phone(phone, far)


# ---------------------------------------------------------------- a protected origin: rules, tables, addresses of its own


@pytest.fixture
def cellar(far: dict[str, Host]) -> Iterator[Host]:
    host = Host.create(far["paris"].guest, "cellar")
    yield host
    host.close()


def answers_by_the_edge_that_asked(host: Host) -> None:
    """Two rules for each edge, a table for each, and what has no mark stays where it was."""
    rules = {
        (rule["priority"], rule.get("fwmark"), rule.get("fwmask"), rule["src"], rule["table"]) for rule in host.ip("rule", "show")
    }
    every = {
        (priority + edge, mark, mask, source, f"{20100 + edge}")
        for edge in (1, 2)
        for priority, mark, mask, source in (
            (20100, f"0x{edge}000000", "0xff000000", "all"),
            (20400, None, None, "192.0.2.64"),
        )
    }
    assert every <= rules
    for edge, device in enumerate(("wg0", "wg-south"), 1):
        text = host.guest.shell(
            f"ip -n {host.name} route get 1.2.3.4 mark 0x{edge}000000; ip -n {host.name} route show table {20100 + edge}"
        )
        assert f"dev {device} table {20100 + edge}" in text
        assert f"default dev {device}" in text
    assert host.devices_to("10.96.0.1", "10.96.0.2") == {"10.96.0.1": "wg0", "10.96.0.2": "wg-south"}


def test_networkd_and_a_protected_origin(cellar: Host) -> None:
    description = described(HIDDEN)["cellar"]
    place(cellar, renderer("networkd").files(description, secrets(description)), of=networkd_module.WHERE)
    assert networkd(cellar, "local 192.0.2.67 dev lo") == []
    answers_by_the_edge_that_asked(cellar)
    (link,) = cellar.ip("address", "show", "dev", "lo")
    addresses = {each["local"] for each in link["addr_info"]}
    assert addresses == {"127.0.0.1", "::1", *(f"192.0.2.{number}" for number in range(64, 68))}


def test_networkmanager_and_a_protected_origin(cellar: Host) -> None:
    description = described(HIDDEN)["cellar"]
    place(cellar, renderer("networkmanager").files(description, secrets(description)), of=networkmanager_module.WHERE)
    networkmanager(cellar, "wg0", "wg-south")
    answers_by_the_edge_that_asked(cellar)
