"""
The way of a packet on random networks of all shapes: it is the way that a much simpler tracer finds, and back it is the same way.
"""

from __future__ import annotations

from hypothesis import given

from ginnel.network import Compilation, Lock, Network, allocate
from ginnel.network.reach import Point, reach
from ginnel.network.reach.expect import fleet_of
from ginnel.network.reach.places import at
from ginnel.network.reach.routes import Routings
from ginnel.network.reach.values import text_of
from unit.network.drawn_networks import networks
from unit.network.packets import Fleet as Tracer


@given(networks(most=6))
def test_it_is_the_way_that_prefixes_and_source_checks_alone_give(network: Network) -> None:
    compilation = Compilation(network, allocate(network, Lock()))
    fleet = fleet_of(compilation)
    routings, tracer = Routings(fleet), Tracer(fleet.hosts)
    for source in fleet.hosts.values():
        for target in fleet.hosts.values():
            for near, far in zip(source.called, target.called, strict=False):
                if source is target:
                    continue
                verdict = reach(routings, Point(source.name, source, near), at(fleet, far, text_of(far)))
                there, back = tracer.trace(source.name, near, far), tracer.trace(target.name, far, near)
                assert verdict.reaches == (isinstance(there, list) and isinstance(back, list)), (verdict.why, there, back)
                if verdict.reaches:
                    assert list(verdict.there.nodes) == there
                    assert verdict.back is not None
                    assert list(verdict.back.nodes) == back
