"""
Watch every underlay link for what must never be there.

One AF_PACKET socket a link, one thread for all. These are leaks, whoever sent them:

- the canary: bytes that every probe of the lab carries inside the tunnels, seen outside;
- an inner address: a packet whose source or destination lies in a pool or a LAN of the network;
- a protected address as the source of anything, but on the link of an edge;
- what was meant to leave through an exit, anywhere but on that exit's own link (there it must be seen);
- on the link of a node that has an exit: anything but WireGuard to its peers, and the link's own ARP and NDP.

GRE between the ends of a GRE link of the network is in clear by design: what is in it is not looked at (nor in the part of it
that an ICMP error brings back), only counted. GRE between any others is judged like everything else.

A capture that sees nothing proves nothing by itself, so before the tunnels come up each node sends a *control* canary in
clear, and every link must have seen it. Frames the kernel had to drop are counted: a capture with holes proves
nothing either.

Under load (throughput) a classic BPF filter in the kernel passes over what looks like WireGuard over UDP, so that the
thread looks only at the rest; during all other phases it looks at every byte.
"""

from __future__ import annotations

import ctypes
import ipaddress
import selectors
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from ginnel.config.node import GRE_IN_UDP_PORT, IpsecConfig
from ginnel.units import Prefix

ETH_P_ALL = 0x0003
NATT_PORT = IpsecConfig().natt_port
_ETH_P_IP, _ETH_P_ARP, _ETH_P_IPV6 = 0x0800, 0x0806, 0x86DD
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
#: Bounds what a burst may queue for the thread; 16 MiB is 10,000 full frames a link.
_RECEIVE_BUFFER_BYTES = 16 * 1024 * 1024
#: Enough to show what went wrong; the rest is counted.
MAX_KEPT_LEAKS = 8

#: A WireGuard datagram: message type 1 to 4, three zero bytes; nothing is shorter than an empty keepalive.
_WIREGUARD_MINIMUM_BYTES = 32


@dataclass(slots=True)
class Watched:
    """What was seen on one link."""

    name: str
    #: The node at the end of the link, if it may send nothing but its tunnel there once it is up.
    tunnel_only: str | None = None
    #: It is the link of somebody's exit: there, what left through the exit is in clear.
    exit: bool = False
    #: It is the link of an edge of a protected origin: there, what is from and for the protected addresses is in clear.
    edge: bool = False
    left: int = 0
    frames: int = 0
    wireguard: int = 0
    #: Packets of the network's own GRE links.
    plain: int = 0
    #: ESP, bare or in UDP.
    esp: int = 0
    control: int = 0
    leaks: int = 0
    fragments: int = 0
    dropped: int = 0
    kept: list[str] = field(default_factory=list)


class Capture:
    """The running capture; a context manager. Counts are plain ints, written by its thread and read by anyone."""

    def __init__(
        self,
        inner: Iterable[Prefix],
        canary: bytes,
        control: bytes,
        outside: bytes,
        plain: Iterable[tuple[str, str]] = (),
        protected: bool = False,
    ) -> None:
        """
        Args:
            inner: pools and LANs of the network: addresses that belong inside.
            canary: what probes carry inside the tunnels.
            control: what is sent in clear to show that the capture sees.
            outside: what probes carry that are meant for the internet, through an exit.
            plain: the numeric ends of the network's GRE links, in either order.
            protected: there are links under IPsec.
        """
        self._protected = protected
        self._under_load = assemble(tuple(_passing_over(_LISTING, gre=bool(plain), esp=protected)))
        self.links: list[Watched] = []
        self._inner, self._hidden = _networks(inner), _networks(())
        self._canary, self._control, self._outside = canary, control, outside
        self._plain = frozenset(frozenset(ipaddress.ip_address(address).packed for address in ends) for ends in plain)
        self._sockets: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)
        #: Peers' endpoints a tunnel-only node may talk to, by node; filled in when its tunnel is up.
        self._armed: dict[str, frozenset[bytes]] = {}

    def hide(self, prefixes: Iterable[Prefix]) -> None:
        """Nothing is to come from these addresses but by the links of edges; what is for them anybody may send."""
        self._hidden = _networks(prefixes)

    def watch(
        self,
        name: str,
        open_socket: socket.socket,
        tunnel_only: str | None = None,
        exit_link: bool = False,
        edge_link: bool = False,
    ) -> None:
        """Add a link: *open_socket* comes from `open_link`, called inside the link's namespace."""
        watched = Watched(name, tunnel_only, exit_link, edge_link)
        self.links.append(watched)
        self._sockets.append(open_socket)
        self._selector.register(open_socket, selectors.EVENT_READ, watched)

    def __enter__(self) -> Self:
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def arm(self, node: str, endpoints: Iterable[str]) -> None:
        """From now on *node* may send and receive only WireGuard with *endpoints* (numeric) on its own link."""
        self._armed[node] = frozenset(ipaddress.ip_address(address).packed for address in endpoints)

    def ignore_tunnels(self, ignore: bool) -> None:
        """Let the kernel pass over what looks like a tunnel of the network's kinds, or show everything again."""
        code = self._under_load
        for sock in self._sockets:
            if ignore:
                program = ctypes.create_string_buffer(code, len(code))
                header = struct.pack("HP", len(code) // _BPF_STEP_BYTES, ctypes.addressof(program))  # struct sock_fprog
                sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
            else:
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def close(self) -> None:
        """Look at what is still queued, then stop; idempotent."""
        if self._thread.is_alive():
            self._wake_write.send(b"x")
            self._thread.join()
        for watched, sock in zip(self.links, self._sockets, strict=True):
            if sock.fileno() >= 0:
                watched.dropped += _dropped(sock)
                sock.close()
        if self._wake_read.fileno() >= 0:
            self._selector.close()
            self._wake_read.close()
            self._wake_write.close()

    # -- the thread

    def _work(self) -> None:
        buffer = bytearray(1 << 17)
        stopping = False
        while True:
            ready = self._selector.select(0 if stopping else None)
            busy = False
            for key, _ in ready:
                if key.data is None:
                    stopping = True
                    continue
                busy = True
                self._drain(key.fileobj, key.data, buffer)  # type: ignore[arg-type]
            if stopping and not busy:
                return

    def _drain(self, sock: socket.socket, watched: Watched, buffer: bytearray) -> None:
        for _ in range(256):  # then the others have their turn
            try:
                size, address = sock.recvfrom_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                # The interface is down or gone: that is for the lab to notice, not a leak.
                watched.kept.append(f"capture stopped: {error.strerror}")
                return
            self._judge(bytes(buffer[:size]), watched, address[2] == socket.PACKET_OUTGOING)

    def _judge(self, frame: bytes, watched: Watched, outgoing: bool) -> None:
        watched.frames += 1
        packet = parse(frame)
        watched.wireguard += packet.wireguard
        watched.fragments += packet.fragment
        watched.esp += packet.esp and self._protected
        if self._is_plain(packet):
            watched.plain += 1
            return
        if self._control in frame:
            watched.control += 1
        if self._canary in frame:
            self._leak(watched, packet, "the canary in clear")
        elif self._outside in frame:
            watched.left += 1
            if not watched.exit:
                self._leak(watched, packet, "past the exit")
        elif packet.version and _is_in(packet.source, self._hidden):
            if not watched.edge:
                self._leak(watched, packet, "a protected address past its edges")
        elif packet.version and _is_in(packet.target, self._hidden):
            pass  # anybody may try
        elif packet.version and (_is_in(packet.source, self._inner) or _is_in(packet.target, self._inner)):
            self._leak(watched, packet, "an inner address outside")
        elif watched.tunnel_only in self._armed and not packet.link_local:
            peers = self._armed[watched.tunnel_only]
            other = packet.target if not outgoing else packet.source  # the socket is at the far end of the link
            if not (packet.wireguard and other in peers):
                self._leak(watched, packet, f"beside the tunnel of {watched.tunnel_only}")

    def _is_plain(self, packet: Packet) -> bool:
        """Whether it is a packet of a GRE link of the network, or an ICMP error about one."""
        if not packet.version or not self._plain:
            return False
        if packet.quoted is not None:
            packet = packet.quoted
        return packet.gre and frozenset((packet.source, packet.target)) in self._plain

    def _leak(self, watched: Watched, packet: Packet, what: str) -> None:
        watched.leaks += 1
        if len(watched.kept) < MAX_KEPT_LEAKS:
            watched.kept.append(f"{what}: {packet}")


#: By IP version: how many bits are not the network's, and the network without them.
_Networks = dict[int, list[tuple[int, int]]]


def _networks(prefixes: Iterable[Prefix]) -> _Networks:
    found: _Networks = {4: [], 6: []}
    for prefix in prefixes:
        shift = len(prefix.packed) * 8 - prefix.length
        found[prefix.version].append((shift, int.from_bytes(prefix.packed, "big") >> shift))
    return found


def _is_in(packed: bytes, networks: _Networks) -> bool:
    value = int.from_bytes(packed, "big")
    return any(value >> shift == network for shift, network in networks[4 if len(packed) == 4 else 6])


@dataclass(frozen=True, slots=True)
class Packet:
    """What the outside of a frame says."""

    version: int  # 4, 6, or 0 for anything else
    source: bytes = b""
    target: bytes = b""
    protocol: int = 0
    ports: tuple[int, int] = (0, 0)
    fragment: bool = False
    wireguard: bool = False
    #: GRE, bare or in UDP; a later fragment of UDP may be.
    gre: bool = False
    #: Bare, or in UDP on the port of ESP, where WireGuard may listen as well.
    esp: bool = False
    #: What an ICMP error is about.
    quoted: Packet | None = None
    #: ARP, NDP, multicast listener reports and the like: what a link says to itself.
    link_local: bool = False

    def __str__(self) -> str:
        if not self.version:
            return "not IP"
        source, target = ipaddress.ip_address(self.source), ipaddress.ip_address(self.target)
        return f"{source} port {self.ports[0]} > {target} port {self.ports[1]}, protocol {self.protocol}"


def parse(frame: bytes) -> Packet:
    """Read an Ethernet frame as far as the ports; what is cut short is `version` 0, never an error."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == _ETH_P_ARP:
        return Packet(0, link_local=True)
    if kind == _ETH_P_IP:
        return _ipv4(frame[14:])
    if kind == _ETH_P_IPV6:
        return _ipv6(frame[14:])
    return Packet(0)


def _ipv4(packet: bytes, quoted: bool = False) -> Packet:
    if len(packet) < 20:
        return Packet(0)
    header = (packet[0] & 0x0F) * 4
    fragment = bool(int.from_bytes(packet[6:8], "big") & 0x3FFF)
    return _transport(packet, 4, packet[12:16], packet[16:20], packet[9], header, fragment, quoted)


def _ipv6(packet: bytes, quoted: bool = False) -> Packet:
    if len(packet) < 40:
        return Packet(0)
    protocol, at, fragment = packet[6], 40, packet[6] == 44
    # Behind the destination options that Linux sends with a tunnel, and behind a fragment header, stands what it is.
    while protocol in (44, 60) and len(packet) >= at + 8:
        protocol, at = packet[at], at + 8 + (0 if protocol == 44 else packet[at + 1] * 8)
    return _transport(packet, 6, packet[8:24], packet[24:40], protocol, at, fragment, quoted)


def _transport(
    frame: bytes, version: int, source: bytes, target: bytes, protocol: int, at: int, fragment: bool, inside_error: bool
) -> Packet:
    ports = (0, 0)
    wireguard = False
    quoted = None
    if protocol == (1 if version == 4 else 58) and len(frame) > at and not fragment and not inside_error:
        if version == 4 and frame[at] in (3, 11, 12):
            quoted = _ipv4(frame[at + 8 :], quoted=True)
        elif version == 6 and 1 <= frame[at] <= 4:
            quoted = _ipv6(frame[at + 8 :], quoted=True)
    esp = protocol == 50
    gre = protocol == 47 or (protocol == 17 and fragment)
    if protocol in (6, 17) and len(frame) >= at + 8 and not fragment:
        ports = (int.from_bytes(frame[at : at + 2], "big"), int.from_bytes(frame[at + 2 : at + 4], "big"))
        body = frame[at + 8 :]
        gre = protocol == 17 and GRE_IN_UDP_PORT in ports
        # Behind four zero bytes it would be IKE.
        esp = protocol == 17 and NATT_PORT in ports and len(body) > 8 and body[:4] != bytes(4)
        wireguard = protocol == 17 and len(body) >= _WIREGUARD_MINIMUM_BYTES and 1 <= body[0] <= 4 and body[1:4] == bytes(3)
    if version == 6:  # NDP, whatever its addresses; and multicast listener reports, which come behind a hop-by-hop header
        link_local = (protocol == 58 and 133 <= frame[at] <= 137) if len(frame) > at else False
        link_local = link_local or (protocol in (0, 58) and target[0] == 0xFF)
    else:
        link_local = protocol == 2  # IGMP
    return Packet(version, source, target, protocol, ports, fragment, wireguard, gre, esp, quoted, link_local)


def open_link(interface: str) -> socket.socket:
    """A capture socket on *interface* of the current network namespace."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    try:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:  # root of a user namespace has the system's limit; a hole would be counted and reported
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        sock.bind((interface, ETH_P_ALL))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _dropped(sock: socket.socket) -> int:
    packets, drops = struct.unpack("II", sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
    return int(drops) if packets else 0


# ---------------------------------------------------------------- the kernel's part under load

_LOAD_HALF, _LOAD_BYTE, _LOAD_WORD, _LOAD_WORD_AT_X, _LOAD_HALF_AT_X, _LOAD_X_HEADER = 0x28, 0x30, 0x20, 0x40, 0x48, 0xB1
#: sizeof(struct sock_filter).
_BPF_STEP_BYTES = 8
_IF_EQUAL, _IF_ANY_BIT, _JUMP, _RETURN = 0x15, 0x45, 0x05, 0x06

#: (label, code, operand, where to when true, when false); "" is the next line. Ethernet is 14 bytes, IPv6 40, UDP 8.
_LISTING: Sequence[tuple[str, int, int, str, str]] = (
    ("", _LOAD_HALF, 12, "", ""),
    ("", _IF_EQUAL, _ETH_P_ARP, "drop", ""),
    ("", _IF_EQUAL, _ETH_P_IPV6, "v6", ""),
    ("", _IF_EQUAL, _ETH_P_IP, "", "pass"),
    ("", _LOAD_BYTE, 14 + 9, "", ""),
    ("", _IF_EQUAL, socket.IPPROTO_UDP, "", "pass"),
    ("", _LOAD_HALF, 14 + 6, "", ""),
    ("", _IF_ANY_BIT, 0x3FFF, "pass", ""),
    ("", _LOAD_X_HEADER, 14, "", ""),
    ("", _LOAD_WORD_AT_X, 14 + 8, "", ""),
    ("", _JUMP, 0, "type", ""),
    ("v6", _LOAD_BYTE, 14 + 6, "", ""),
    ("", _IF_EQUAL, socket.IPPROTO_UDP, "", "pass"),
    ("", _LOAD_WORD, 14 + 40 + 8, "", ""),
    ("type", _IF_EQUAL, 0x01000000, "drop", ""),
    ("", _IF_EQUAL, 0x02000000, "drop", ""),
    ("", _IF_EQUAL, 0x03000000, "drop", ""),
    ("", _IF_EQUAL, 0x04000000, "drop", ""),
    ("pass", _RETURN, 0xFFFF, "", ""),
    ("drop", _RETURN, 0, "", ""),
)


def assemble(listing: Sequence[tuple[str, int, int, str, str]]) -> bytes:
    """Classic BPF as the kernel takes it: struct sock_filter {u16 code; u8 jt; u8 jf; u32 k} a line (linux/filter.h)."""
    labels = {label: line for line, (label, *_) in enumerate(listing) if label}
    out = b""
    for line, (_, code, operand, when_true, when_false) in enumerate(listing):
        true = labels[when_true] - line - 1 if when_true else 0
        false = labels[when_false] - line - 1 if when_false else 0
        # An unconditional jump has its distance in the operand.
        out += struct.pack("HBBI", code, *((0, 0, true) if code == _JUMP else (true, false, operand)))
    return out


def _passing_over(
    listing: Sequence[tuple[str, int, int, str, str]], *, gre: bool, esp: bool
) -> Iterator[tuple[str, int, int, str, str]]:
    """The same, passing over GRE and ESP as well, bare and in UDP."""
    protocols = [*([socket.IPPROTO_GRE] if gre else []), *([socket.IPPROTO_ESP] if esp else [])]
    numbers = [*([GRE_IN_UDP_PORT] if gre else []), *([NATT_PORT] if esp else [])]
    for step in listing:
        _, code, operand, _, _ = step
        if (code, operand) == (_IF_EQUAL, socket.IPPROTO_UDP):
            yield from (("", _IF_EQUAL, protocol, "drop", "") for protocol in protocols)
        if (code, operand) in ((_LOAD_WORD_AT_X, 14 + 8), (_LOAD_WORD, 14 + 40 + 8)):
            load = _LOAD_HALF_AT_X if code == _LOAD_WORD_AT_X else _LOAD_HALF
            for port in (operand - 8, operand - 6) if numbers else ():
                yield ("", load, port, "", "")
                yield from (("", _IF_EQUAL, number, "drop", "") for number in numbers)
        yield step
