"""
Two WireGuard interfaces on a simulated network and a simulated clock, for tests: nothing else may import this.

    from ginnel.testing import Pair
    pair = Pair(seed=7)
    pair.left.send(b"hello")
    pair.run_for(seconds=1)
    assert pair.right.delivered == [b"hello"]

Everything but the ephemeral keys follows from the seed; no real time passes. `clock` is time, `net` the network with its faults,
`tunnel` the engine's model, `pair` what joins them to the machines.
"""

from ginnel.testing.clock import FakeClock
from ginnel.testing.net import Datagram, SimNet
from ginnel.testing.pair import Node, Pair
from ginnel.testing.tunnel import FakeTunnel

__all__ = ["Datagram", "FakeClock", "FakeTunnel", "Node", "Pair", "SimNet"]
