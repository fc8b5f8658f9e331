"""
A responder that anybody may call, called by many who are nobody: half-open IKE SAs by the thousand from invented addresses.

What is established goes on carrying, memory stays bounded, and who is somebody gets in all the same (by a cookie).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from namespaces import Net, wait_until
from peers.test_node_ipsec import Joined, Start, start

__all__ = ["start"]

FLOOD_S = 3.0
#: IKE_SA_INITs a second; strongSwan's own cookie threshold is 30 half-open ones in all.
PER_S = 2_000
#: 1,024 half-open SAs of some kilobytes each, and what Python keeps around them.
GROWTH_KIB = 24 << 10

FLOOD = """
import os, socket, struct, sys, time
device, target_mac, own_mac, seconds, per_s = sys.argv[1], *map(bytes.fromhex, sys.argv[2:4]), *map(float, sys.argv[4:6])
message = bytes.fromhex(sys.stdin.readline())
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((device, 0))
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
print("ready", flush=True)
began, sent = time.monotonic(), 0
while (now := time.monotonic()) - began < seconds:
    while sent < (now - began) * per_s:
        source = bytes((192, 0, 2, 10 + sent % 200)) if sent % 2 else bytes((10, *os.urandom(3)))
        body = os.urandom(8) + message[8:]
        udp = struct.pack("!HHHH", 500, 500, 8 + len(body), 0) + body
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), sent & 0xFFFF, 0, 64, 17, 0, source, bytes((192, 0, 2, 2)))
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        wire.send(target_mac + own_mac + b"\\x08\\x00" + head + udp)
        sent += 1
    time.sleep(0.002)
print(sent, flush=True)
"""


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def first_init(frames: list[bytes]) -> bytes:
    """An IKE_SA_INIT request as it went over the wire."""
    for frame in frames:
        if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == (500).to_bytes(2, "big"):
            message = frame[42:]
            if len(message) > 28 and message[18] == 34 and message[8:16] == bytes(8):
                return message
    raise AssertionError("no IKE_SA_INIT was captured")


def mac(both: Joined, device: str, space: str) -> str:
    node = both.left_space if space == "left" else both.right_space
    found = node.ip_json("link", "show", "dev", device)[0]["address"]
    return str(found).replace(":", "")


@pytest.mark.parametrize("anybody", [True, False], ids=["remote-any", "remote-known"])
def test_a_flood_of_half_open_sas(net: Net, start: Start, tmp_path: Path, anybody: bool) -> None:
    right = {"local_id": "right.example.org", "remote_id": "left.example.org", "start": "wait"}
    both = Joined(
        net, start, tmp_path,
        left={"local_id": "left.example.org", "remote_id": "right.example.org"},
        right={**right, **({"remote": "any"} if anybody else {})},
    )  # fmt: skip
    both.carries(1)
    message = first_init(both.capture.packets())
    before_kib = resident_kib(both.right.process.pid)
    argv = [mac(both, both.veth.right, "right"), mac(both, both.veth.left, "left"), str(FLOOD_S), str(PER_S)]
    flood = both.left_space.popen(
        sys.executable, "-c", FLOOD, both.veth.left, *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert flood.stdin is not None
    assert flood.stdout is not None
    flood.stdin.write(message.hex() + "\n")
    flood.stdin.flush()
    assert flood.stdout.readline() == "ready\n"
    ping = both.left_space.popen(
        "ping", "-n", "-q", "-i", "0.01", "-w", str(int(FLOOD_S)), "10.9.0.2", stdout=subprocess.PIPE, text=True
    )
    asked = time.monotonic()
    assert both.left.ask(op="rekey", tunnel="gre1")["ok"] is True
    wait_until(lambda: both.left.show()["ipsec"]["rekeyings"] >= 1, 5, "the keys to be replaced meanwhile")
    rekeyed_s = time.monotonic() - asked
    said, _ = ping.communicate(timeout=FLOOD_S + 20)
    flooded = int(flood.stdout.readline())
    assert flooded > FLOOD_S * PER_S / 3
    sent, received = (int(word.split()[0]) for word in said.splitlines()[-2].split(", ")[:2])
    assert sent - received <= 1 + sent // 100, said
    shown = both.right.ask(op="show")["node"]["ike"]
    assert shown["half_open"] <= 1_024
    assert resident_kib(both.right.process.pid) - before_kib < GROWTH_KIB
    told = both.right.said()
    assert "failed error=" not in told
    # Somebody gets in while nobody does: the tunnel is made anew from the beginning.
    assert both.left.ask(op="terminate")["ok"] is True
    assert both.left.ask(op="initiate")["ok"] is True
    both.established(15)
    both.carries(1)
    assert rekeyed_s < 5
