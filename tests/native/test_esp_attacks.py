"""
What the engine's protection is attacked with besides: packets that touch each other in memory, paths smaller than what is sent,
and keys that outlive their SA.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ginnel import _native as native
from namespaces import fresh_net, wait_until
from native.esp_rig import NATT, key_sizes, paired
from native.plain_rig import ETH_P_IP, FAR, FAR6, LINK_MTU, NEAR, NEAR6, PEER6, Wire, gre, ip4, joined, packed, plain, udp
from native.rig import WITHIN_S, checksum, inside

GRE, FRAGMENT = 47, 44
IN_A_ROW = 40
#: More than are looked up in a second, and as many again.
ERRORS_OF_A_FLOOD = 3000


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Two namespaces that all tests of this file share."""
    with fresh_net() as net, joined(net) as made:
        yield made


@pytest.mark.parametrize("suite", ["aes128-sha256", "aes128gcm16"])
def test_keepalives_that_go_back_among_others_are_all_genuine(wire: Wire, suite: str) -> None:
    """In transport mode such a one loses its delivery header; what ESP adds behind it lies in room of its own."""
    returned = ip4(gre(b"", 0), source=NEAR, destination=FAR, protocol=GRE, ttl=255)
    with paired(wire) as pair:
        _, spi = pair.install(suite)
        for _ in range(IN_A_ROW):
            pair.near.tunnel.send_back(returned)
            pair.near.tunnel.send_control(ETH_P_IP, returned)
        wait_until(lambda: sum((sa := pair.far.sa(spi)).drops.values()) + sa.packets >= 2 * IN_A_ROW, WITHIN_S, "all of them")
        assert pair.far.sa(spi).packets == 2 * IN_A_ROW, pair.told()


def fragments(wire: Wire, count: int) -> list[bytes]:
    """Fragment headers and what is behind them, of so many packets."""
    found: list[bytes] = []
    while len(found) < count:
        outer = wire.receive()
        if outer.protocol == FRAGMENT:
            found.append(outer.payload)
    return found


def test_each_packet_of_ipv6_that_is_cut_has_an_identification_of_its_own(wire: Wire) -> None:
    """Else fragments of two that are equally long are put together when one is lost."""
    with plain(wire, "gre", outer=6, mtu=1500, v6=True, pmtudisc=False) as made:
        packet = udp(bytes(1440), source="fd09::1", destination=PEER6)
        for _ in range(3):
            made.write(packet)
        seen = [piece[4:8] for piece in fragments(wire, 6)]
        assert len(set(seen)) == 3, seen


@pytest.mark.parametrize("in_udp", [False, True])
def test_over_ipv6_too_what_the_device_below_does_not_take_is_told(wire: Wire, in_udp: bool) -> None:
    """The tunnel's own family says nothing of the family it goes over."""
    with plain(wire, "ipsec", outer=4, mtu=1500, protected=True) as made:
        with inside(wire.near):
            made.engine.ike()
        port = NATT if in_udp else 0
        key, none = native.KeyMaterial.random(20), native.KeyMaterial.from_bytes(b"")
        made.tunnel.set_outbound(
            0x1000, suite="aes128gcm16", key=key, integrity=none, transport=False,
            local=packed(NEAR6), remote=packed(FAR6), local_port=port, remote_port=port,
        )  # fmt: skip
        made.write(udp(os.urandom(1472), source="10.9.0.1", destination="10.9.0.2", df=True))
        told = made.wait_event(native.PathError, lambda event: event.kind == "too-big")
        assert (told.kind, told.mtu, told.origin) == ("too-big", LINK_MTU, packed(NEAR6))
        made.wait_drop("too_big")


def test_invented_errors_about_esp_do_not_use_up_those_about_plain_tunnels(wire: Wire) -> None:
    """Of protocol 50 anybody may quote what nobody sent, and the kernel hands on all of it."""
    with plain(wire, "gre") as made:
        with inside(wire.near):
            made.engine.ike()

        def too_big(quoted: bytes, protocol: int) -> bytes:
            quote = ip4(quoted, source=NEAR, destination=FAR, protocol=protocol)
            body = struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + quote
            body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
            return ip4(body, source=FAR, destination=NEAR, protocol=1)

        invented, true = too_big(bytes(16), 50), too_big(gre(bytes(20), 0x0800), GRE)
        for _ in range(ERRORS_OF_A_FLOOD):
            wire.send(invented)
        wire.send(true)
        assert made.wait_event(native.PathError).mtu == 1400


# ---------------------------------------------------------------- keys

#: One process with both ends of an SA; the keys come out of a seed that it was told, and are never bytes of Python's in it.
CHILD = """
import ctypes, gc, socket, subprocess, sys, time
from ginnel import _native as native

assert ctypes.CDLL(None).unshare(0x40000000) == 0
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
suite, key_size, integrity_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def step(text):
    print(text, flush=True)
    return sys.stdin.readline().strip()

seeds = [native.KeyMaterial.from_bytes(bytes.fromhex(seed)) for seed in step("seeds").split()]
near, far = native.Engine(), native.Engine()
ports = near.ike(port=500, natt_port=4500, families=(4,)), far.ike(port=501, natt_port=4501, families=(4,))
tunnels = [
    engine.plain(name, kind="ipsec", protected=True, mtu=1300, local=None, remote=None)
    for engine, name in ((near, "near"), (far, "far"))
]
for tunnel in tunnels:
    tunnel.up()
    subprocess.run(["ip", "link", "set", tunnel.name, "up"], check=True)
out, into = tunnels
loopback = socket.inet_aton("127.0.0.1")
packet = bytes.fromhex("4500001c00010000401100000a0900010a0900020001000200080000")

def install(seed):
    spi = into.reserve_spi()
    for add in (into.add_inbound, out.set_outbound):
        key, integrity = native.prf_plus("sha256", seed, b"label", key_size + integrity_size).split(key_size, integrity_size)
        path = {"local": loopback, "remote": loopback, "local_port": 4500, "remote_port": 4501} if add == out.set_outbound else {}
        add(spi, suite=suite, key=key, integrity=integrity, transport=False, **path)
    return spi

def send(count):
    wanted = into.counters().rx_packets + count
    for _ in range(count):
        out.send_control(0x0800, packet)
    deadline = time.monotonic() + 10
    while into.counters().rx_packets < wanted:
        assert time.monotonic() < deadline, into.drops()
        time.sleep(0.005)

first = install(seeds[0])
send(40)
step("first")
second = install(seeds[1])
send(1)
into.remove_inbound(first)
send(5)
step("second")
into.remove_inbound(second)
out.clear_outbound()
step("none")
out.close()
into.close()
step("closed")
"""


def derived(seed: bytes, size: int) -> bytes:
    """prf+ of RFC 7296, 2.13, under HMAC-SHA-256."""
    block, made, count = b"", b"", 0
    while len(made) < size:
        count += 1
        block = hmac.new(seed, block + b"label" + bytes([count]), hashlib.sha256).digest()
        made += block
    return made[:size]


def writable_memory(pid: int) -> list[bytes]:
    """Of another process, mapping by mapping."""
    found: list[bytes] = []
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                low, high = (int(part, 16) for part in span.split("-"))
                memory.seek(low)
                found.append(memory.read(high - low))
    return found


@pytest.mark.parametrize("suite", ["aes256gcm16", "chacha20poly1305", "aes256-sha256"])
def test_keys_are_in_memory_for_as_long_as_their_sa_and_no_longer(suite: str) -> None:
    """Heap, stacks of all threads and all: after a rekeying, and after the last SA is gone."""
    key_size, integrity_size = key_sizes(suite)
    seeds = [os.urandom(32) for _ in range(2)]
    command = [sys.executable, "-c", CHILD, suite, str(key_size), str(integrity_size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        answer, expected = " ".join(seed.hex() for seed in seeds), {"first": [True, False], "second": [False, True]}
        assert child.stdout.readline() == "seeds\n"
        for state in ("first", "second", "none", "closed"):
            child.stdin.write(answer + "\n")
            child.stdin.flush()
            assert child.stdout.readline().strip() == state
            memory, answer = writable_memory(child.pid), ""
            whole = [derived(seed, key_size + integrity_size) for seed in seeds]
            held = [any(keys[:16] in piece for piece in memory) for keys in whole]
            assert held == expected.get(state, [False, False]), state
            for keys, live in zip(whole, held, strict=True):
                parts = [keys[at : at + 16] for at in range(0, len(keys) - 15, 16)]
                assert live or not any(part in piece for part in parts for piece in memory), state
        child.stdin.write("\n")
        child.stdin.flush()
    assert child.returncode == 0
