"""
rtnetlink by the thousand: what `up` of a node file does to links, addresses, routes and rules, as values that are both the words
of `ip` and the bytes for the kernel.

A request names its interface; the index is put in when it is sent, so that a plan can be printed before the interface exists.
Many requests leave in one datagram and the kernel answers each; the first refusal in their order is the error. Nothing to import
and no process to start: 3,000 requests take a few hundredths of a second here, and what the kernel needs.

    nlmsghdr (16): length, type, flags, sequence, port | header of the type | attributes: length, type, value padded to 4

Source: rtnetlink(7), netlink(7); linux/rtnetlink.h, if_link.h, if_tunnel.h, fib_rules.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ginnel.config.words import Route, Rule
from ginnel.errors import KernelError
from ginnel.linux.links import Link, attributes_of, links
from ginnel.linux.tables import table_number

_REQUEST, _ACK, _DUMP, _REPLACE, _EXCL, _CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE, _DELROUTE, _GETROUTE, _NEWRULE, _DELRULE, _GETRULE = 16, 17, 20, 24, 25, 26, 32, 33, 34
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_GROUP = 3, 4, 18, 26, 27
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INET6_ADDR_GEN_MODE = 1, 2, 8
_ADDR_GEN_NONE = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS, _RTA_TABLE, _RTA_MARK = 1, 4, 5, 6, 7, 8, 15, 16
_RTAX_MTU = 2
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME = 1, 2, 3, 6, 10, 15, 16, 17
_FR_ACT_TO_TABLE, _RULE_INVERT = 1, 2
_MAIN = 254
_PROTOCOL_BOOT, _SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE, _UNICAST, _LOCAL, _UNREACHABLE = 3, 0, 253, 255, 1, 2, 7
#: Behind every route that anybody means to use (Linux's own documents of VRF say this number).
LAST_METRIC = 4_278_198_272
#: Where the type is in an rtmsg.
_RTM_TYPE = 7
_IFF_UP = 1
_NESTED = 0x8000
_SOL_NETLINK, _EXT_ACK, _CAP_ACK = 270, 11, 10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_ATTR_MSG = 1
#: Requests in one datagram: their answers must fit the receive buffer together.
BATCH = 128
_RECEIVE_BYTES = 1 << 18
TIMEOUT_S = 30.0

Index = Callable[[str], int]
#: Type, flags, and all that follows the nlmsghdr.
Message = tuple[int, int, bytes]


class Request(Protocol):
    """One change, as words for a person and as a message for the kernel."""

    @property
    def words(self) -> str:
        """As `ip` takes it."""
        ...

    def message(self, index: Index) -> Message: ...


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded."""
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a word."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """An attribute of four bytes in the host's order."""
    return attribute(kind, struct.pack("=I", value))


def _interface(index: int, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def _family(packed: bytes) -> int:
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6


@dataclass(frozen=True, slots=True)
class SetLink:
    """The MTU of a link that is down; *quiet*: the kernel is to give it no link-local address."""

    name: str
    mtu: int
    quiet: bool = False

    @property
    def words(self) -> str:
        """See `Request`."""
        return f"ip link set dev {self.name} mtu {self.mtu}{' addrgenmode none' if self.quiet else ''}"

    def message(self, index: Index) -> Message:
        """See `Request`."""
        body = _interface(index(self.name)) + u32(_IFLA_MTU, self.mtu)
        if self.quiet:
            mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))
            body += attribute(_IFLA_AF_SPEC | _NESTED, attribute(socket.AF_INET6 | _NESTED, mode))
        return _NEWLINK, 0, body


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Up."""

    name: str

    @property
    def words(self) -> str:
        """See `Request`."""
        return f"ip link set dev {self.name} up"

    def message(self, index: Index) -> Message:
        """See `Request`."""
        return _NEWLINK, 0, _interface(index(self.name), _IFF_UP, _IFF_UP)


@dataclass(frozen=True, slots=True)
class AddLink:
    """A device that the kernel makes: *options* in the words of `ip`, *data* the same as attributes of IFLA_INFO_DATA."""

    name: str
    kind: str
    options: str
    data: bytes

    @property
    def words(self) -> str:
        """See `Request`."""
        return f"ip link add {self.name} type {self.kind} {self.options}".rstrip()

    def message(self, index: Index) -> Message:  # noqa: ARG002 - there is none yet
        """See `Request`."""
        info = text(_IFLA_INFO_KIND, self.kind) + attribute(_IFLA_INFO_DATA | _NESTED, self.data)
        body = _interface(0) + text(_IFLA_IFNAME, self.name) + attribute(_IFLA_LINKINFO | _NESTED, info)
        return _NEWLINK, _CREATE | _EXCL, body


@dataclass(frozen=True, slots=True)
class AddAddress:
    """*address* with its length; host bits are kept."""

    name: str
    address: str

    @property
    def words(self) -> str:
        """See `Request`."""
        return f"ip address add {self.address} dev {self.name}"

    def message(self, index: Index) -> Message:
        """See `Request`."""
        bare, _, length = self.address.partition("/")
        packed = socket.inet_pton(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare)
        scope = _SCOPE_LINK if packed[:2] == b"\xfe\x80" and len(packed) == 16 else _SCOPE_UNIVERSE
        body = struct.pack("=BBBBI", _family(packed), int(length), 0, scope, index(self.name))
        return _NEWADDR, _CREATE | _EXCL, body + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


@dataclass(frozen=True, slots=True)
class AddRoute:
    """A route into a link."""

    name: str
    route: Route

    @property
    def words(self) -> str:
        """See `Request`."""
        head, *rest = str(self.route).split()
        return " ".join(["ip", f"-{self.route.prefix.version}", "route", "add", head, "dev", self.name, *rest])

    def message(self, index: Index) -> Message:
        """See `Request`."""
        route, packed = self.route, self.route.prefix.packed
        table = _table(route.table)
        scope = _SCOPE_LINK if len(packed) == 4 else _SCOPE_UNIVERSE
        body = struct.pack(
            "=BBBBBBBBI", _family(packed), route.prefix.length, 0, 0, min(table, 255) if table < 256 else 0,
            _PROTOCOL_BOOT, scope, _UNICAST, 0,
        )  # fmt: skip
        body += attribute(_RTA_DST, packed) + u32(_RTA_TABLE, table) + u32(_RTA_OIF, index(self.name))
        body += u32(_RTA_PRIORITY, route.metric) if route.metric else b""
        if route.source:
            body += attribute(_RTA_PREFSRC, socket.inet_pton(_family(packed), route.source))
        return _NEWROUTE, _CREATE | _EXCL, body


@dataclass(frozen=True, slots=True)
class BlockRoute:
    """
    What is routed into a protected tunnel has no other way: unreachable, behind every other route to the same prefix.

    So when the tunnel's device is gone or down its packets do not follow a shorter prefix, in clear. *route* without a metric.
    """

    route: Route
    delete: bool = False

    @property
    def words(self) -> str:
        """See `Request`."""
        head, *rest = str(self.route).split()
        verb = "delete" if self.delete else "replace"
        return " ".join(
            ["ip", f"-{self.route.prefix.version}", "route", verb, "unreachable", head, *rest, "metric", str(LAST_METRIC)]
        )

    def message(self, index: Index) -> Message:  # noqa: ARG002 - it leads nowhere
        """See `Request`."""
        packed, table = self.route.prefix.packed, _table(self.route.table)
        protocol, scope = (0, _SCOPE_NOWHERE) if self.delete else (_PROTOCOL_BOOT, _SCOPE_UNIVERSE)
        body = struct.pack(
            "=BBBBBBBBI", _family(packed), self.route.prefix.length, 0, 0, table if table < 256 else 0,
            protocol, scope, _UNREACHABLE, 0,
        )  # fmt: skip
        body += attribute(_RTA_DST, packed) + u32(_RTA_TABLE, table) + u32(_RTA_PRIORITY, LAST_METRIC)
        return (_DELROUTE, 0, body) if self.delete else (_NEWROUTE, _CREATE | _REPLACE, body)


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """A policy rule with its version and priority settled, so that exactly this one can be deleted again."""

    rule: Rule
    version: int
    delete: bool = False

    @property
    def words(self) -> str:
        """See `Request`."""
        return f"ip -{self.version} rule {'delete' if self.delete else 'add'} {self.rule}"

    def message(self, index: Index) -> Message:  # noqa: ARG002 - a rule may name interfaces that do not exist
        """See `Request`."""
        rule = self.rule
        source, destination = rule.source, rule.destination
        body = struct.pack(
            "=BBBBBBBBI", socket.AF_INET if self.version == 4 else socket.AF_INET6,
            destination.length if destination else 0, source.length if source else 0, 0, 0, 0, 0,
            _FR_ACT_TO_TABLE, _RULE_INVERT if rule.inverted else 0,
        )  # fmt: skip
        body += u32(_FRA_TABLE, _table(rule.table)) + u32(_FRA_PRIORITY, rule.priority)
        body += attribute(_FRA_SRC, source.packed) if source else b""
        body += attribute(_FRA_DST, destination.packed) if destination else b""
        if rule.mark is not None:
            body += u32(_FRA_FWMARK, rule.mark) + u32(_FRA_FWMASK, rule.mask if rule.mask is not None else 0xFFFF_FFFF)
        body += text(_FRA_IIFNAME, rule.iif) if rule.iif else b""
        body += text(_FRA_OIFNAME, rule.oif) if rule.oif else b""
        return (_DELRULE, 0, body) if self.delete else (_NEWRULE, _CREATE | _EXCL, body)


@dataclass(frozen=True, slots=True)
class _SetGroup:
    name: str
    group: int

    @property
    def words(self) -> str:
        return f"ip link set dev {self.name} group {self.group}"

    def message(self, index: Index) -> Message:
        return _NEWLINK, 0, _interface(index(self.name)) + u32(_IFLA_GROUP, self.group)


@dataclass(frozen=True, slots=True)
class _DeleteGroup:
    group: int

    @property
    def words(self) -> str:
        return f"ip link delete group {self.group}"

    def message(self, index: Index) -> Message:  # noqa: ARG002 - all of the group
        return _DELLINK, 0, _interface(0) + u32(_IFLA_GROUP, self.group)


@dataclass(frozen=True, slots=True)
class _DeleteLink:
    name: str
    number: int

    @property
    def words(self) -> str:
        return f"ip link delete dev {self.name}"

    def message(self, index: Index) -> Message:  # noqa: ARG002 - by the number that it had
        return _DELLINK, 0, _interface(self.number)


def _table(name: str) -> int:
    if not name:
        return _MAIN
    number = table_number(name)
    if number is None:
        raise KernelError(f"find routing table {name}", errno.ENOENT, "name it in /etc/iproute2/rt_tables, or give its number")
    return number


@dataclass(frozen=True, slots=True)
class Way:
    """
    How the kernel would send to an address: through which interface, by which gateway, and what fits.

    local: it is an address of this host.
    """

    index: int
    mtu: int | None
    gateway: bytes = b""
    source: bytes = b""
    local: bool = False


class Rtnl:
    """One rtnetlink socket of the namespace in which it is first used."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._sequence = 0

    def close(self) -> None:
        """Close the socket; it is opened again when needed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- reading

    def links(self) -> list[Link]:
        """All interfaces."""
        return links()

    def way(self, packed: bytes, *, mark: int = 0, device: int = 0) -> Way | None:
        """The route to an address, for packets with *mark* that leave by *device* (0: any); None without one."""
        body = struct.pack("=BBBBBBBBI", _family(packed), len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, packed)
        body += u32(_RTA_MARK, mark) if mark else b""
        body += u32(_RTA_OIF, device) if device else b""
        try:
            answers = self._ask((_GETROUTE, 0, body), f"ip route get {socket.inet_ntop(_family(packed), packed)}")
        except KernelError as error:
            if error.errno in {
                errno.ENETUNREACH,
                errno.EHOSTUNREACH,
                errno.ESRCH,
                errno.EAFNOSUPPORT,
                errno.EACCES,
                errno.EINVAL,
            }:
                return None
            raise
        for answer in answers:
            found = dict(attributes_of(answer[12:]))
            metrics = dict(attributes_of(found.get(_RTA_METRICS, b"")))
            mtu = struct.unpack("=I", metrics[_RTAX_MTU])[0] if _RTAX_MTU in metrics else None
            index = struct.unpack("=I", found[_RTA_OIF])[0] if _RTA_OIF in found else 0
            local = answer[_RTM_TYPE] == _LOCAL
            return Way(index, mtu, found.get(_RTA_GATEWAY, b""), found.get(_RTA_PREFSRC, b""), local)
        return None

    def rule_priorities(self, version: int) -> list[int]:
        """Of all rules, lowest first."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        answers = self._ask(
            (_GETRULE, _DUMP, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)), f"ip -{version} rule show"
        )
        found = [dict(attributes_of(answer[12:])) for answer in answers]
        return sorted(struct.unpack("=I", each[_FRA_PRIORITY])[0] if _FRA_PRIORITY in each else 0 for each in found)

    # -- changing

    def apply(self, requests: Sequence[Request]) -> None:
        """
        Send all of them, in order.

        Raises:
            KernelError: the first that was refused, in its words; others of the same batch may have been done.
        """
        indexes: dict[str, int] = {}

        def index(name: str) -> int:
            if name not in indexes:
                try:
                    indexes[name] = socket.if_nametoindex(name)
                except OSError:
                    hint = "it was deleted while ginnel was at work on it"
                    raise KernelError(f"find interface {name}", errno.ENODEV, hint) from None
            return indexes[name]

        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            messages = []
            for request in batch:
                kind, flags, body = request.message(index)
                messages.append((kind, flags | _REQUEST | _ACK, body))
            self._send(messages, [request.words for request in batch])

    def delete_links(self, found: Sequence[tuple[str, int]]) -> None:
        """
        Delete interfaces (name, index), all in one go of the kernel: each by itself would cost it a pause of its own.

        A name whose index is another now is somebody else's and stays.
        """
        here = {link.index: link.name for link in self.links()}
        ours = [(here[number], number) for _, number in found if number in here]
        if len(ours) < 3:
            for name, number in ours:
                with _gone_is_well():
                    self.apply([_DeleteLink(name, number)])
            return
        # A group of our own, for a moment: nobody else's links are in it, being a random number.
        group = int.from_bytes(os.urandom(4), "big") | 0x4000_0000
        for name, _ in ours:
            with _gone_is_well():
                self.apply([_SetGroup(name, group)])
        with _gone_is_well():
            self.apply([_DeleteGroup(group)])

    # -- the socket

    def _open(self) -> socket.socket:
        if self._socket is None:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            made.bind((0, 0))
            made.settimeout(TIMEOUT_S)
            made.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            made.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            self._socket = made
        return self._socket

    def _datagram(self, messages: Sequence[Message]) -> tuple[bytes, int]:
        first = self._sequence + 1
        out = b""
        for kind, flags, body in messages:
            self._sequence = self._sequence + 1 & 0x7FFF_FFFF
            out += struct.pack("=IHHII", len(body) + 16, kind, flags, self._sequence, 0) + body
        return out, first

    def _send(self, messages: Sequence[Message], words: Sequence[str]) -> None:
        datagram, first = self._datagram(messages)
        connection = self._open()
        connection.send(datagram)
        waiting = len(messages)
        worst: tuple[int, int, str] | None = None
        while waiting:
            for kind, flags, sequence, body in _messages(connection.recv(_RECEIVE_BYTES)):
                place = sequence - first
                if kind != _ERROR or not 0 <= place < len(messages):
                    continue
                waiting -= 1
                code = -struct.unpack_from("=i", body)[0]
                if code and (worst is None or place < worst[0]):
                    worst = (place, code, _reason(flags, body))
        if worst is not None:
            place, code, reason = worst
            raise KernelError(words[place], code, _hint(code, reason, words[place]))

    def _ask(self, message: Message, words: str) -> list[bytes]:
        kind, flags, body = message
        datagram, first = self._datagram([(kind, flags | _REQUEST, body)])
        connection = self._open()
        connection.send(datagram)
        found: list[bytes] = []
        while True:
            for answer, answer_flags, sequence, content in _messages(connection.recv(_RECEIVE_BYTES)):
                if sequence != first:
                    continue
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    raise KernelError(words, code, _hint(code, _reason(answer_flags, content), words))
                found.append(content)
                if not flags & _DUMP:
                    return found


@contextlib.contextmanager
def _gone_is_well() -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        if error.errno != errno.ENODEV:
            raise


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence = struct.unpack_from("=IHHI", data, offset)
        if length < 16:
            return
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _reason(flags: int, body: bytes) -> str:
    """The kernel's own sentence about an error, where it has one."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    inner = struct.unpack_from("=I", body, 4)[0]
    offset = 4 + (16 if flags & _NLM_F_CAPPED else (inner + 3) & ~3)
    return dict(attributes_of(body[offset:])).get(_ATTR_MSG, b"").rstrip(b"\0").decode("utf-8", "replace")


def _hint(code: int, reason: str, words: str) -> str:
    match code:
        case errno.EPERM:
            return "this needs root, or CAP_NET_ADMIN in the namespace: try `sudo`"
        case errno.EEXIST if " route add " in words:
            prefix = words.partition(" add ")[2].partition(" ")[0]
            beside = f"with a metric of its own ('{prefix} metric 20') this one stands beside it"
            return f"`ip route show {prefix}` says who has it; {beside}"
        case errno.EEXIST:
            return "something else on this host already has it"
        case errno.EACCES if "-6" in words or "::" in words:
            return "IPv6 may be off here: see `sysctl net.ipv6.conf.all.disable_ipv6`"
        case errno.EOPNOTSUPP | errno.ENODEV if " type " in words:
            kind = words.partition(" type ")[2].partition(" ")[0]
            return f"this kernel has no {kind}: `modprobe {_MODULES.get(kind, kind)}`, or leave out --backend kernel"
        case _:
            return f"the kernel said: {reason}" if reason else ""


_MODULES = {"gre": "ip_gre", "gretap": "ip_gre", "ip6gre": "ip6_gre", "ip6gretap": "ip6_gre", "ip6tnl": "ip6_tunnel"}
