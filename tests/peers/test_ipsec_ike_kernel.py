"""
IKEv2 and ESP against strongSwan on the Linux kernel: what its user-space ESP cannot do.

Transport mode, raw ESP, ESN, IPv6, GRE over IPsec in both modes with the kernel's GRE (strongSwan's own scenario net2net-gre: GRE
key 42, `dynamic[gre]`), route-based IPsec on an xfrm interface, IP in IP; and through a NAT in front of us.

One charon in the guest and one process of ours have all connections at the same time:

    node  203.0.113.N, 2001:db8:3::N               inside 10.203.N.1, fd23:N::1      ginnel, device gN
    swan  203.0.113.(100+N), 2001:db8:3::(100+N)   inside 10.203.N.2, fd23:N::2      the guest, device gN

Through the NAT our end has 10.77.0.N instead: behind it we are seen as 203.0.113.99; where strongSwan is behind it, it is seen as
10.77.0.254.
The emulated kernel is slow: nothing here is about time.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ginnel.config.node import IpsecConfig, PlainConfig
from namespaces import Namespace, Net, wait_until
from peers.gre_nodes import LINUX_TYPES, batch
from peers.guest import Guest
from peers.ipsec_kernel import ESP_MODULES, MTU
from peers.node_running import NodeProcess
from peers.strongswan import Charon, InGuest, Value, child, connection, psk, secret
from peers.test_gre_kernel import GATHER_NOTHING

SECRET = "a secret of many words"
NAT, NAT_INSIDE = "203.0.113.99", "10.77.0.254"
MASQUERADE = """
table ip nat {
  chain leaving { type nat hook postrouting priority srcnat; ip saddr { 10.77.0.0/24, 203.0.113.0/24 } masquerade random; }
}
"""
UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Site:
    """One connection: *ours* are fields of `IpsecConfig`, *theirs* values of strongSwan's child."""

    number: int
    label: str
    kind: str = "gre"
    mode: str = "transport"
    family: int = 4
    esp: str = "aes256gcm16"
    #: Who is behind the NAT.
    behind: Literal["", "us", "them"] = ""
    ours: dict[str, Any] = field(default_factory=dict)
    #: What `ip xfrm state` must say of the SA, in part.
    state: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For pytest."""
        return self.label

    @property
    def device(self) -> str:
        """At both ends; also strongSwan's name of the connection and its child."""
        return f"g{self.number}"

    @property
    def node(self) -> str:
        """Our address."""
        if self.behind:
            return f"10.77.0.{self.number}"
        return f"203.0.113.{self.number}" if self.family == 4 else f"2001:db8:3::{self.number}"

    @property
    def node_seen(self) -> str:
        """Our address as they see it."""
        return NAT if self.behind == "us" else self.node

    @property
    def swan(self) -> str:
        """Theirs."""
        return f"203.0.113.{100 + self.number}" if self.family == 4 else f"2001:db8:3::{100 + self.number}"

    @property
    def swan_seen(self) -> str:
        """Theirs as we see it."""
        return NAT_INSIDE if self.behind == "them" else self.swan

    @property
    def carries(self) -> tuple[int, ...]:
        """Families that go through it."""
        return {"ipip": (4,), "sit": (6,)}.get(self.kind, (4, 6))

    def inner(self, end: int, family: int) -> str:
        """The address inside: end 1 is ours."""
        return f"10.203.{self.number}.{end}" if family == 4 else f"fd23:{self.number}::{end}"

    def prefixes(self, end: int) -> list[str]:
        """With the length of their network."""
        return [f"{self.inner(end, family)}/{24 if family == 4 else 64}" for family in self.carries]

    def plain(self, directory: Path) -> PlainConfig:
        """Our end."""
        path = directory / "psk"
        path.write_text(SECRET)
        path.chmod(0o600)
        ipsec = IpsecConfig(
            mode="tunnel" if self.mode == "tunnel" else "transport", start="wait", psk_file=str(path),
            local_id=f"node{self.number}", remote_id=f"swan{self.number}",
            ike_proposals=("aes256gcm16-prfsha256-x25519",), esp_proposals=(self.esp,),
        )  # fmt: skip
        keys = {"ikey": 42, "okey": 42} if self.kind == "gre" else {}
        assert self.family in (4, 6)
        return PlainConfig(
            self.device, self.kind, self.family, local=self.node, remote=self.swan_seen, mtu=MTU,  # type: ignore[arg-type]
            ipsec=dataclasses.replace(ipsec, **self.ours), **keys,
        )  # fmt: skip

    def section(self) -> dict[str, Value]:
        """Their end."""
        protocol = {"gre": "gre", "ipip": "4", "sit": "41"}.get(self.kind, "")
        ends = ("0.0.0.0/0, ::/0", "0.0.0.0/0, ::/0") if self.kind == "ipsec" else (f"dynamic[{protocol}]",) * 2
        options: dict[str, Value] = {"if_id_in": str(self.number), "if_id_out": str(self.number)} if self.kind == "ipsec" else {}
        one = child(*ends, mode=self.mode, esp_proposals=self.esp, replay_window=256, **options)
        return connection(
            self.swan, self.node_seen, psk(f"swan{self.number}"), psk(f"node{self.number}"), {self.device: one}
        )  # fmt: skip

    def link(self) -> list[str]:
        """Their device, for `ip -batch`."""
        if self.kind == "ipsec":
            made = f"link add {self.device} mtu {MTU} type xfrm dev eth0 if_id {self.number}"
        else:
            kind = LINUX_TYPES[self.kind, self.family]
            made = f"link add {self.device} mtu {MTU} gso_max_segs 1 type {kind} local {self.swan} remote {self.node_seen}"
            made += " encaplimit none" if self.family == 6 else ""
            made += " key 42" if self.kind == "gre" else ""
        return [
            made,
            *(f"address add {prefix} dev {self.device}" for prefix in self.prefixes(2)),
            f"link set {self.device} up",
        ]


SITES = [
    Site(1, "net2net-gre", esp="aes128gcm16-x25519", state=("mode transport", "rfc4106(gcm(aes))")),
    Site(2, "gre-transport-esn", esp="aes256gcm16-esn", state=("mode transport", "anti-replay esn context")),
    Site(3, "gre-tunnel", mode="tunnel", state=("mode tunnel",)),
    Site(4, "gre-transport-udp", ours={"encapsulation": "udp"}, state=("mode transport", "encap type espinudp sport 4500")),
    Site(5, "gre-transport-v6", family=6, esp="chacha20poly1305-esn", state=("mode transport", "rfc7539esp")),
    Site(
        6,
        "ipsec-esn",
        kind="ipsec",
        mode="tunnel",
        esp="aes256-sha256-esn",
        state=("mode tunnel", "anti-replay esn context", "if_id 0x6"),
    ),
    Site(7, "ipsec-v6-raw", kind="ipsec", mode="tunnel", family=6, esp="aes128-sha512", state=("mode tunnel",)),
    Site(8, "ipip-transport", kind="ipip", state=("mode transport",)),
    Site(9, "we-behind-nat-gre", behind="us", state=("mode transport", "encap type espinudp")),
    Site(10, "we-behind-nat-ipsec", kind="ipsec", mode="tunnel", behind="us", state=("mode tunnel", "encap type espinudp")),
    Site(11, "they-behind-nat-gre", behind="them", state=("mode transport", "encap type espinudp")),
]


@dataclass(slots=True)
class Both:
    """The node here and strongSwan there."""

    guest: Guest
    space: Namespace
    router: Namespace
    node: NodeProcess
    charon: Charon

    def command(self, site: Site, what: str) -> None:
        """initiate, terminate, rekey or rekey-ike at our end."""
        answer = self.node.ask(op=what, tunnel=site.device)
        assert "error" not in answer, self.why(site)

    def child(self, site: Site) -> dict[str, Any]:
        """Wait until we have a child; it."""
        try:
            found: dict[str, Any] = wait_until(lambda: self.node.show(site.device)["ipsec"]["child"], UP_S, "a child")
        except AssertionError as missing:
            raise AssertionError(f"{missing} {self.why(site)}") from None
        return found

    def carries(self, site: Site) -> None:
        """Pings from both ends come back, through each family, small and in fragments."""
        for family in site.carries:
            ours, theirs = site.inner(1, family), site.inner(2, family)
            assert self.space.ping(theirs, count=2, within_s=3), self.why(site)
            self.guest.run("ping", "-n", "-q", "-c", "2", "-i", "0.05", "-W", "3", "-s", "2500", ours)

    def ping_back(self, site: Site) -> str:
        """One ping from the guest; what it said."""
        return self.guest.run("ping", "-n", "-c", "1", "-W", "2", site.inner(1, 4), check=False)

    def why(self, site: Site) -> str:
        """What there is to read when something is wrong."""
        state = self.guest.shell("ip -s xfrm state; ip xfrm policy; cat /proc/net/xfrm_stat", check=False)
        ours, theirs = self.node.said()[-3000:], self.charon.said()[-3000:]
        return f"{self.node.show(site.device)}\n--- ginnel:\n{ours}\n--- strongSwan:\n{theirs}\n--- Linux:\n{state}"


@pytest.fixture(scope="module")
def both(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """All connections, none established."""
    directory = tmp_path_factory.mktemp("sites")
    guest.load("ip_gre", "ip6_gre", "ipip", "sit", *ESP_MODULES)
    addresses = [f"{site.swan}/{24 if site.family == 4 else 64}" for site in SITES]
    with Net.create() as net:
        space, router = net.namespace("node"), net.namespace("nat")
        guest.join(space, [f"{site.node}/{24 if site.family == 4 else 64}" for site in SITES if not site.behind])
        guest.join(router, [f"{NAT}/24"])
        net.veth(space, router, [f"{site.node}/24" for site in SITES if site.behind], [f"{NAT_INSIDE}/24"])
        router.write_proc("/proc/sys/net/ipv4/ip_forward", "1")
        router.run("nft", "-f", "-", stdin=MASQUERADE)
        for site in SITES:
            if site.behind == "us":
                space.ip("route", "add", f"{site.swan}/32", "via", NAT_INSIDE)
        batch(guest, [f"address add {address} dev eth0" for address in addresses])
        batch(guest, [f"route add 10.77.0.0/24 via {NAT}"])
        batch(guest, [line for site in SITES for line in site.link()])
        guest.host(sys.executable, "-c", GATHER_NOTHING, "eth0")
        charon = Charon.start(InGuest(guest), {"install_routes": False})
        charon.load(
            {site.device: site.section() for site in SITES},
            {f"ike-{site.number}": secret(SECRET, f"swan{site.number}", f"node{site.number}") for site in SITES},
        )
        node = NodeProcess.start(space, net.unique("site"), directory, [site.plain(directory) for site in SITES])
        for site in SITES:
            if 6 not in site.carries:
                space.write_proc(f"/proc/sys/net/ipv6/conf/{site.device}/disable_ipv6", "1")
            node.up(*((site.device, prefix) for prefix in site.prefixes(1)))
        try:
            yield Both(guest, space, router, node, charon)
        finally:
            node.stop()
            charon.close(str(directory / "charon.log"))
            lines = [
                "route del 10.77.0.0/24",
                *(f"link del {site.device}" for site in SITES),
                *(f"address del {address} dev eth0" for address in addresses),
            ]
            batch(guest, [*lines, "xfrm policy flush", "xfrm state flush"], check=False)


@pytest.mark.parametrize("site", SITES, ids=str)
def test_established_and_rekeyed(both: Both, site: Site) -> None:
    """Odd ones by strongSwan, rekeyed by us; even ones by us, rekeyed by strongSwan; from behind the NAT if there is one."""
    by_us = site.behind == "us" or (site.behind == "" and site.number % 2 == 0)
    if by_us:
        both.command(site, "initiate")
    else:
        assert "established" in both.charon.initiate(site.device, check=False), both.why(site)
    before = both.child(site)
    both.carries(site)
    shown = both.guest.run("ip", "xfrm", "state", "list", "spi", f"0x{before['spi_out']}")
    assert [word for word in site.state if word not in shown] == [], shown
    if by_us:
        both.charon.rekey_child(site.device)
    else:
        both.command(site, "rekey")
    wait_until(lambda: both.child(site)["spi_in"] != before["spi_in"], UP_S, "a rekeyed child")
    both.carries(site)
    if by_us:
        both.charon.terminate(site.device)
        wait_until(lambda: both.node.show(site.device)["ipsec"]["child"] is None, UP_S, "the end here")
    else:
        both.command(site, "terminate")
        wait_until(lambda: all(one["name"] != site.device for one in both.charon.associations()), UP_S, "the end there")


#: Rounds of pings to "$2", each waited for to the last answer, until the file "$1" is there.
STEADY = 'while [ ! -e "$1" ]; do ping -n -q -c 100 -i 0.01 -W 5 "$2"; done'


def test_nothing_is_lost_while_both_rekey(both: Both, tmp_path: Path) -> None:
    """GRE in transport mode and IPsec alone under a steady ping, rekeyed by either side in turn, and the IKE SA as well."""
    sites = [SITES[0], SITES[5]]
    for site in sites:
        both.command(site, "initiate")
        both.child(site)
    stop = tmp_path / "stop"
    pings = [
        both.space.popen("sh", "-c", STEADY, "steady", str(stop), site.inner(2, 4), stdout=subprocess.PIPE, text=True)
        for site in sites
    ]
    for what in ("child", "ike", "child", "ike"):
        for site in sites:
            before = both.node.show(site.device)["ipsec"]
            if what == "child":
                both.charon.rekey_child(site.device)
            else:
                both.charon.rekey_ike(site.device)
            both.command(site, "rekey" if what == "ike" else "rekey-ike")
            wait_until(
                lambda s=site, b=before: all(
                    both.node.show(s.device)["ipsec"][one] > b[one] for one in ("rekeyings", "ike_rekeyings")
                ),
                UP_S,
                "both kinds rekeyed",
            )
    stop.touch()
    for site, ping in zip(sites, pings, strict=True):
        said, _ = ping.communicate(timeout=60)
        rounds = [line for line in said.splitlines() if "transmitted" in line]
        assert rounds
        assert all("100 packets transmitted, 100 received" in line for line in rounds), f"{said} {both.why(site)}"
        assert len(both.charon.children(site.device)) == 1
        both.command(site, "terminate")


@pytest.mark.parametrize("site", [SITES[8], SITES[10]], ids=str)
def test_a_nat_forgets_its_mapping(both: Both, site: Site) -> None:
    """Another port all of a sudden: whoever is not behind the NAT follows genuine packets, and the tunnel goes on."""
    if site.behind == "us":
        both.command(site, "initiate")
    else:
        assert "established" in both.charon.initiate(site.device, check=False), both.why(site)
    child = both.child(site)
    both.carries(site)
    before = both.router.run("conntrack", "-L", "-p", "udp", "--dport", "4500")
    both.router.run("conntrack", "-F")
    if site.behind == "us":
        wait_until(lambda: both.space.ping(site.inner(2, 4), within_s=2), 20, "a ping from behind the NAT")
    else:
        wait_until(lambda: "1 received" in both.ping_back(site), 20, "a ping from behind the NAT")
    assert mapped(both.router.run("conntrack", "-L", "-p", "udp", "--dport", "4500")) != mapped(before)
    both.carries(site)
    assert both.child(site)["spi_in"] == child["spi_in"]
    both.command(site, "terminate")


def mapped(table: str) -> set[str]:
    """Ports that a NAT has mapped to."""
    return set(re.findall(r"dport=(\d+) \[?", table.replace("dport=4500 ", "")))
