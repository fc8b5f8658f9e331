"""
One packet followed from host to host, and its answer.

Each turn is what a Linux host does: undo its own NAT for an answer, map a LAN, deliver what is its own, refuse to pass on what it
does not forward, look up the route, hide or map the source, put it into the link; then the far end decides whether it takes it.
The answer is a packet of its own that starts where the first one ended, with the addresses that arrived there, and meets what the
first has left in the hosts' memory (`nat`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ginnel.network.host import Host, Place
from ginnel.network.reach import links, protected
from ginnel.network.reach.fleet import version_of
from ginnel.network.reach.nat import Memory, Packet
from ginnel.network.reach.protected import holds
from ginnel.network.reach.routes import Decision, Routings
from ginnel.network.reach.values import INTERNET, Hop, Stop, Way, text_of
from ginnel.units import Prefix

#: What hosts send with: a packet that is passed on so often never arrives.
TTL = 64

#: Where no packet of the internet goes: RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291.
_PRIVATE = tuple(
    map(
        Prefix.parse,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
    )
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a packet comes to a host: the device ("": it begins there), from which node, and why that was let in."""

    device: str = ""
    sender: str = ""
    admitted: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """Where a packet has arrived: at a host itself, in its LAN, or (None) outside of the network, by the host's uplink."""

    host: Host
    place: str


class Conversation:
    """A packet and its answers: what NAT remembers between them."""

    def __init__(self, routings: Routings) -> None:
        self.routings = routings
        self.memory = Memory()

    def send(
        self, host: Host, source: bytes | None, target: bytes, arrival: Arrival, *, answer: bool = False
    ) -> tuple[Way, End | None]:
        """
        Follow a packet.

        Args:
            host: where it begins, or what it comes to first.
            source: None: the host's choice.
            target: packed.
            arrival: how it comes to *host*.
            answer: NAT lets it be, but for what it undoes.

        Returns:
            the way, and where it ends (None: it was stopped).
        """
        return _Walk(self.routings, self.memory).follow(host, Packet(source, target, answer), arrival)

    def answer(self, there: Way, end: End) -> tuple[Way, End | None]:
        """Follow the answer to a packet that arrived."""
        last = there.hops[-1]
        source, target = last.target, last.source
        if end.place == INTERNET:
            back = self.memory.left.get(target, end.host)
            return self.send(back, source, target, Arrival("uplink", INTERNET), answer=True)
        arrival = Arrival("LAN") if end.place == "LAN" else Arrival()
        return self.send(end.host, source, target, arrival, answer=True)


class _Walk:
    """One packet under way."""

    def __init__(self, routings: Routings, memory: Memory) -> None:
        self.routings, self.fleet, self.memory = routings, routings.fleet, memory
        self.hops: list[Hop] = []
        self.notes: list[str] = []
        self._seen: set[tuple[str, str, bytes | None, bytes]] = set()

    def follow(self, host: Host, first: Packet, arrival: Arrival) -> tuple[Way, End | None]:
        packet, begun = first, first.source
        stop: Stop | None = None
        end: End | None = None
        for _ in range(TTL):
            state = (host.name, arrival.device, packet.source, packet.target)
            if state in self._seen:
                stop = Stop(
                    host.name, "loop", f"it comes back to {host.name} by {arrival.device}, and goes round until its TTL ends"
                )
                break
            self._seen.add(state)
            outcome = self._turn(host, packet, arrival)
            if begun is None:
                begun = self.hops[-1].source if self.hops else None
            if isinstance(outcome, Stop):
                stop = outcome
                break
            if isinstance(outcome, End):
                end = outcome
                break
            host, packet, arrival = outcome
        else:
            stop = Stop(host.name, "loop", f"it has been passed on {TTL} times: its TTL ends at {host.name}")
        source = begun or first.source or bytes(len(first.target))
        return Way(source, first.target, tuple(self.hops), stop, tuple(dict.fromkeys(self.notes))), end

    def _turn(self, host: Host, packet: Packet, arrival: Arrival) -> Stop | End | tuple[Host, Packet, Arrival]:
        """What one host does with it."""
        if (stop := self._not_there(host, packet, arrival)) is not None:
            return stop
        routing = self.routings[host.name]
        if packet.source is None and (early := routing.decide(None, packet.target)) is not None:
            packet = replace(packet, source=routing.source(early, packet.target))
        arrived_for = packet.target
        packet, changed = self.memory.entering(host, packet)
        mark = self.memory.mark(host, packet, arrival.device)
        if self.fleet.answers(host, packet.target):
            refused = self._not_admitted(host, packet, arrival)
            words = refused or f"{text_of(packet.target)} is {host.name} itself"
            self._hop(host, arrival, packet, words, changed)
            return self._guarded(host, packet, words) if refused else End(host, "")
        if arrival.device and host.forwards is False:
            self._hop(host, arrival, packet, "forwarding is off", changed)
            message = f"{host.name} does not pass on what is for {text_of(packet.target)}: it does not forward"
            return Stop(host.name, "not-forwarded", message, "forwarding on that host", host.place)
        if arrival.device and host.forwards is None:
            self.notes.append(f"{host.name} has to forward; its configuration does not say whether it does")
        decision = routing.decide(packet.source, packet.target, arrival.device, mark)
        if decision is None:
            self._hop(host, arrival, packet, "no route", changed)
            return self._nowhere(host, packet)
        refused = protected.refuses(host, packet.source, packet.target, arrival.device, decision.route.device or "uplink")
        if host.protects and refused:
            self._hop(host, arrival, packet, refused, changed)
            return self._guarded(host, packet, refused)
        return self._leave(host, packet, arrival, decision, changed, mapped=packet.target != arrived_for)

    def _not_there(self, host: Host, packet: Packet, arrival: Arrival) -> Stop | None:
        """Why a packet does not even get into the host's network stack."""
        if host.name in self.fleet.down:
            self._hop(host, arrival, packet, f"{host.name} is down", ())
            return Stop(host.name, "down", f"{host.name} is down", "", host.place)
        routing = self.routings[host.name]
        if routing.conflicts:
            self._hop(host, arrival, packet, "it does not come up", ())
            message = f"{host.name} does not come up: {routing.conflicts[0]} is to be routed by two devices"
            return Stop(host.name, "not-up", message, f"take {routing.conflicts[0]} out at one of them", host.place)
        if not arrival.device or (guarding := routing.guard(packet.target, arrival.device)) is None:
            return None
        rule = f"{guarding.name} takes everything, and has {text_of(packet.target)} answer through itself alone"
        self._hop(host, arrival, packet, rule, (), place=guarding.place)
        message = f"{host.name}'s firewall drops what is for {text_of(packet.target)} and does not come by {guarding.name}"
        return Stop(host.name, "guarded", message, f"another address of {host.name}", guarding.place)

    def _not_admitted(self, host: Host, packet: Packet, arrival: Arrival) -> str:
        """Why a host's firewall does not let it have what is for itself."""
        if not host.protects:
            return ""
        if arrival.device == "uplink" and protected.hides(host) and not packet.answer:
            return "answers nobody at its own addresses who does not come through a tunnel"
        return protected.refuses(host, packet.source, packet.target, arrival.device, "")

    def _guarded(self, host: Host, packet: Packet, words: str) -> Stop:
        return Stop(
            host.name, "guarded", f"{host.name}'s firewall drops what is for {text_of(packet.target)}: it {words}", "", host.place
        )

    def _leave(
        self, host: Host, packet: Packet, arrival: Arrival, decision: Decision, changed: tuple[str, ...], *, mapped: bool
    ) -> Stop | End | tuple[Host, Packet, Arrival]:
        before = packet
        packet, hidden = self.memory.leaving(self.routings[host.name], packet, decision, mapped=mapped)
        changed += hidden
        match decision.route.exit:
            case "lan":
                self._hop(
                    host,
                    arrival,
                    packet,
                    f"{decision.prefix} is {decision.route.because}",
                    changed,
                    "LAN",
                    place=decision.route.place,
                )
                return End(host, "LAN")
            case "wireguard":
                return self._by_wireguard(host, packet, arrival, decision, changed)
            case "tunnel":
                return self._by_tunnel(host, packet, arrival, decision, changed)
            case "uplink":
                return self._by_uplink(host, packet, arrival, changed, hidden=packet != before)

    # -- by which link

    def _by_wireguard(
        self, host: Host, packet: Packet, arrival: Arrival, decision: Decision, changed: tuple[str, ...]
    ) -> Stop | tuple[Host, Packet, Arrival]:
        interface, source = decision.route.interface, packet.source
        assert interface is not None
        assert source is not None
        found = self.routings.cryptokey(host, interface).find(packet.target)
        if found is None:
            self._hop(
                host,
                arrival,
                packet,
                f"{decision.prefix} is {decision.route.because}",
                changed,
                interface.name,
                place=interface.place,
            )
            message = f"no peer of {host.name}'s {interface.name} has {text_of(packet.target)} in its AllowedIPs"
            return Stop(host.name, "no-peer", message, "AllowedIPs of the peer that it is for", interface.place)
        prefix, peer = found
        crossed = links.wireguard(self.routings, host, interface, peer)
        to = crossed.far.name if isinstance(crossed, links.Crossed) else peer.name
        by = "" if decision.table == "main" else f", by the rule that sends everything into {interface.name}"
        rule = f"{prefix} is in {to or 'a peer'}'s AllowedIPs on {interface.name}{by}"
        size = links.interface_mtu(host, interface)
        self._hop(host, arrival, packet, rule, changed, interface.name, to, size, peer.place)
        if isinstance(crossed, Stop):
            return crossed
        self.notes += crossed.notes
        far, there, back = crossed.far, crossed.interface, crossed.peer
        assert there is not None
        assert back is not None
        table = self.routings.cryptokey(far, there)
        admitted = table.find(source)
        if admitted is None or admitted[1] is not back:
            return self._refused(
                far, host, source, back.allowed_ips, admitted[1].name if admitted else "", back.place or there.place
            )
        words = f"{text_of(source)} is in {host.name}'s AllowedIPs {admitted[0]}"
        return far, packet, Arrival(crossed.device, host.name, words)

    def _refused(
        self, far: Host, near: Host, source: bytes, allowed: tuple[Prefix, ...], owner: str, place: Place | None
    ) -> Stop:
        same = [str(prefix) for prefix in allowed if prefix.version == version_of(source)]
        shown = (
            ", ".join(same[:4]) + (f" and {len(same) - 4} more" if len(same) > 4 else "")
            if same
            else f"no IPv{version_of(source)}"
        )
        whose = f"; there it is {owner}'s" if owner and owner != near.name else ""
        message = (
            f"{far.name} accepts from {near.name} only {shown}: source {text_of(source)} is dropped (cryptokey routing){whose}"
        )
        lacking = next((lan for lan in near.lans if holds(lan, source)), Prefix(source, len(source) * 8))
        mend = f"{lacking} in AllowedIPs of {near.name} at {far.name}"
        return Stop(far.name, "source-refused", message, mend, place)

    def _by_tunnel(
        self, host: Host, packet: Packet, arrival: Arrival, decision: Decision, changed: tuple[str, ...]
    ) -> Stop | tuple[Host, Packet, Arrival]:
        tunnel = decision.route.tunnel
        assert tunnel is not None
        crossed = links.tunnel(self.routings, host, tunnel)
        to = crossed.far.name if isinstance(crossed, links.Crossed) else tunnel.peer
        by = "" if decision.table == "main" else f", in table {decision.table}"
        rule = f"{decision.prefix} is {decision.route.because}{by}"
        self._hop(
            host, arrival, packet, rule, changed, tunnel.config.name, to, links.tunnel_mtu(host, tunnel.config), tunnel.place
        )
        if isinstance(crossed, Stop):
            return crossed
        self.notes += crossed.notes
        return crossed.far, packet, Arrival(crossed.device, host.name)

    def _by_uplink(
        self, host: Host, packet: Packet, arrival: Arrival, changed: tuple[str, ...], *, hidden: bool
    ) -> Stop | End | tuple[Host, Packet, Arrival]:
        source = packet.source
        assert source is not None
        others = self._taking(packet.target)
        asker = self.memory.left.get(packet.target) if packet.answer else None
        onward = others[0] if others else asker
        to = onward.name if onward is not None else INTERNET
        outside = onward is not None or not self.fleet.whose(packet.target)
        own = source in self.fleet.uplink(host, version_of(source)) or protected.takes(host, source)
        if not outside or (not hidden and onward is None and any(holds(each, packet.target) for each in _PRIVATE)):
            self._hop(host, arrival, packet, "no route but the default one", changed, "uplink")
            return self._nowhere(host, packet)
        self._hop(host, arrival, packet, "no route but the default one", changed, "uplink", to, host.underlay_mtu)
        if not own:
            message = f"{text_of(source)} leaves {host.name} for the internet as it is, and no answer to it comes back"
            return Stop(host.name, "no-answer", message, "an exit that hides it behind its own address", host.place)
        self.memory.left[source] = host
        if onward is not None and onward.behind_nat and not packet.answer:
            return Stop(onward.name, "no-session", f"{onward.name} is behind NAT: nothing that it did not ask for comes in")
        if not hidden and not packet.answer:
            self.notes.append(f"it leaves {host.name} by its own uplink, in no tunnel")
        if onward is not None:
            return onward, packet, Arrival("uplink", host.name)
        return End(host, INTERNET)

    def _taking(self, target: bytes) -> tuple[Host, ...]:
        """To whom the internet hands what is for an address: who has it there, or the first edge of a protected origin."""
        if (protect := self.fleet.protection(target)) is not None:
            return tuple(self.fleet.hosts[name] for name in protect.edges if name in self.fleet.hosts)
        return self.fleet.at_endpoint(text_of(target))

    def _nowhere(self, host: Host, packet: Packet) -> Stop:
        target = text_of(packet.target)
        whose = self.fleet.whose(packet.target)
        if whose:
            message = f"{host.name} has no route to {target} ({whose})"
            return Stop(
                host.name,
                "no-route",
                message,
                f"{target} among the routes of {host.name}, by a peer that leads there",
                host.place,
            )
        return Stop(
            host.name, "no-route", f"{host.name} has no route to {target}, which no host of the network has", "", host.place
        )

    def _hop(
        self,
        host: Host,
        arrival: Arrival,
        packet: Packet,
        rule: str,
        changed: tuple[str, ...],
        device: str = "",
        to: str = "",
        mtu: int | None = None,
        place: Place | None = None,
    ) -> None:
        source = packet.source if packet.source is not None else bytes(len(packet.target))
        self.hops.append(
            Hop(
                host.name,
                arrival.device,
                arrival.sender,
                arrival.admitted,
                source,
                packet.target,
                rule,
                changed,
                device,
                to,
                mtu,
                place,
            )
        )
