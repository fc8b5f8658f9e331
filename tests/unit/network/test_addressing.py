"""Allocation: stable, complete, within its pools; and the lock file there and back."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.errors import ConfigError
from ginnel.network import Lock, allocate, parse_lock, render_lock
from ginnel.network.addressing import Pinned, capacity, usable, within
from ginnel.units import Prefix, PublicKey
from unit.network.networks import HEAD, THREE, keys_for, parsed

LOCK = """\
# Addresses, ports and public keys that are in use: written by ginnel, kept in git beside the network file.
# Removing a line lets it be allocated anew; nothing here is secret.

version = 1

[node.paris]
address = ["10.10.0.1", "fd10:10::1"]
listen_port = 51820
public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

[node.frankfurt]
address = ["10.10.0.2", "fd10:10::2"]
listen_port = 51820
public_key = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="

[node.lyon]
address = ["10.10.0.3", "fd10:10::3"]
public_key = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="
"""


def test_the_first_lock() -> None:
    network = parsed(THREE)
    lock = allocate(network, Lock()).with_keys(keys_for(network))
    assert render_lock(lock) == LOCK
    assert parse_lock(LOCK, "x") == lock


def test_adding_a_node_renumbers_nothing() -> None:
    before = allocate(parsed(THREE), Lock())
    grown = THREE.replace("[node.paris]", '[node.athens]\nendpoint = "203.0.113.99"\n\n[node.paris]')
    after = allocate(parsed(grown), before)
    assert {name: after.nodes[name] for name in before.nodes} == before.nodes
    assert after.nodes["athens"].address == (bytes([10, 10, 0, 4]), ipaddress.ip_address("fd10:10::4").packed)


def test_a_node_that_is_gone_frees_its_address_and_a_key_stays() -> None:
    network = parsed(THREE)
    before = allocate(network, Lock()).with_keys(keys_for(network))
    smaller = parsed(THREE.replace("[node.frankfurt]", "[node.nantes]"))
    after = allocate(smaller, before)
    assert "frankfurt" not in after.nodes
    assert after.nodes["nantes"].address[0] == bytes([10, 10, 0, 2])
    assert after.nodes["nantes"].public_key is None
    assert after.nodes["paris"] == before.nodes["paris"]


def test_a_fixed_address_wins_over_somebody_elses_pin() -> None:
    before = allocate(parsed(THREE), Lock())
    after = allocate(parsed(THREE + 'address = ["10.10.0.1"]\n'), before)
    assert after.nodes["lyon"].address[0] == bytes([10, 10, 0, 1])
    assert after.nodes["paris"].address[0] not in {bytes([10, 10, 0, 1]), bytes([10, 10, 0, 2])}
    assert after.nodes["paris"].address[1] == before.nodes["paris"].address[1]


def test_a_pin_outside_of_its_pool_is_given_up() -> None:
    lock = Lock({"paris": Pinned((bytes([10, 99, 0, 1]),))})
    assert allocate(parsed(THREE), lock).nodes["paris"].address[0] == bytes([10, 10, 0, 1])


def test_ports() -> None:
    text = THREE.replace('name = "acme"', 'name = "acme"\nlisten_port = 4500') + "listen_port = 7\n"
    lock = allocate(parsed(text), Lock({"paris": Pinned((), 51820)}))
    assert [pin.listen_port for pin in lock.nodes.values()] == [51820, 4500, 7]


def test_a_pool_that_is_used_up() -> None:
    text = HEAD.replace("10.10.0.0/24", "10.10.0.0/30") + 'shape = "none"\n[node.a]\n[node.b]\naddress = ["10.10.0.1"]\n'
    lock = allocate(parsed(text), Lock({"a": Pinned((bytes([10, 10, 0, 1]),))}))
    assert lock.nodes["a"].address[0] == bytes([10, 10, 0, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = 3", "expected version = 1 or 2, found 3"),
        ("", "expected version = 1 or 2, found None"),
        ('version = 1\n[node.a]\naddress = ["x"]\n', "node.a: expected an IP address, found 'x'"),
        ("version = 1\n[node.a]\nlisten_port = 70000\n", "node.a: expected a port, found 70000"),
        ('version = 1\n[node.a]\npublic_key = "x"\n', "node.a: expected a public key of 44 base64 characters"),
        ("version = 1\nnode.a = 1\n", "node.a: expected a table"),
        ("version = [", "not TOML"),
    ],
)
def test_lock_files_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_lock(text, "network.lock.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "room"), [("10.0.0.0/24", 254), ("10.0.0.0/31", 2), ("10.0.0.0/32", 1), ("fd00::/126", 3), ("fd00::/64", 2**64 - 1)]
)
def test_capacity(text: str, room: int) -> None:
    assert capacity(Prefix.parse(text)) == room


_prefixes = st.one_of(
    st.tuples(st.binary(min_size=4, max_size=4), st.integers(20, 32)),
    st.tuples(st.binary(min_size=16, max_size=16), st.integers(116, 128)),
)


@given(_prefixes, st.integers(0, 40))
def test_every_node_gets_its_own_usable_address_as_long_as_there_is_room(pool: tuple[bytes, int], count: int) -> None:
    packed, length = pool
    prefix = Prefix.parse(f"{ipaddress.ip_address(packed)}/{length}")
    count = min(count, capacity(prefix))
    if not count:
        return
    nodes = "".join(f"[node.n{index}]\n" for index in range(count))
    network = parsed(f'[network]\nname = "x"\nshape = "none"\npool = ["{prefix}"]\n{nodes}')
    given_out = [pin.address[0] for pin in allocate(network, Lock()).nodes.values()]
    assert len(set(given_out)) == count
    assert all(usable(address, prefix) and within(address, prefix) for address in given_out)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True), st.integers(0, 65535), max_size=8))
def test_a_lock_survives_its_file(ports: dict[str, int]) -> None:
    lock = Lock(
        {
            name: Pinned((bytes([10, 0, 0, index]),), port, PublicKey(bytes([index]) * 32))
            for index, (name, port) in enumerate(ports.items())
        }
    )
    assert parse_lock(render_lock(lock), "x") == lock
