"""
The model of packets against the truth: random networks, sound and spoiled, in which everybody pings everybody.

Every pair on which the two do not agree is a bug in one of them. `GINNEL_MODEL_SEEDS=100-200` tries those networks instead of the
few that are always tried.
"""

from __future__ import annotations

import ipaddress
import os

import pytest

from ginnel import crypto
from ginnel.lab.topology import INTERNET
from ginnel.network import Lock, Network, NodeDescription, compile_network
from ginnel.network.reach import Fleet, Surroundings, Verdict, reach
from ginnel.network.reach.expect import called_host
from ginnel.network.reach.places import Point, at, from_outside
from ginnel.network.reach.routes import Routings
from ginnel.units import PublicKey
from lab.drawn import Drawn, draw
from lab.truth import Pair, Truth

ALWAYS = range(12)


def seeds() -> list[int]:
    wanted = os.environ.get("GINNEL_MODEL_SEEDS", "")
    if not wanted:
        return list(ALWAYS)
    first, _, last = wanted.partition("-")
    return list(range(int(first), int(last or first) + 1))


def drawn_with_keys(seed: int) -> tuple[Drawn, dict[str, str]]:
    private: dict[str, str] = {}

    def compiled(network: Network, lock: Lock) -> dict[str, NodeDescription]:
        secrets = {node.name: crypto.generate_private_key() for node in network.nodes}
        private.update({name: key.reveal_base64() for name, key in secrets.items()})
        return compile_network(network, lock, {name: PublicKey(crypto.public_key(key)) for name, key in secrets.items()})

    return draw(seed, compiled), private


def verdict(routings: Routings, pair: Pair) -> Verdict:
    host = routings.fleet[pair.source.node]
    text = str(ipaddress.ip_address(pair.packed))
    if pair.source.space == INTERNET:
        outside = Point(pair.source.name, None, pair.from_address)
        if pair.target == "protected":
            return from_outside(routings, outside, Point(text, None, pair.packed), host)
        return reach(routings, outside, at(routings.fleet, pair.packed, text))
    source = Point(host.name, host)
    if (packed := pair.from_address) is not None:
        source = at(routings.fleet, packed, str(ipaddress.ip_address(packed)))
    return reach(routings, source, at(routings.fleet, pair.packed, text))


@pytest.mark.parametrize("seed", seeds())
def test_the_model_and_the_lab_agree(seed: int) -> None:
    drawn, private = drawn_with_keys(seed)
    with Truth(drawn.network, drawn.descriptions, private, f"m{seed}") as truth:
        around = {
            name: Surroundings(uplink=tuple(ipaddress.ip_address(text).packed for text in inside))
            for name, inside in truth.topology.inside.items()
        }
        routings = Routings(Fleet(map(called_host, drawn.descriptions.values()), around))
        model = {pair: verdict(routings, pair) for pair in truth.pairs}
        found = truth.answers({pair: each.reaches for pair, each in model.items()})
    wrong = [
        f"{pair}: the lab says {'yes' if found[pair] else 'no'}, the model: {each.why}"
        for pair, each in model.items()
        if found[pair] != each.reaches
    ]
    said = [f"seed {seed}", drawn.text, "faults: " + ("; ".join(drawn.faults) or "none"), *wrong]
    assert not wrong, "\n".join(said)
    assert model
