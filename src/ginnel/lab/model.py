"""
What the model of packets (`network.reach`) says of a lab: the same hosts, with the addresses that the lab gives them outside.

The rehearsal asks it what is to be expected, and says where the two differ: then one of them is wrong, or the lab does to packets
what no configuration tells of.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from ginnel.lab.topology import Topology
from ginnel.network import Expect, Network, NodeDescription
from ginnel.network.reach import Fleet, Point, Surroundings, Verdict, reach
from ginnel.network.reach.expect import Outcome, called_host, judge, routed_by_a_daemon, undecided
from ginnel.network.reach.places import at
from ginnel.network.reach.routes import Routings


class Model:
    """The hosts of one lab, modelled."""

    def __init__(self, network: Network, topology: Topology, descriptions: Iterable[NodeDescription]) -> None:
        around = {
            name: Surroundings(uplink=tuple(ipaddress.ip_address(text).packed for text in inside))
            for name, inside in topology.inside.items()
        }
        self.network = network
        self.routings = Routings(Fleet(map(called_host, descriptions), around))
        self._by_a_daemon = routed_by_a_daemon(network)

    def way(self, node: str, source: bytes | None, target: bytes) -> Verdict:
        """From a node (*source* None) or somebody in its LAN, to an address; as the network knows them."""
        fleet = self.routings.fleet
        start = Point(node, fleet[node]) if source is None else at(fleet, source, str(ipaddress.ip_address(source)))
        return reach(self.routings, start, at(fleet, target, str(ipaddress.ip_address(target))))

    def decides(self, verdict: Verdict) -> bool:
        """Whether the configuration says it, and not a routing daemon."""
        return not (self._by_a_daemon and undecided(verdict))

    def outcomes(self) -> Mapping[Expect, Outcome]:
        """Every expectation of the file, judged."""
        return {outcome.expect: outcome for outcome in judge(self.network, self.routings)}
