"""
Whether one place of the network reaches another, packet by packet: `reach(fleet, source, target) -> Verdict`.

    fleet      all hosts that are known of, and who is whose peer
    routes     where one host sends a packet
    links      whether it crosses a link, and what the far end takes
    nat        what hosts write over in it, and remember for the answer
    protected  what the hosts of a protected origin do besides
    walk       one packet from host to host, and its answer
    places     what people call the ends of a way
    values     the result: hops, the rule that stops it, the way back
    text       the result for people
    expect     `[[expect]]`, judged by it
    standby    what is held ready for the day a node in the middle fails
    behind     the LANs of hosts whose own files do not tell of them

It works on `Host`s alone, compiled or imported, and so says the same of a network file and of files that were written by hand.
"""

from ginnel.network.reach.fleet import Fleet, Surroundings
from ginnel.network.reach.places import Point, reach, resolve
from ginnel.network.reach.values import INTERNET, Hop, Stop, Verdict, Way

__all__ = ["INTERNET", "Fleet", "Hop", "Point", "Stop", "Surroundings", "Verdict", "Way", "reach", "resolve"]
