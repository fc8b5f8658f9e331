"""
A thousand forced rekeyings of children between two nodes, both ends asking at once, under traffic: not one packet is lost.

An end keeps what was replaced for a second or more, four at most, so one tunnel cannot be rekeyed a thousand times in a
minute: there are forty. Pings of each go all the time, a request or an answer under way at every moment of every rekeying.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ginnel.config.node import IpsecConfig, PlainConfig
from namespaces import Net, wait_until
from peers.node_running import NodeProcess

pytestmark = pytest.mark.peers

TUNNELS = 40
REKEYINGS = 1_000
PING = ["ping", "-n", "-i", "0.02", "-W", "5"]


def tunnels(us: int, secret: Path) -> list[PlainConfig]:
    """One end's; each tunnel has identities of its own, all have the same addresses."""
    return [
        PlainConfig(
            name=f"gre{number}",
            kind="gre",
            family=4,
            local=f"192.0.2.{us}",
            remote=f"192.0.2.{3 - us}",
            mtu=1400,
            ipsec=IpsecConfig(
                psk_file=str(secret),
                local_id=f"t{number}.end{us}.example",
                remote_id=f"t{number}.end{3 - us}.example",
                ike_proposals=("aes128gcm16-prfsha256-x25519",),
                esp_proposals=("aes128gcm16-x25519",),
                encapsulation="udp",
                start="start" if us == 1 else "wait",
            ),
        )
        for number in range(TUNNELS)
    ]


def rekeyings(node: NodeProcess) -> int:
    """How many children took the place of others, at this end and all tunnels."""
    return sum(one["ipsec"]["rekeyings"] for one in node.ask(op="show")["tunnels"])


def test_a_thousand_rekeyings_by_both_ends_lose_nothing(net: Net, tmp_path: Path) -> None:
    left_space, right_space = net.namespace("l"), net.namespace("r")
    net.veth(left_space, right_space, ["192.0.2.1/24"], ["192.0.2.2/24"])
    secret = tmp_path / "psk"
    secret.touch(mode=0o600)
    secret.write_text("between both ends")
    nodes: list[NodeProcess] = []
    pings: list[subprocess.Popen[str]] = []
    try:
        for us, space in ((1, left_space), (2, right_space)):
            node = NodeProcess.start(space, net.unique(f"th{us}"), tmp_path, tunnels(us, secret))
            nodes.append(node)
            node.up(*((f"gre{number}", f"10.9.{number}.{us}/30") for number in range(TUNNELS)))
        left, right = nodes

        def carrying() -> bool:
            return all(one["ipsec"]["child"] for node in nodes for one in node.ask(op="show")["tunnels"])

        wait_until(carrying, 30, "all tunnels")
        targets = (f"10.9.{number}.2" for number in range(TUNNELS))
        pings += [left_space.popen(*PING, target, stdout=subprocess.PIPE, text=True) for target in targets]
        began = time.monotonic()
        while (done := rekeyings(left)) < REKEYINGS:
            assert time.monotonic() - began < 100, f"{done} rekeyings in 100 s"
            for number in range(TUNNELS):
                for node in nodes:  # both at once; one that has no room for another says so, and is asked again
                    node.ask(op="rekey", tunnel=f"gre{number}")
        assert rekeyings(right) >= REKEYINGS * 9 // 10, "an end may count two that met as one"
        assert carrying()
    finally:
        for ping in pings:
            ping.send_signal(signal.SIGINT)
        said = [ping.communicate(timeout=15)[0] for ping in pings]
        for node in nodes:
            node.stop()
    total = 0
    for text in said:
        found = re.search(r"(\d+) packets transmitted", text)
        assert found, text
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", text)}
        # The last one may have been under way when ping was told to end.
        assert set(range(1, int(found[1]))) <= answered, f"lost: {sorted(set(range(1, int(found[1]))) - answered)}"
        total += len(answered)
    assert total > 5_000
    assert "ike_peer_dead" not in "".join(node.said() for node in nodes)
