"""Addresses: pools, LANs and what is mapped, fixed addresses, endpoints, and what fits through them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ginnel.config.positions import Path
from ginnel.errors import Mistake
from ginnel.network import gre, mtu
from ginnel.network.addressing import capacity, numbered, usable, within
from ginnel.network.check.context import Context, Rule, packed_address
from ginnel.network.prefix_table import PrefixTable
from ginnel.units import Prefix

_Owned = tuple[Prefix, str, Path]


def _known(context: Context) -> list[_Owned]:
    """Everything that the network knows the place of: pools and LANs, with what to call them."""
    network = context.network
    owned: list[_Owned] = [(pool, f"the pool {pool}", ("network", "pool", index)) for index, pool in enumerate(network.pool)]
    for node in network.nodes:
        owned += [(lan, f"{node.name}'s lan {lan}", ("node", node.name, "lans", i)) for i, lan in enumerate(node.lans)]
    return owned


def _overlaps(context: Context) -> Iterator[Mistake]:
    """Pools and LANs, all against all: sorted by first address, only neighbours can overlap."""
    owned = _known(context)
    # Within one start the shorter prefix (the larger net) comes first; file order breaks the tie.
    owned.sort(key=lambda item: (item[0].version, item[0].packed, item[0].length))
    enclosing: list[_Owned] = []
    for item in owned:
        while enclosing and not within(item[0].packed, enclosing[-1][0]):
            enclosing.pop()
        if enclosing:
            other = enclosing[-1]
            pool = "pool" in (item[2][1], other[2][1])
            yield context.at(
                "G0405" if pool else "G0402",
                item[2],
                f"{item[1]} overlaps {other[1]}: a packet for both has one way to go",
                'give each site its own range, or let the network know both by others: { seen = "10.120.0.0/24", real = "…" }'
                if not pool
                else "give each site its own range",
                also=(other[2],),
            )
        enclosing.append(item)


def _mapped(context: Context) -> Iterator[Mistake]:
    """LANs that are something else on the spot; two sites may be the same there, that is what it is for."""
    known = _known(context)
    for node in context.network.nodes:
        if not node.mapped:
            continue
        index_of = {lan: index for index, lan in enumerate(node.lans)}
        reals: list[tuple[Prefix, Path]] = [
            (lan, ("node", node.name, "lans", index))
            for lan, index in index_of.items()
            if all(lan != item.seen for item in node.mapped)
        ]
        for item in node.mapped:
            where, path = f"node.{node.name}.lans[{index_of[item.seen]}]", ("node", node.name, "lans", index_of[item.seen])
            for other, elsewhere in reals:
                if _overlap(other, item.real):
                    message = f"{where}: {item.real} overlaps another LAN of {node.name}, {other}"
                    yield context.at("G0421", path, message, "one entry for each LAN", also=(elsewhere,))
            reals.append((item.real, path))
            for prefix, whose, elsewhere in known:
                own = elsewhere[:2] == ("node", node.name)
                if not own and _overlap(prefix, item.real):
                    message = f"{where}: {item.real} overlaps {whose}, which its hosts would look for next door"
                    yield context.at("G0422", path, message, "let the network know that one by another prefix", also=(elsewhere,))


def _overlap(left: Prefix, right: Prefix) -> bool:
    wide, narrow = (left, right) if left.length <= right.length else (right, left)
    return within(narrow.packed, wide)


def _pools(context: Context) -> Iterator[Mistake]:
    network = context.network
    paths = context.paths
    nodes = sum(numbered(node, paths) for node in network.nodes)
    links = len(context.point_to_point)
    for index, pool in enumerate(network.pool):
        where, path = f"network.pool[{index}]", ("network", "pool", index)
        if capacity(pool) < nodes:
            message = f"{where}: {pool} has room for {capacity(pool)} nodes, there are {nodes}"
            yield context.at("G0410", path, message, "use a larger pool")
            continue
        if not links:
            continue
        length = gre.subnet_length(pool)
        room = 1 << (length - pool.length) if length is not None else 0
        if room < links:
            each = f"a /{length} each" if length is not None else "two addresses each"
            message = f"{where}: {pool} has room for {room} GRE links ({each}), there are {links}"
            yield context.at("G0410", path, message, "use a larger pool")


def _fixed_addresses(context: Context) -> Iterator[Mistake]:
    network = context.network
    owner: dict[bytes, tuple[str, Path]] = {}
    for node in network.nodes:
        used: dict[Prefix, Path] = {}
        if node.address and not numbered(node, context.paths):
            message = f"node.{node.name}.address: all links of {node.name} are GRE, and each has a subnet of its own"
            hint = 'say it of the link: subnet = ["10.10.10.0/30"]'
            yield context.at("G0413", ("node", node.name, "address"), message, hint)
            continue
        for index, packed in enumerate(node.address):
            where, path = f"node.{node.name}.address[{index}]", ("node", node.name, "address", index)
            text = ipaddress.ip_address(packed)
            pools = [pool for pool in network.pool if usable(packed, pool)]
            if node.lengths:
                pools = []  # these are all it has, and may lie anywhere
            elif not pools:
                hint = f"pools are {', '.join(map(str, network.pool))}"
                yield context.at("G0411", path, f"{where}: {text} is not a host address of a pool", hint)
            elif pools[0] in used:
                message = f"{where}: {node.name} already has an address of {pools[0]}"
                yield context.at("G0412", path, message, also=(used[pools[0]],))
            used.update(dict.fromkeys(pools, path))
            if packed in owner and not (node.lengths and owner[packed][0] == node.name):
                other, elsewhere = owner[packed]
                yield context.at("G0401", path, f"{where}: {text} is already {other}'s", also=(elsewhere,))
            owner.setdefault(packed, (node.name, path))


def _endpoints(context: Context) -> Iterator[Mistake]:
    network = context.network
    owner: dict[tuple[str, int], str] = {}
    inside: PrefixTable[_Owned] = PrefixTable()
    for item in _known(context):
        inside.add(item[0], item)
    for node in network.nodes:
        if node.endpoint is None:
            continue
        where, path = f"node.{node.name}.endpoint", ("node", node.name, "endpoint")
        port = node.endpoint.port or node.listen_port or network.listen_port
        other = owner.setdefault((node.endpoint.host, port), node.name)
        if other != node.name:
            message = f"{where}: {node.endpoint.host} port {port} is already {other}'s"
            hint = f'if one router forwards to both: endpoint = "{node.endpoint.host}:{port + 1 if port < 65535 else 51821}"'
            yield context.at("G0404", path, message, hint, also=(("node", other, "endpoint"),))
        packed = packed_address(node.endpoint.host)
        if packed is None:
            continue
        for _, (_, whose, elsewhere) in inside.covering(packed):
            message = f"{where}: {node.endpoint.host} lies in {whose}, so its packets would be sent into their own tunnel"
            yield context.at("G0204", path, message, also=(elsewhere,))
        if len(packed) == 16 and network.outer == "ipv4":
            message = f"{where}: {node.endpoint.host} is IPv6, but network.outer says only IPv4 is used"
            yield context.at("G0414", path, message, also=(("network", "outer"),))


def _mtus(context: Context) -> Iterator[Mistake]:
    network = context.network
    tunnelled = [node for node in network.nodes if numbered(node, context.paths)]
    if not tunnelled:
        return
    for node in tunnelled:
        if node.mtu is not None and node.mtu > (limit := mtu.wireguard(node.underlay_mtu, network.outer)).inner:
            message = f"node.{node.name}.mtu: {node.mtu} does not fit its way"
            yield context.at("G0501", ("node", node.name, "mtu"), message, f"at most {limit}")
    if network.mtu is not None:
        lowest = min(tunnelled, key=lambda node: node.underlay_mtu)
        limit = mtu.wireguard(lowest.underlay_mtu, network.outer)
        if network.mtu > limit.inner:
            message = f"network.mtu: {network.mtu} does not fit the way to {lowest.name}"
            yield context.at("G0501", ("network", "mtu"), message, f"at most {limit}")
        return
    for node in tunnelled:
        found = mtu.wireguard(node.underlay_mtu, network.outer)
        if found.inner < mtu.MIN_IPV6_MTU and any(pool.version == 6 for pool in network.pool):
            yield context.at(
                "G0502",
                ("node", node.name, "underlay_mtu"),
                f"node.{node.name}.underlay_mtu: {found} is less than the {mtu.MIN_IPV6_MTU} that IPv6 needs",
                "take the IPv6 pool out, or find a better path",
            )


RULES: tuple[Rule, ...] = (_overlaps, _mapped, _pools, _fixed_addresses, _endpoints, _mtus)
