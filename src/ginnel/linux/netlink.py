"""
Links, addresses, routes and rules of the kernel, by rtnetlink (pyroute2).

The results equal those of the `ip` commands that wg-quick runs, down to protocol, scope and metric; the oracle test compares.
Importing pyroute2 costs a tenth of a second: it happens when a `Netlink` is made, beside the start of the daemon, never before.
More than BATCH_ABOVE routes go through `ip -batch`, which is twenty times faster than building the messages here.
"""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ginnel.errors import KernelError
from ginnel.linux.host import MAIN_TABLE, Rule, Version
from ginnel.units import Prefix

T = TypeVar("T")

BATCH_ABOVE = 500

_FAMILY: dict[Version, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_RTPROT_BOOT = 3
_SCOPE_UNIVERSE = 0
_SCOPE_LINK = 253
_RULE_INVERT = 2
_RTN_UNICAST = 1


class Netlink:
    """`host.Kernel` over one rtnetlink socket, in the namespace in which it is made."""

    def __init__(self) -> None:
        from pyroute2.iproute.linux import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        self._error: type[Exception] = NetlinkError
        self._ipr: Any = IPRoute()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the socket."""
        self._ipr.close()

    # -- links

    def link_index(self, name: str) -> int | None:
        """See `host.Kernel`."""
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return None

    def link_names(self) -> list[str]:
        """See `host.Kernel`."""
        return [name for _, name in socket.if_nameindex()]

    def _index(self, name: str) -> int:
        index = self.link_index(name)
        if index is None:
            raise KernelError(f"find interface {name}", errno.ENODEV, "it was deleted while ginnel was at work on it")
        return index

    def link_mtu(self, name: str) -> int | None:
        """See `host.Kernel`."""
        index = self.link_index(name)
        return None if index is None else self._mtu_of(index)

    def _mtu_of(self, index: int) -> int | None:
        links = self._ask(f"ip link show {index}", lambda: list(self._ipr.link("get", index=index)), missing=list)
        return links[0].get_attr("IFLA_MTU") if links else None

    def set_link_up(self, name: str, mtu: int) -> None:
        """See `host.Kernel`."""
        index = self._index(name)
        self._ask(f"ip link set mtu {mtu} up dev {name}", lambda: self._ipr.link("set", index=index, mtu=mtu, state="up"))

    def add_wireguard_link(self, name: str) -> None:
        """See `host.Kernel`."""
        self._ask(f"ip link add {name} type wireguard", lambda: self._ipr.link("add", ifname=name, kind="wireguard"))

    def delete_link(self, name: str) -> None:
        """See `host.Kernel`; a link that is gone is no error."""
        index = self.link_index(name)
        if index is not None:
            self._ask(f"ip link delete dev {name}", lambda: self._ipr.link("del", index=index), missing=lambda: None)

    # -- addresses

    def add_address(self, name: str, address: str) -> None:
        """See `host.Kernel`."""
        index = self._index(name)
        bare, _, length = address.partition("/")
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        self._ask(
            f"ip address add {address} dev {name}",
            lambda: self._ipr.addr("add", index=index, family=family, address=bare, prefixlen=int(length)),
        )

    def addresses(self, name: str) -> list[str]:
        """See `host.Kernel`."""
        index = self._index(name)
        found: list[str] = []
        for family in _FAMILY.values():
            for message in self._ask(f"ip address show dev {name}", lambda: list(self._ipr.addr("dump", family=family))):  # noqa: B023 - called at once
                if message["index"] == index:
                    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                    found.append(f"{text}/{message['prefixlen']}")
        return found

    # -- routes

    def add_routes(self, name: str, prefixes: Sequence[Prefix], table: int | None) -> None:
        """See `host.Kernel`."""
        if len(prefixes) > BATCH_ABOVE:
            self._add_routes_by_batch(name, prefixes, table)
            return
        index = self._index(name)
        for prefix in prefixes:
            version: Version = 4 if prefix.version == 4 else 6
            self._ask(
                f"ip route add {prefix} dev {name}" + (f" table {table}" if table else ""),
                lambda: self._ipr.route(
                    "add",
                    family=_FAMILY[version],  # noqa: B023 - called at once
                    dst=str(prefix),  # noqa: B023
                    oif=index,
                    table=table or MAIN_TABLE,
                    proto=_RTPROT_BOOT,
                    scope=_SCOPE_LINK if version == 4 else _SCOPE_UNIVERSE,  # noqa: B023
                ),
            )

    def _add_routes_by_batch(self, name: str, prefixes: Sequence[Prefix], table: int | None) -> None:
        suffix = f" table {table}" if table else ""
        lines = "".join(f"route add {prefix} dev {name}{suffix}\n" for prefix in prefixes)
        done = subprocess.run(["ip", "-batch", "-"], input=lines, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            # "RTNETLINK answers: File exists\nCommand failed -:17"
            place = done.stderr.rpartition("-:")[2].strip()
            which = prefixes[int(place) - 1] if place.isdigit() and 0 < int(place) <= len(prefixes) else prefixes[0]
            reason = done.stderr.strip().splitlines()[0] if done.stderr.strip() else "no reason given"
            number = errno.EEXIST if "File exists" in done.stderr else errno.EIO
            raise KernelError(f"ip -batch: route add {which} dev {name}{suffix}", number, f"ip said: {reason}")

    def route_covers(self, name: str, prefix: Prefix) -> bool:
        """See `host.Kernel`."""
        index = self.link_index(name)
        version: Version = 4 if prefix.version == 4 else 6
        wanted = int.from_bytes(prefix.packed, "big")
        full = len(prefix.packed) * 8
        for route in self._routes(version, oif=index, table=MAIN_TABLE):
            length = route["dst_len"]
            if route.get_attr("RTA_OIF") != index or route["type"] != _RTN_UNICAST or length > prefix.length:
                continue
            held = int.from_bytes(socket.inet_pton(_FAMILY[version], route.get_attr("RTA_DST")), "big") if length else 0
            if (held ^ wanted) >> (full - length) == 0:
                return True
        return False

    def table_is_empty(self, table: int) -> bool:
        """See `host.Kernel`."""
        return not any(self._routes(version, table=table) for version in _FAMILY)

    def _routes(self, version: Version, *, table: int, oif: int | None = None) -> list[Any]:
        asked = {"oif": oif} if oif is not None else {}
        routes = self._ask(
            f"ip -{version} route show table {table}",
            lambda: list(self._ipr.route("dump", family=_FAMILY[version], table=table, **asked)),
            missing=list,  # IPv6 is off, or no such table
        )
        return [route for route in routes if (route.get_attr("RTA_TABLE") or route["table"]) == table]

    def mtu_towards(self, address: str) -> int | None:
        """See `host.Kernel`."""
        routes = self._ask(f"ip route get {address}", lambda: list(self._ipr.route("get", dst=address)), missing=list)
        return self._mtu_of_route(routes[0]) if routes else None

    def default_route_mtu(self) -> int | None:
        """See `host.Kernel`; IPv4's first, as `ip route show default` has it, else IPv6's."""
        for version in _FAMILY:
            for route in self._routes(version, table=MAIN_TABLE):
                if route["dst_len"] == 0 and (mtu := self._mtu_of_route(route)) is not None:
                    return mtu
        return None

    def _mtu_of_route(self, route: Any) -> int | None:
        metrics = route.get_attr("RTA_METRICS")
        mtu: int | None = metrics.get_attr("RTAX_MTU") if metrics is not None else None
        if mtu:
            return mtu
        index: int | None = route.get_attr("RTA_OIF")
        if index is None and (hops := route.get_attr("RTA_MULTIPATH")):
            index = hops[0]["oif"]
        return None if index is None else self._mtu_of(index)

    # -- rules

    def rule_priorities(self, version: Version) -> list[int]:
        """See `host.Kernel`."""
        rules = self._ask(f"ip -{version} rule show", lambda: list(self._ipr.rule("dump", family=_FAMILY[version])), missing=list)
        return sorted(rule.get_attr("FRA_PRIORITY") or 0 for rule in rules)

    def add_rule(self, rule: Rule) -> None:
        """See `host.Kernel`."""
        self._ask(f"ip -{rule.version} rule add {rule.selector}", lambda: self._ipr.rule("add", **_rule_arguments(rule)))

    def delete_rule(self, rule: Rule) -> bool:
        """See `host.Kernel`."""
        words = f"ip -{rule.version} rule delete {rule.selector} priority {rule.priority}"
        deleted: bool = self._ask(
            words, lambda: [*self._ipr.rule("del", **_rule_arguments(rule)), True][-1], missing=lambda: False
        )
        return deleted

    def _ask(self, words: str, request: Callable[[], T], missing: Callable[[], T] | None = None) -> T:
        """Make a request; *missing* gives the answer for "there is no such thing", else that is an error as any other."""
        try:
            return request()
        except self._error as error:
            number: int = getattr(error, "code", 0) or errno.EIO
            if missing is not None and number in _MISSING:
                return missing()
            raise KernelError(words, number, _HINTS.get(number, "")) from None


#: ENOENT: a rule or table that is not there. ESRCH, ENETUNREACH, EHOSTUNREACH: no route. EAFNOSUPPORT, EOPNOTSUPP: no IPv6.
_MISSING = frozenset(
    {
        errno.ENOENT,
        errno.ENODEV,
        errno.ESRCH,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EAFNOSUPPORT,
        errno.EOPNOTSUPP,
    }
)
_HINTS = {
    errno.EPERM: "this needs root, or CAP_NET_ADMIN in the namespace: try `sudo`",
    errno.EACCES: "IPv6 may be off here: see `sysctl net.ipv6.conf.all.disable_ipv6`",
    errno.EEXIST: "something else on this host already has it",
}


def _rule_arguments(rule: Rule) -> dict[str, Any]:
    common = {"family": _FAMILY[rule.version], "priority": rule.priority}
    if rule.kind == "unmarked":
        return {**common, "table": rule.table, "fwmark": rule.mark, "flags": _RULE_INVERT}
    return {**common, "table": MAIN_TABLE, "FRA_SUPPRESS_PREFIXLEN": 0}
