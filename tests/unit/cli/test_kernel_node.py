"""What is told of a node that the kernel carries: from its file, its record and the kernel's links."""

from __future__ import annotations

import struct

from ginnel.cli import kernel_node, show_plain
from ginnel.config.node import Encapsulation, NodeConfig, PlainConfig
from ginnel.linux.links import Link, links
from ginnel.linux.record import Process, Record

#: packets in, out; bytes in, out; errors in, out; ... ; the last three are checksum, ECN and sequence errors, as GRE counts them.
STATS = struct.pack("=24Q", 10, 20, 1000, 2000, 3, 0, 0, 0, 7, 0, 0, 0, 1, 0, 2, *[0] * 9)
RECORD = Record("site", "/etc/ginnel/site.toml", "kernel", "net:[1]", 17, Process())
CONFIG = NodeConfig(
    "site",
    "/etc/ginnel/site.toml",
    plain=(
        PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.20", ikey=7, okey=7),
        PlainConfig("gre2", "gre", 4, remote="any", encapsulation=Encapsulation()),
        PlainConfig("sit1", "sit", 4, local="192.0.2.1", remote="198.51.100.21"),
    ),
)
LINKS = {"gre1": Link("gre1", 5, 1472, True, "gre", stats=STATS), "gre2": Link("gre2", 6, 1460, False, "gre")}


def test_what_the_kernel_counts_and_knows() -> None:
    whole = kernel_node.views(CONFIG, RECORD, LINKS)
    first, second, third = whole["tunnels"]
    assert (first["backend"], first["state"], first["mtu"]) == ("kernel", "up", 1472)
    assert [first[key] for key in ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")] == [10, 20, 1000, 2000]
    assert {reason: count for reason, count in first["drops"].items() if count} == {
        "rx_errors": 3,
        "rx_crc_errors": 1,
        "rx_fifo_errors": 2,
    }
    assert (first["configured"]["answer"], first["alive"]["answer"], first["carrying"]["answer"]) == ("yes", "unknown", "unknown")
    assert (second["state"], second["configured"]["why"], second["remote"]) == ("down", "the device is down", None)
    assert (third["state"], third["configured"]["why"]) == ("down", "the interface is gone")


def test_it_has_the_fields_of_a_tunnel_of_ours_and_is_shown_like_one() -> None:
    whole = kernel_node.views(CONFIG, RECORD, LINKS)
    from ginnel.watch.plain import NodeView, PlainView

    assert set(whole["node"]) == set(NodeView.__dataclass_fields__)
    for tunnel in whole["tunnels"]:
        assert set(tunnel) == set(PlainView.__dataclass_fields__)
        assert list(show_plain.tunnel_lines(tunnel, colour=False))
    lines = list(show_plain.node_lines(whole["node"], whole["tunnels"], colour=False))
    assert lines[0] == "site: node, 3 tunnels · /etc/ginnel/site.toml"
    assert lines[2].split()[:4] == ["gre1", "gre", "up", "198.51.100.20"]
    assert lines[2].endswith("the kernel carries it, and does not tell")


def test_every_link_here_has_counters() -> None:
    found = {link.name: link for link in links()}
    assert len(found["lo"].stats) >= kernel_node._STATS.size
