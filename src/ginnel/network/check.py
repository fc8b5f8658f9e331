"""
Whether a network makes sense: every mistake that needs more than one value to see.

Each function below is one rule and yields its mistakes with their place in the file. Rules never fix anything; a hint
says what would. The order is that of reading: names first, then addresses, then who can reach whom, then expectations.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ginnel.config.positions import Path, Positions
from ginnel.errors import Mistake
from ginnel.network import gre, mtu
from ginnel.network.addressing import addresses_of, capacity, numbered, usable, within
from ginnel.network.model import POINT_TO_POINT, Expect, Link, Network, Node
from ginnel.network.paths import Paths, unreachable_pairs
from ginnel.units import Prefix

#: What people call them.
_CALLED = {"gre": "GRE", "gre+ipsec": "GRE over IPsec", "ipsec": "IPsec"}
SUPPORTED_KINDS = ("wireguard", *POINT_TO_POINT)
#: More is never read by a person; the rest is counted.
MAX_MISTAKES_A_RULE = 50


@dataclass(frozen=True)
class _Context:
    network: Network
    positions: Positions

    @cached_property
    def paths(self) -> Paths:
        """Found once for all rules; only where every name is that of a node."""
        return Paths(self.network)

    def at(self, path: Path, message: str, hint: str = "", key: bool = False) -> Mistake:
        span = self.positions.key(path) if key else self.positions.value(path)
        return Mistake(message, span, hint, self.positions.line(span))


def check(network: Network, positions: Positions) -> list[Mistake]:
    """
    Find all that is wrong with a network whose form is right.

    Args:
        network: as the file says.
        positions: the places of that file's keys and values.

    Returns:
        the mistakes in reading order; empty when it makes sense.
    """
    context = _Context(network, positions)
    mistakes = _collect(context, _NAMES)
    if mistakes:
        return mistakes  # everything below follows names
    mistakes = _collect(context, _SENSE)
    return mistakes or _collect(context, (_expectations,))


_Rule = Callable[[_Context], Iterable[Mistake]]


def _collect(context: _Context, rules: Iterable[_Rule]) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for rule in rules:
        found = list(rule(context))
        mistakes += found[:MAX_MISTAKES_A_RULE]
        if len(found) > MAX_MISTAKES_A_RULE:
            mistakes.append(Mistake(f"and {len(found) - MAX_MISTAKES_A_RULE} more of the same"))
    return mistakes


# ---------------------------------------------------------------- names


def _kinds(context: _Context) -> Iterator[Mistake]:
    supported = f"supported here: {', '.join(SUPPORTED_KINDS)}"
    if context.network.kind not in SUPPORTED_KINDS:
        yield context.at(("network", "kind"), f"network.kind: no links of kind {context.network.kind!r}", supported)
    for link in context.network.links:
        if link.kind not in SUPPORTED_KINDS and link.kind != context.network.kind:
            where = f"link[{link.row}].kind"
            yield context.at(("link", link.row, "kind"), f"{where}: no links of kind {link.kind!r}", supported)
    for group in context.network.groups:
        if group.kind is not None and group.kind not in SUPPORTED_KINDS:
            where = f"group.{group.name}.kind"
            yield context.at(("group", group.name, "kind"), f"{where}: no links of kind {group.kind!r}", supported)


def _node_names(context: _Context) -> Iterator[Mistake]:
    network = context.network
    names = {node.name: node for node in network.nodes}

    def unknown(path: Path, where: str, name: str) -> Iterator[Mistake]:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"nodes are {', '.join(list(names)[:12])}"
            yield context.at(path, f"{where}: there is no node {name!r}", hint)

    for hub in network.hubs:
        yield from unknown(("network", "hub"), "network.hub", hub)
    for node in network.nodes:
        if node.exit is not None:
            yield from unknown(("node", node.name, "exit"), f"node.{node.name}.exit", node.exit)
    members: set[str] = set()
    for group in network.groups:
        for side, name in enumerate(group.nodes):
            yield from unknown(("group", group.name, "nodes", side), f"group.{group.name}.nodes", name)
        members.update(group.nodes)
    for link in network.links:
        for side, name in enumerate(link.between):
            if name not in members:  # the group itself has said it
                yield from unknown(("link", link.row, "between", side), f"link[{link.row}].between", name)
    for index, protect in enumerate(network.protects):
        for name in protect.edges:
            yield from unknown(("protect", index, "edge"), f"protect[{index}].edge", name)
        yield from unknown(("protect", index, "origin"), f"protect[{index}].origin", protect.origin)
    for expect in network.expects:
        if _address(expect.source) is None and expect.source not in members:
            yield from unknown(("expect", expect.row, "from"), f"expect[{expect.row}].from", expect.source)
        if expect.target.node is not None and expect.target.node not in members:
            yield from unknown(("expect", expect.row, "to"), f"expect[{expect.row}].to", expect.target.node)
    for name in network.lab.of_node:
        yield from unknown(("lab", "node", name), "lab.node", name)


def _region_names(context: _Context) -> Iterator[Mistake]:
    """A region is a table of its own, even an empty one: else a slip of the pen would be a region without a relay."""
    network = context.network
    names = [region.name for region in network.regions]

    def unknown(path: Path, where: str, name: str) -> Iterator[Mistake]:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"add the table [region.{name}]"
            yield context.at(path, f"{where}: there is no region {name!r}", hint)

    for node in network.nodes:
        if node.region is not None:
            yield from unknown(("node", node.name, "region"), f"node.{node.name}.region", node.region)
    for region in network.regions:
        for side, name in enumerate(region.near):
            where, path = f"region.{region.name}.near", ("region", region.name, "near", side)
            yield from unknown(path, where, name)
            if name == region.name:
                yield context.at(path, f"{where}: {name} is near to itself as it is", "take it out")


def _group_hubs(context: _Context) -> Iterator[Mistake]:
    for group in context.network.groups:
        where, path = f"group.{group.name}", ("group", group.name)
        for hub in group.hubs:
            if hub not in group.nodes:
                yield context.at((*path, "hub"), f"{where}.hub: {hub} is not in the group", "add it to its nodes")
        if group.hubs and group.shape != "hub":
            yield context.at((*path, "hub"), f'{where}.hub: only shape "hub" has a hub, this one is "{group.shape}"')
        if group.shape == "hub" and not group.hubs:
            yield context.at(
                (*path, "shape"), f'{where}.shape: "hub" needs to know which node it is', f'add hub = "{group.nodes[0]}"'
            )


_NAMES: tuple[_Rule, ...] = (_kinds, _node_names, _region_names, _group_hubs)


# ---------------------------------------------------------------- shape and links


def _shape(context: _Context) -> Iterator[Mistake]:
    network = context.network
    if network.shape == "hub" and not network.hubs:
        reachable = [node.name for node in network.nodes if not node.behind_nat]
        hint = f'add hub = "{reachable[0]}"' if reachable else "a hub needs a node with an endpoint"
        yield context.at(("network", "shape"), 'network.shape: "hub" needs to know which node it is', hint)
    for hub in network.hubs:
        if network.shape != "hub":
            yield context.at(("network", "hub"), f'network.hub: only shape "hub" has a hub, this one is "{network.shape}"')
        elif network.node(hub).behind_nat:
            yield context.at(("network", "hub"), f"network.hub: {hub} has no endpoint, so no spoke can find it")
    for group in network.groups:
        for hub in group.hubs:
            if network.node(hub).behind_nat:
                message = f"group.{group.name}.hub: {hub} has no endpoint, so no spoke can find it"
                yield context.at(("group", group.name, "hub"), message)
    for node in network.nodes:
        if node.relay and node.behind_nat:
            yield context.at(
                ("node", node.name, "relay"),
                f"node.{node.name}.relay: a relay must be reachable from outside",
                f"give {node.name} an endpoint, or another node the relay",
            )


def _links(context: _Context) -> Iterator[Mistake]:
    network = context.network
    seen: dict[frozenset[str], int] = {}
    for link in network.links:
        left, right = link.between
        index = link.row
        path: Path = ("link", index, "between")
        if left == right:
            yield context.at(path, f"link[{index}].between: {left} cannot be linked with itself")
            continue
        first = seen.setdefault(frozenset(link.between), index)
        if first != index:
            yield context.at(path, f"link[{index}].between: {left} and {right} are already linked by link[{first}]")
        if network.node(left).behind_nat and network.node(right).behind_nat:
            yield context.at(
                path,
                f"link[{index}].between: {left} and {right} are both behind NAT, neither can reach the other",
                "give one of them an endpoint, or let a node with one carry between them (relay = true)",
            )


def _carried(context: _Context) -> Iterator[Mistake]:
    network = context.network
    if network.shape == "none" or (network.shape == "hub" and not network.hubs):
        return
    if not all(link.routed for link in context.paths.links):
        return  # what carries there is found out by a routing daemon
    candidates = [node.name for node in network.nodes if not node.behind_nat]
    for left, right in unreachable_pairs(network, context.paths):
        hint = (
            f"relay = true in [node.{candidates[0]}] lets it carry between them" if candidates else "give one of them an endpoint"
        )
        yield context.at(
            ("node", right.name),
            f"nothing carries between {left.name} and {right.name}: both are behind NAT and no node relays",
            hint,
            key=True,
        )


def _exits(context: _Context) -> Iterator[Mistake]:
    network = context.network
    paths = context.paths
    for node in network.nodes:
        if node.exit is None:
            continue
        where, path = f"node.{node.name}.exit", ("node", node.name, "exit")
        if node.exit == node.name:
            yield context.at(path, f"{where}: {node.name} cannot leave through itself")
        elif network.node(node.exit).exit is not None:
            yield context.at(path, f"{where}: {node.exit} itself leaves through {network.node(node.exit).exit}")
        elif node.exit not in paths.neighbours(node.name):
            hint = f'add [[link]] between = ["{node.name}", "{node.exit}"]'
            yield context.at(path, f"{where}: {node.name} has no link with {node.exit}", hint)
        elif paths.link(node.name, node.exit).kind == "gre":
            message = (
                f"{where}: the link with {node.exit} is GRE, and what leaves through an exit would be in clear on the way to it"
            )
            yield context.at(path, message, 'make that link kind = "wireguard"')
        elif kinds := sorted(paths.kinds_at(node.name).intersection(POINT_TO_POINT)):
            message = (
                f"{where}: {node.name} has {_CALLED[kinds[0]]} links, and their packets would leave through {node.exit} as well"
            )
            yield context.at(path, message, f'make all links of {node.name} kind = "wireguard"')


# ---------------------------------------------------------------- addresses


def _overlaps(context: _Context) -> Iterator[Mistake]:
    """Pools and LANs, all against all: sorted by first address, only neighbours can overlap."""
    network = context.network
    owned: list[tuple[Prefix, str, Path]] = [
        (pool, f"the pool {pool}", ("network", "pool", index)) for index, pool in enumerate(network.pool)
    ]
    for node in network.nodes:
        owned += [(lan, f"{node.name}'s lan {lan}", ("node", node.name, "lans", i)) for i, lan in enumerate(node.lans)]
    # Within one start the shorter prefix (the larger net) comes first; file order breaks the tie.
    owned.sort(key=lambda item: (item[0].version, item[0].packed, item[0].length))
    enclosing: list[tuple[Prefix, str, Path]] = []
    for item in owned:
        while enclosing and not within(item[0].packed, enclosing[-1][0]):
            enclosing.pop()
        if enclosing:
            other = enclosing[-1]
            yield context.at(
                item[2],
                f"{item[1]} overlaps {other[1]}: a packet for both has one way to go",
                "give each site its own range",
            )
        enclosing.append(item)


def _pools(context: _Context) -> Iterator[Mistake]:
    network = context.network
    paths = context.paths
    nodes = sum(numbered(node, paths) for node in network.nodes)
    links = sum(link.point_to_point for link in paths.links)
    for index, pool in enumerate(network.pool):
        where, path = f"network.pool[{index}]", ("network", "pool", index)
        if capacity(pool) < nodes:
            message = f"{where}: {pool} has room for {capacity(pool)} nodes, there are {nodes}"
            yield context.at(path, message, "use a larger pool")
            continue
        if not links:
            continue
        length = gre.subnet_length(pool)
        room = 1 << (length - pool.length) if length is not None else 0
        if room < links:
            each = f"a /{length} each" if length is not None else "two addresses each"
            message = f"{where}: {pool} has room for {room} GRE links ({each}), there are {links}"
            yield context.at(path, message, "use a larger pool")


def _fixed_addresses(context: _Context) -> Iterator[Mistake]:
    network = context.network
    paths = context.paths
    owner: dict[bytes, str] = {}
    for node in network.nodes:
        used: set[Prefix] = set()
        if node.address and not numbered(node, paths):
            message = f"node.{node.name}.address: all links of {node.name} are GRE, and each has a subnet of its own"
            yield context.at(("node", node.name, "address"), message, 'say it of the link: subnet = ["10.10.10.0/30"]')
            continue
        for index, packed in enumerate(node.address):
            where, path = f"node.{node.name}.address[{index}]", ("node", node.name, "address", index)
            text = ipaddress.ip_address(packed)
            pools = [pool for pool in network.pool if usable(packed, pool)]
            if not pools:
                yield context.at(path, f"{where}: {text} is not a host address of a pool", "pools are network.pool")
            elif pools[0] in used:
                yield context.at(path, f"{where}: {node.name} already has an address of {pools[0]}")
            used.update(pools)
            if packed in owner:
                yield context.at(path, f"{where}: {text} is already {owner[packed]}'s")
            owner.setdefault(packed, node.name)


def _endpoints(context: _Context) -> Iterator[Mistake]:
    network = context.network
    owner: dict[tuple[str, int], str] = {}
    inside = [(pool, f"the pool {pool}") for pool in network.pool]
    inside += [(lan, f"{node.name}'s lan {lan}") for node in network.nodes for lan in node.lans]
    for node in network.nodes:
        if node.endpoint is None:
            continue
        where, path = f"node.{node.name}.endpoint", ("node", node.name, "endpoint")
        port = node.endpoint.port or node.listen_port or network.listen_port
        other = owner.setdefault((node.endpoint.host, port), node.name)
        if other != node.name:
            yield context.at(path, f"{where}: {node.endpoint.host} port {port} is already {other}'s")
        packed = _address(node.endpoint.host)
        if packed is None:
            continue
        for prefix, whose in inside:
            if within(packed, prefix):
                yield context.at(
                    path, f"{where}: {node.endpoint.host} lies in {whose}, so its packets would be sent into their own tunnel"
                )
        if len(packed) == 16 and network.outer == "ipv4":
            yield context.at(path, f"{where}: {node.endpoint.host} is IPv6, but network.outer says only IPv4 is used")


def _mtus(context: _Context) -> Iterator[Mistake]:
    network = context.network
    paths = context.paths
    tunnelled = [node for node in network.nodes if numbered(node, paths)]
    if not tunnelled:
        return
    if network.mtu is not None:
        lowest = min(tunnelled, key=lambda node: node.underlay_mtu)
        limit = mtu.wireguard(lowest.underlay_mtu, network.outer)
        if network.mtu > limit.inner:
            yield context.at(
                ("network", "mtu"), f"network.mtu: {network.mtu} does not fit the way to {lowest.name}", f"at most {limit}"
            )
        return
    for node in tunnelled:
        found = mtu.wireguard(node.underlay_mtu, network.outer)
        if found.inner < mtu.MIN_IPV6_MTU and any(pool.version == 6 for pool in network.pool):
            yield context.at(
                ("node", node.name, "underlay_mtu"),
                f"node.{node.name}.underlay_mtu: {found} is less than the {mtu.MIN_IPV6_MTU} that IPv6 needs",
                "take the IPv6 pool out, or find a better path",
            )


# ---------------------------------------------------------------- GRE


def _gre_links(context: _Context) -> Iterator[tuple[Link, Path, str]]:
    """Every link that is point to point, the place to show for it, and what to call it."""
    network = context.network
    named = {frozenset(link.between): link.row for link in network.links}
    for link in context.paths.links:
        if not link.point_to_point:
            continue
        index = named.get(frozenset(link.between))
        if index is not None:
            yield link, ("link", index, "between"), f"link[{index}]"
        else:
            yield link, ("network", "kind"), f"the link {' — '.join(link.between)}"


def _gre_ends(context: _Context) -> Iterator[Mistake]:
    """Both ends can be ends of such a tunnel, and of this one."""
    network = context.network
    ends: dict[bytes, str] = {}
    for link, path, where in _gre_links(context):
        nodes = [network.node(name) for name in link.between]
        for node in nodes:
            if node.runs == "wg-quick":
                message = f"{where}: {node.name} runs wg-quick, which knows no {_CALLED[link.kind]}"
                yield context.at(("node", node.name, "runs"), message, 'runs = "ginnel"')
            packed = gre.numeric_endpoint(node)
            if packed is not None and (other := ends.setdefault(packed, node.name)) != node.name:
                assert node.endpoint is not None  # it has a numeric one
                why = "GRE has no ports" if link.kind == "gre" else "IKE has one port for all"
                message = f"node.{node.name}.endpoint: {node.endpoint.host} is already {other}'s, and {why}"
                yield context.at(("node", node.name, "endpoint"), message, "give one of them WireGuard links")
        hidden = [node for node in nodes if node.behind_nat]
        if len(hidden) == 1 and link.kind == "gre" and not gre.in_udp(network, link):
            message = f"{where}: {hidden[0].name} is behind NAT, and GRE has no ports by which a NAT could tell tunnels apart"
            hint = f'encapsulation = "auto" takes GRE through it in UDP: {hidden[0].name} speaks first, and is answered there'
            yield context.at(path, message, hint)
        if hidden and link.ipsec is not None and link.ipsec.encapsulation == "raw":
            message = f"{where}: {hidden[0].name} is behind NAT, and raw ESP has no ports by which a NAT could tell tunnels apart"
            yield context.at(
                path, message, 'leave encapsulation = "raw" out of [ipsec]: then ESP goes in UDP where there is a NAT'
            )
        if len(gre.families(network, link)) > 1:
            found = " and ".join(f"{node.name} has {node.endpoint.host}" for node in nodes if node.endpoint is not None)
            yield context.at(path, f"{where}: {found}: both ends of a {_CALLED[link.kind]} tunnel are of one family")


def _gre_options(context: _Context) -> Iterator[Mistake]:
    """What Linux, too, would refuse, and two tunnels that nothing tells apart."""
    network = context.network
    seen: dict[tuple[str, str, int], str] = {}
    for link, path, where in _gre_links(context):
        options = gre.gre_of(link)
        if link.kind == "ipsec":
            continue
        if link.kind == "gre+ipsec" and options.udp:
            message = f"{where}: GRE in UDP under IPsec is two wrappings for one purpose; ESP itself goes in UDP through a NAT"
            yield context.at(path, message, 'leave encapsulation = "udp" out of [gre]')
        if link.kind == "gre+ipsec" and options.keepalive != "auto" and options.keepalive is not None:
            message = f"{where}: a GRE keepalive comes back outside the protection, so it is not sent under IPsec"
            yield context.at(path, message, "leave keepalive out: IKE watches the peer (dpd in [ipsec])")
        if options.ttl and not options.pmtudisc:
            message = f"{where}: a fixed ttl sets DF, which pmtudisc = false would take away"
            yield context.at(path, message, 'ttl = "inherit", or leave pmtudisc out')
        if options.ignore_df and options.pmtudisc:
            yield context.at(path, f"{where}: ignore-df needs pmtudisc = false, which lets packets be fragmented")
        if gre.family(network, link) == 6 and (options.ignore_df or not options.pmtudisc):
            message = f"{where}: over IPv6 nothing is fragmented on the way, so there is no pmtudisc or ignore-df to choose"
            yield context.at(path, message)
        if options.key is None or link.kind != "gre":
            continue
        for near, far in (link.between, link.between[::-1]):
            # A peer behind NAT may come from any address; what its packets carry is all that names it.
            remote = "any" if network.node(far).behind_nat else far
            other = seen.setdefault((near, remote, options.key), far)
            if other != far:
                message = f"{where}: {near} has the tunnels to {other} and {far}, both behind NAT, and key {options.key} for both"
                yield context.at(path, message, "give each its own key, or none: then one is allocated")


def _gre_mtus(context: _Context) -> Iterator[Mistake]:
    network = context.network
    sixth = any(pool.version == 6 for pool in network.pool)
    for link, path, where in _gre_links(context):
        options = gre.gre_of(link)
        keyed = options.key if options.key is not None or not gre.needs_key(network, link) else 0
        found = gre.arithmetic(network, link, keyed)
        said = options.mtu or network.mtu
        if said is not None and said > found.inner and (options.pmtudisc or gre.family(network, link) == 6):
            hint = f"at most {found}; to send fragments instead: pmtudisc = false"
            yield context.at(path, f"{where}: mtu {said} does not fit its way", hint)
        elif said is None and sixth and found.inner < mtu.MIN_IPV6_MTU:
            message = f"{where}: {found} is less than the {mtu.MIN_IPV6_MTU} that IPv6 needs"
            yield context.at(path, message, "take the IPv6 pool out, or find a better path")


def _gre_subnets(context: _Context) -> Iterator[Mistake]:
    network = context.network
    owner: dict[bytes, str] = {packed: node.name for node in network.nodes for packed in node.address}
    for link in network.links:
        index = link.row
        pools: set[Prefix] = set()
        for number, subnet in enumerate(link.subnet):
            where, path = f"link[{index}].subnet[{number}]", ("link", index, "subnet", number)
            pool = next((one for one in network.pool if one.length <= subnet.length and within(subnet.packed, one)), None)
            if pool is None:
                yield context.at(path, f"{where}: {subnet} is not in a pool", "pools are network.pool")
                continue
            if len(subnet.packed) * 8 - subnet.length not in (1, 2):
                words = "a /30 or /31" if subnet.version == 4 else "a /126 or /127"
                yield context.at(path, f"{where}: expected {words}, found {subnet}", "a link has two ends")
                continue
            if pool in pools:
                yield context.at(path, f"{where}: the link already has a subnet of {pool}")
            pools.add(pool)
            other = next((owner[packed] for packed in addresses_of(subnet) if packed in owner), None)
            if other is not None:
                yield context.at(path, f"{where}: {subnet} holds an address of {other}")
            for packed in addresses_of(subnet):
                owner.setdefault(packed, f"link[{index}]")


def _gre_names(context: _Context) -> Iterator[Mistake]:
    """Devices are named after their peers; the WireGuard interface must not be called like one."""
    network = context.network
    paths = context.paths
    for node in network.nodes:
        names = {
            gre.device_name(link.other(node.name), link.kind): link.other(node.name)
            for link in paths.point_to_point_at(node.name)
        }
        if network.interface in names and numbered(node, paths):
            peer = names[network.interface]
            kind = _CALLED[paths.link(node.name, peer).kind]
            message = f"network.interface: {network.interface} is what {node.name}'s {kind} tunnel to {peer} is called"
            yield context.at(("network", "interface"), message)
        if node.dns and not numbered(node, paths):
            message = f"node.{node.name}.dns: goes with a WireGuard interface, and {node.name} has none"
            yield context.at(("node", node.name, "dns"), message, "set it in the host's own resolver")


_SENSE: tuple[_Rule, ...] = (
    _shape,
    _links,
    _carried,
    _exits,
    _overlaps,
    _pools,
    _fixed_addresses,
    _endpoints,
    _mtus,
    _gre_ends,
    _gre_options,
    _gre_mtus,
    _gre_subnets,
    _gre_names,
)


# ---------------------------------------------------------------- expectations


def _expectations(context: _Context) -> Iterator[Mistake]:
    network = context.network
    paths = context.paths
    for expect in network.expects:
        index = expect.row
        where = f"expect[{index}]"
        source = source_node(network, expect)
        if source is None:
            yield context.at(("expect", index, "from"), f"{where}.from: {expect.source} lies in no node's lan")
            continue
        found, why = predict(network, paths, source, expect)
        if found is None:
            pooled = any(within(expect.target.packed, pool) for pool in network.pool)
            hint = "tunnel addresses are allocated: say the node's name, or fix its address" if pooled else ""
            yield context.at(("expect", index, "to"), f"{where}.to: {why}", hint)
        elif found != expect.reaches:
            verb = "reaches" if found else "does not reach"
            said = str(expect.reaches).lower()
            yield context.at(
                ("expect", index, "to" if expect.reaches else "reaches"),
                f"{where}: by this file {expect.source} {verb} {expect.target.text} ({why}), but reaches = {said}",
            )


def source_node(network: Network, expect: Expect) -> Node | None:
    """The node an expectation starts at or behind; None when its address lies in no LAN."""
    packed = _address(expect.source)
    if packed is None:
        return network.node(expect.source)
    return owner_of(network, packed)


def owner_of(network: Network, packed: bytes) -> Node | None:
    """The node whose LAN, or fixed address, *packed* lies in."""
    for node in network.nodes:
        if packed in node.address or any(within(packed, lan) for lan in node.lans):
            return node
    return None


def predict(network: Network, paths: Paths, source: Node, expect: Expect) -> tuple[bool | None, str]:
    """
    What the file alone says about an expectation.

    Returns:
        (reaches, why); reaches is None when the target is nothing that this network knows.
    """
    target = network.node(expect.target.node) if expect.target.node else owner_of(network, expect.target.packed)
    if target is None:
        if source.exit is not None:
            return True, f"everything leaves through {source.exit}"
        return None, f"{expect.target.text} lies in no node's lan, and {source.name} has no exit"
    if target is source:
        return True, "the same site"
    path = paths.path(source.name, target.name)
    if path is None and not all(link.routed for link in paths.links):
        return None, f"nothing is routed between {source.name} and {target.name} (routes = false): a routing daemon decides"
    if path is None:
        return False, f"nothing carries between {source.name} and {target.name}"
    return True, " → ".join(path)


def _address(text: str) -> bytes | None:
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None
