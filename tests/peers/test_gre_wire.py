"""
What ginnel sends, read by tshark: every tunnel of the table, packet by packet.

Headers as the options say, all checksums right, sequence numbers from 0 without a gap, nothing malformed and nothing that
tshark has an opinion about; GRE in UDP on its port, and Linux's own Destination Options when they were asked for.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from namespaces import Net, run, wait_until
from peers.gre_nodes import ROOT, TABLE, Near, Plain
from peers.nodes import Capture
from peers.test_gre_hostile import silence

PINGS = 3
FIELDS = (
    *("frame.protocols", "ip.version", "ipv6.version", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "ip.checksum.status"),
    *("ip.flags.df", "ip.ttl", "ip.proto", "ip.len", "ipv6.nxt", "ipv6.plen", "ipv6.hlim", "ipv6.opt.tel", "gre.proto"),
    *("gre.flags_and_version", "gre.key", "gre.sequence_number", "gre.checksum.status", "udp.srcport", "udp.dstport"),
    *("udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status", "eth.src", "_ws.expert.message", "_ws.malformed"),
)
#: tshark's "Good".
GOOD = "1"
VERIFY = ("ip.check_checksum:TRUE", "udp.check_checksum:TRUE")


@dataclass(frozen=True, slots=True)
class Read:
    """One packet as tshark dissected it: every value of every field, from the outside in."""

    fields: dict[str, list[str]]

    def all(self, name: str) -> list[str]:
        """Every value, outermost first."""
        return self.fields.get(name, [])

    def one(self, name: str) -> str:
        """The outermost value; empty when there is none."""
        return next(iter(self.all(name)), "")

    @property
    def outer(self) -> int:
        """Family of the delivery header."""
        return 4 if self.one("frame.protocols").startswith("eth:ethertype:ip:") else 6

    @property
    def source(self) -> str:
        """Source of the delivery header."""
        return self.one("ip.src" if self.outer == 4 else "ipv6.src")


def dissect(path: Path) -> list[Read]:
    """Every packet of a capture."""
    argv = ["tshark", "-r", str(path), "-n", "-T", "json"]
    argv += [word for name in FIELDS for word in ("-e", name)] + [word for option in VERIFY for word in ("-o", option)]
    return [Read(row["_source"]["layers"]) for row in json.loads(run(argv))]


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Read]]:
    """Pings into every tunnel, through each family that it carries; what was on the wire of each, by its name."""
    path = tmp_path_factory.mktemp("wire") / "wire.pcap"
    with Net.create() as net:
        space, outside = net.namespace("near"), net.namespace("wire")
        near_ends = [f"{one.near}/{24 if one.family == 4 else 64}" for one in TABLE]
        far_ends = [f"{one.far}/{24 if one.family == 4 else 64}" for one in TABLE]
        link = net.veth(space, outside, near_ends, far_ends)
        silence(outside)
        # On the wire, not on its way there: no super-packets, no checksums yet to be made.
        off = f"from ginnel.lab.offload import turn_off; turn_off({link.left!r})"
        space.run("env", f"PYTHONPATH={ROOT / 'src'}", sys.executable, "-c", off)
        capture = Capture.start(outside, link.right, path, "(ip or ip6) and not icmp6 and not ip6 multicast")
        near = Near(space)
        near.start()
        near.add(TABLE, {one.name: 1400 for one in TABLE})
        for one in TABLE:
            if one.kind == "gretap":
                for family in one.carries:
                    space.ip("neigh", "add", one.inner(2, family), "lladdr", "02:00:00:00:00:02", "dev", one.name)
        pings = "".join(
            f"ping -n -q -i 0.01 -W 0.01 -c {PINGS} {one.inner(2, family)} & " for one in TABLE for family in one.carries
        )
        space.run("sh", "-c", f"{pings} wait")
        addresses = [ipaddress.ip_address(one.inner(2, family)).packed for one in TABLE for family in one.carries]

        def all_there() -> bool:
            frames = capture.packets()
            return all(sum(address in frame for frame in frames) >= PINGS for address in addresses)

        wait_until(all_there, 5, "every ping on the wire")
        capture.stop()
        near.stop()
    by_end = {one.far: one.name for one in TABLE}
    found: dict[str, list[Read]] = {one.name: [] for one in TABLE}
    for packet in dissect(path):
        found[by_end[packet.one("ip.dst") if packet.outer == 4 else packet.one("ipv6.dst")]].append(packet)
    return found


@pytest.mark.parametrize("tunnel", TABLE, ids=[one.label for one in TABLE])
def test_headers_are_as_the_options_say_and_all_checksums_right(packets: dict[str, list[Read]], tunnel: Plain) -> None:
    """Delivery header, GRE header and what is inside, as an independent reader has them."""
    mine = packets[tunnel.name]
    options, gre = tunnel.options, tunnel.kind in {"gre", "gretap"}
    for packet in mine:
        assert not packet.all("_ws.malformed")
        # The TTL is inherited from what the kernel says to its neighbours; so it is in Linux's own tunnels.
        assert set(packet.all("_ws.expert.message")) <= {'"Time To Live" only 1'}
        assert (packet.outer, packet.source) == (tunnel.family, tunnel.near)
        for checksum in ("ip", "udp", "icmp", "icmpv6", "gre"):
            assert set(packet.all(f"{checksum}.checksum.status")) <= {GOOD}
        if tunnel.family == 4:
            assert packet.one("ip.flags.df") in {"1", "True"}
        if gre:
            flags = int(packet.one("gre.flags_and_version"), 16)
            key, sequence = options.get("okey"), options.get("oseq")
            assert flags == 0x8000 * bool(options.get("ocsum")) | 0x2000 * (key is not None) | 0x1000 * bool(sequence)
            assert packet.one("gre.key") == ("" if key is None else f"0x{key:08x}")
            assert bool(packet.one("gre.checksum.status")) == bool(options.get("ocsum"))
            types = {"0x6558"} if tunnel.kind == "gretap" else {"0x0800", "0x86dd"}
            assert packet.one("gre.proto") in types
        if "udp" in options:
            assert packet.one("udp.dstport") == "4754"
            assert packet.one("udp.checksum.status") == GOOD
            port = int(packet.one("udp.srcport"))
            assert port == options["udp"][1] or (options["udp"][1] == 0 and 49152 <= port <= 65535)
        assert packet.all("ipv6.opt.tel") == ([str(options["encaplimit"])] if "encaplimit" in options else [])
    if options.get("oseq"):
        assert [int(packet.one("gre.sequence_number")) for packet in mine] == list(range(len(mine)))
    for family in tunnel.carries:
        echoes = [packet for packet in mine if tunnel.inner(2, family) in packet.all("ip.dst") + packet.all("ipv6.dst")]
        assert len(echoes) == PINGS
        # The TTL is inherited, and the kernel's own is 64.
        assert {packet.one("ip.ttl" if tunnel.family == 4 else "ipv6.hlim") for packet in echoes} == {"64"}
        if options.get("udp", (0, 1))[1] == 0:
            assert len({packet.one("udp.srcport") for packet in echoes}) == 1, "one flow, one port"
