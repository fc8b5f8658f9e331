"""What `rtnl` asks of the kernel, as `ip` sees it afterwards: the words and the bytes of a request mean the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ginnel.linux import rtnl
from namespaces import Namespace, Net

pytestmark = pytest.mark.peers

ROOT = Path(__file__).resolve().parents[2]
_PRELUDE = f"""
import sys
sys.path.insert(0, {str(ROOT / "src")!r})
from ginnel.config.words import Route, Rule
from ginnel.errors import KernelError
from ginnel.linux.links import links
from ginnel.linux.rtnl import *
kernel = Rtnl()
"""


def inside(space: Namespace, script: str) -> str:
    """Run Python in a namespace; its stdout."""
    return space.run(sys.executable, "-c", _PRELUDE + script)


def device(space: Namespace, name: str) -> None:
    """An interface that holds still: a TUN device that nobody reads."""
    space.ip("tuntap", "add", name, "mode", "tun")


def state(space: Namespace) -> Any:
    """Links, addresses, routes and rules of a namespace, without what differs by chance."""
    found: list[Any] = []
    for link in space.ip_json("address", "show"):
        addresses = sorted((each["local"], each["prefixlen"], each["scope"]) for each in link["addr_info"])
        flags = sorted(set(link["flags"]) - {"NO-CARRIER", "LOWER_UP"})  # a moment after the rest
        found.append((link["ifname"], link["mtu"], flags, addresses))
    for version in ("-4", "-6"):
        routes = [{**route, "flags": []} for route in space.ip_json(version, "route", "show", "table", "all")]
        found += [json.dumps(route, sort_keys=True) for route in routes]
        found += [json.dumps(rule, sort_keys=True) for rule in space.ip_json(version, "rule", "show")]
    return found


REQUESTS = """
requests = [
    SetLink("d0", 1400, quiet=True),
    AddAddress("d0", "10.9.0.1/24"),
    AddAddress("d0", "fd09::1/64"),
    AddAddress("d0", "fe80::5efe:a09:1/64"),
    LinkUp("d0"),
    AddRoute("d0", Route.parse("10.20.0.0/24")),
    AddRoute("d0", Route.parse("fd20::/64 metric 7")),
    AddRoute("d0", Route.parse("0.0.0.0/0 table 6400 metric 9 src 10.9.0.1")),
    AddRoute("d0", Route.parse("::/0 table 64")),
    BlockRoute(Route.parse("10.20.0.0/24")),
    BlockRoute(Route.parse("10.21.0.0/16 table 6400")),
    BlockRoute(Route.parse("fd20::/64")),
    BlockRoute(Route.parse("10.20.0.0/24")),
    ChangeRule(Rule.parse("from 203.0.113.64/28 priority 100 table 6400"), 4),
    ChangeRule(Rule.parse("not fwmark 0x7/0xff priority 101 table 64"), 4),
    ChangeRule(Rule.parse("to fd00::/8 iif d0 oif lo priority 102 table 64"), 6),
]
"""


def test_each_request_is_what_its_words_say(net: Net) -> None:
    by_words, by_bytes = net.namespace("words"), net.namespace("bytes")
    for space in (by_words, by_bytes):
        device(space, "d0")
    lines = json.loads(
        inside(by_bytes, REQUESTS + "import json; kernel.apply(requests); print(json.dumps([r.words for r in requests]))")
    )
    for line in lines:
        by_words.ip(*line.removeprefix("ip ").split())
    assert state(by_bytes) == state(by_words)
    assert "fe80::5efe:a09:1" in str(state(by_bytes))
    inside(by_bytes, REQUESTS + "kernel.apply([ChangeRule(r.rule, r.version, delete=True) for r in requests[-3:]])")
    assert str(state(by_bytes)).count("unreachable") == 3
    inside(by_bytes, REQUESTS + "kernel.apply([BlockRoute(r.route, delete=True) for r in requests[-7:-4]])")
    assert "unreachable" not in str(state(by_bytes))
    assert len(by_bytes.ip_json("-4", "rule")) == 3
    assert len(by_bytes.ip_json("-6", "rule")) == 2


def test_the_first_refusal_of_a_batch_is_named(net: Net) -> None:
    space = net.namespace("a")
    device(space, "d0")
    said = inside(
        space,
        """
many = [AddRoute("d0", Route.parse(f"10.{n // 250}.{n % 250}.0/24")) for n in range(300)]
kernel.apply([LinkUp("d0"), *many])
kernel.apply([AddAddress("d0", "10.200.0.1/24")])
for requests in (
    [AddAddress("d0", "10.200.1.1/24"), many[7], many[9]],
    [AddRoute("d0", Route.parse("10.201.0.0/24 src 10.99.0.1"))],
    [LinkUp("d1")],
    [SetLink("d0", 1 << 20)],
):
    try:
        kernel.apply(requests)
    except KernelError as error:
        print(error.attempted, error.errno, sep=": ")
print(len([route for route in many]))
""",
    )
    assert said.splitlines() == [
        "ip -4 route add 10.0.7.0/24 dev d0: 17",
        "ip -4 route add 10.201.0.0/24 dev d0 src 10.99.0.1: 22",
        "find interface d1: 19",
        "ip link set dev d0 mtu 1048576: 22",
        "300",
    ]
    assert len(space.ip_json("-4", "route", "show", "dev", "d0", "scope", "link")) >= 300


def test_ways_and_their_mtus(net: Net) -> None:
    space, far = net.namespace("a"), net.namespace("b")
    link = net.veth(space, far, ["192.0.2.1/24", "2001:db8::1/64"], ["192.0.2.2/24", "2001:db8::2/64"], mtu=1400)
    space.ip("route", "add", "10.0.0.0/8", "via", "192.0.2.2")
    space.ip("route", "add", "10.1.0.0/16", "via", "192.0.2.2", "mtu", "1300")
    space.ip("route", "add", "default", "via", "192.0.2.2", "table", "77")
    space.ip("rule", "add", "fwmark", "7", "table", "77")
    space.ip("rule", "add", "fwmark", "8", "unreachable")
    said = inside(
        space,
        f"""
import socket
device = socket.if_nametoindex({link.left!r})
def show(address, **how):
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    way = kernel.way(packed, **how)
    print(address, way and (way.index == device, way.mtu, way.local, way.gateway and ".".join(map(str, way.gateway))))
show("192.0.2.2"); show("2001:db8::2"); show("10.2.0.1"); show("10.1.0.1"); show("203.0.113.1")
show("203.0.113.1", mark=7); show("10.2.0.1", mark=8); show("203.0.113.1", device=device); show("192.0.2.1")
print(kernel.rule_priorities(4), kernel.rule_priorities(6))
""",
    )
    assert said.splitlines() == [
        "192.0.2.2 (True, None, False, b'')",
        "2001:db8::2 (True, None, False, b'')",
        "10.2.0.1 (True, None, False, '192.0.2.2')",
        "10.1.0.1 (True, 1300, False, '192.0.2.2')",
        "203.0.113.1 None",
        "203.0.113.1 (True, None, False, '192.0.2.2')",
        "10.2.0.1 None",
        "203.0.113.1 (True, None, False, b'')",
        "192.0.2.1 (False, None, True, b'')",
        "[0, 32764, 32765, 32766, 32767] [0, 32766]",
    ]


def test_links_are_deleted_by_what_they_were_not_by_what_they_are_called(net: Net) -> None:
    space = net.namespace("a")
    for number in range(6):
        device(space, f"d{number}")
    said = inside(
        space,
        """
import subprocess
held = [(link.name, link.index) for link in links() if link.name.startswith("d")]
commands = "ip link delete d0; ip tuntap add d0 mode tun; ip link set d1 name e1; ip link set d5 group 7"
subprocess.run(commands, shell=True, check=True)
kernel.delete_links(held[:5])
print(sorted(link.name for link in links()))
kernel.delete_links(held[:5])
kernel.delete_links(held[5:])
print(sorted(link.name for link in links()))
""",
    )
    assert said.splitlines() == ["['d0', 'd5', 'lo']", "['d0', 'lo']"]


def test_without_privilege_it_says_so(net: Net) -> None:
    space = net.namespace("a")
    command = [*space.prefix(), "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c"]
    done = subprocess.run([*command, _PRELUDE + 'kernel.apply([LinkUp("lo")])'], capture_output=True, text=True, check=False)
    assert "ip link set dev lo up: Operation not permitted\n  hint: this needs root" in done.stderr


def test_a_routing_table_by_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from ginnel.config.words import Route
    from ginnel.errors import KernelError

    monkeypatch.setattr(rtnl, "table_number", {"origin": 300}.get)
    request = rtnl.AddRoute("d0", Route.parse("10.0.0.0/8 table origin"))
    _, _, body = request.message(lambda _: 1)
    assert rtnl.u32(15, 300) in body
    with pytest.raises(KernelError, match="find routing table nosuch"):
        rtnl.AddRoute("d0", Route.parse("10.0.0.0/8 table nosuch")).message(lambda _: 1)
