"""Fleets as they are found in the world: what network they are, that its plan is empty, and that nothing was lost unsaid."""

from __future__ import annotations

import pytest

from ginnel.network import Compilation, Lock, allocate, parse_lock, parse_network, render_lock
from ginnel.network.importing import Source, read_hosts
from ginnel.network.importing.infer import Inferred, infer
from ginnel.network.lint import lint
from ginnel.network.model import HostPort
from ginnel.network.plan import plan
from ginnel.units import Prefix
from unit.network.importing.fleets import FLEETS, filled, fleet, key_of

#: Shape, hubs, nodes with what lies behind them, and the codes of all findings.
EXPECTED: dict[str, tuple[str, tuple[str, ...], dict[str, tuple[str, ...]], list[str]]] = {
    "gre": ("none", (), {"core": ("10.60.0.0/16",), "edge": ("10.50.0.0/16",)}, []),
    "hub": (
        "hub",
        ("hub",),
        {"branch-a": ("172.16.1.0/24", "172.16.2.0/24"), "branch-b": ("172.17.0.0/16",), "hub": ()},
        ["G0814"],
    ),
    "installer": ("hub", ("installer",), {"alice": (), "bobs-laptop": (), "installer": ()}, ["G0804", "G0804", "G0810"]),
    "meshconf": ("mesh", (), {"alpha": (), "beta": (), "delta": ("10.44.0.0/16",), "gamma": ()}, []),
    "mixed": ("hub", ("paris",), {"laptop": (), "paris": (), "server": ("10.41.0.0/24",)}, ["G0807"]),
    "sites": (
        "mesh",
        (),
        {"berlin": ("192.168.10.0/24",), "muenchen": ("192.168.20.0/24", "192.168.21.0/24")},
        [],
    ),
    "web": ("hub", ("web",), {"web": (), "mums-ipad": (), "phone": ()}, ["G0812", "G0812", "G0813"]),
}


def imported(sources: list[Source]) -> tuple[Inferred, list[str]]:
    read = read_hosts(sources)
    inferred = infer(read.hosts)
    return inferred, [finding.code for finding in (*read.findings, *inferred.findings)]


def test_every_fleet_is_expected() -> None:
    assert set(EXPECTED) == set(FLEETS)


@pytest.mark.parametrize("name", FLEETS)
def test_a_fleet_is_one_network(name: str) -> None:
    shape, hubs, nodes, codes = EXPECTED[name]
    inferred, found = imported(fleet(name))
    assert inferred.network is not None
    assert (inferred.network.shape, inferred.network.hubs) == (shape, hubs)
    assert {node.name: tuple(map(str, node.lans)) for node in inferred.network.nodes} == nodes
    assert found == codes
    assert [step.text for host in inferred.left.hosts for step in host.steps] == []
    assert [finding.message for finding in lint(read_hosts(fleet(name)).hosts) if finding.severity == "error"] == []


@pytest.mark.parametrize("name", FLEETS)
def test_the_files_that_are_written_are_enough(name: str) -> None:
    inferred, _ = imported(fleet(name))
    network = parse_network(inferred.text, "network.toml")
    lock = allocate(network, parse_lock(render_lock(inferred.lock), "network.lock.toml"))
    again = [node.host() for node in Compilation(network, lock).nodes() if node.node.runs != "other"]
    found = plan(read_hosts(fleet(name)).hosts, again)
    assert [step.text for host in found.hosts for step in host.steps if step.action != "tunnel-remove"] == []


@pytest.mark.parametrize("name", FLEETS)
def test_the_same_files_give_the_same_bytes(name: str) -> None:
    assert imported(fleet(name))[0].text == imported(fleet(name))[0].text


def conf(address: str, *peers: str, port: int = 0, name: str = "", extra: str = "") -> bytes:
    own = f"PrivateKey = @private {name}@\n" if name else ""
    listen = f"ListenPort = {port}\n" if port else ""
    text = f"[Interface]\nAddress = {address}\n{own}{listen}{extra}" + "".join(f"\n[Peer]\n{peer}\n" for peer in peers)
    return filled(text).encode()


def test_two_interfaces_of_a_host_are_two_nodes() -> None:
    lyon = [
        Source(
            "lyon/wg0.conf",
            conf("10.1.0.2/24", "PublicKey = @public a@\nAllowedIPs = 10.1.0.1/32\nEndpoint = 192.0.2.1:1", name="l0"),
        ),
        Source(
            "lyon/wg1.conf",
            conf("10.2.0.2/24", "PublicKey = @public b@\nAllowedIPs = 10.2.0.1/32\nEndpoint = 192.0.2.2:1", name="l1"),
        ),
    ]
    inferred, codes = imported(lyon)
    assert inferred.network is not None
    assert [node.name for node in inferred.network.nodes] == ["lyon", "lyon-wg1", *sorted_others(inferred)]
    assert inferred.network.node("lyon-wg1").interface == "wg1" or inferred.network.interface == "wg1"
    assert (inferred.left.empty, codes) == (True, ["G0810", "G0812", "G0812"] if "G0810" in codes else ["G0812", "G0812"])


def sorted_others(inferred: Inferred) -> list[str]:
    assert inferred.network is not None
    return [node.name for node in inferred.network.nodes if node.runs == "other"]


def test_a_peer_that_does_not_have_its_peer_is_a_finding_and_a_step() -> None:
    sources = [
        Source(
            "a.conf", conf("10.0.0.1/24", "PublicKey = @public b@\nAllowedIPs = 10.0.0.2/32\nEndpoint = 192.0.2.2:5", name="a")
        ),
        Source("b.conf", conf("10.0.0.2/24", name="b", port=5)),
    ]
    inferred, codes = imported(sources)
    assert codes == ["G0815"]
    assert [(host.name, step.action, step.peer) for host in inferred.left.hosts for step in host.steps] == [
        ("b", "peer-add", "a")
    ]


def test_endpoints_that_differ_are_told_and_kept() -> None:
    hub = Source(
        "hub.conf",
        conf(
            "10.0.0.1/24",
            *(f"PublicKey = @public {n}@\nAllowedIPs = 10.0.0.{i}/32" for i, n in enumerate("abc", 2)),
            name="hub",
            port=7,
        ),
    )
    spokes = [
        Source(
            f"{n}.conf", conf(f"10.0.0.{i}/24", f"PublicKey = @public hub@\nAllowedIPs = 10.0.0.1/32\nEndpoint = {e}:7", name=n)
        )
        for i, (n, e) in enumerate((("a", "192.0.2.1"), ("b", "192.0.2.1"), ("c", "hub.example.org")), 2)
    ]
    inferred, codes = imported([hub, *spokes])
    assert codes == ["G0811"]
    assert inferred.left.empty
    assert inferred.network is not None
    assert inferred.network.node("hub").endpoint == HostPort("192.0.2.1")
    ends = [end for link in inferred.network.links for end in link.ends if end.endpoint is not None]
    assert [end.endpoint for end in ends] == [HostPort("hub.example.org", 7)]


def test_nothing_is_nothing() -> None:
    inferred, codes = imported([])
    assert (inferred.network, codes) == (None, ["G0815"])


def test_a_key_that_only_the_others_know_is_pinned() -> None:
    sources = [
        Source(
            "a.conf", conf("10.0.0.1/24", "PublicKey = @public b@\nAllowedIPs = 10.0.0.2/32\nEndpoint = 192.0.2.2:5", name="a")
        ),
        Source("b.conf", conf("10.0.0.2/24", "PublicKey = @public a@\nAllowedIPs = 10.0.0.1/32", port=5)),
    ]
    inferred, codes = imported(sources)
    assert (inferred.left.empty, codes) == (True, ["G0807"])
    assert inferred.lock.nodes["b"].public_key == key_of("b")


def test_addresses_with_lengths_are_all_that_a_node_has() -> None:
    text = '[network]\nname = "x"\npool = ["10.0.0.0/24", "fd00::/64"]\nshape = "none"\n'
    text += '[node.a]\naddress = ["10.0.0.7/32", "192.168.9.1/30"]\n[node.b]\n'
    network = parse_network(text, "x.toml")
    compiled = Compilation(network, allocate(network, Lock()))
    assert list(map(str, compiled.node("a").address)) == ["10.0.0.7/32", "192.168.9.1/30"]
    assert list(map(str, compiled.node("b").address)) == ["10.0.0.1/24", "fd00::1/64"]
    assert compiled.node("a").address[0].host == Prefix.parse("10.0.0.7")


def test_a_client_that_sends_only_ipv4_out() -> None:
    sources = [
        Source("hub.conf", conf("10.0.0.1/24", "PublicKey = @public c@\nAllowedIPs = 10.0.0.2/32", name="hub", port=500)),
        Source(
            "client.conf",
            conf("10.0.0.2/24", "PublicKey = @public hub@\nAllowedIPs = 0.0.0.0/0\nEndpoint = 192.0.2.1:500", name="c"),
        ),
    ]
    inferred, codes = imported(sources)
    assert (inferred.left.empty, codes) == (True, [])
    assert inferred.network is not None
    assert inferred.network.node("client").exit == "hub"


def test_what_no_network_file_can_say_is_named() -> None:
    sources = [
        Source("a.conf", conf("10.0.0.1/24", "PublicKey = @public x@\nAllowedIPs = 10.0.0.9/32", name="ha", port=1)),
        Source("b.conf", conf("10.0.0.1/24", "PublicKey = @public x@\nAllowedIPs = 10.0.0.9/32", name="other", port=1)),
    ]
    inferred, codes = imported(sources)
    assert inferred.network is None
    assert codes[-1] == "G0401"
