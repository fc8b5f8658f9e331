"""Links that are point to point: GRE and IPsec, whose ends, options, subnets and devices have to go together."""

from __future__ import annotations

from collections.abc import Iterator

from ginnel.config.positions import Path
from ginnel.errors import Mistake
from ginnel.network import gre, mtu
from ginnel.network.addressing import addresses_of, numbered, within
from ginnel.network.check.context import CALLED, Context, Rule
from ginnel.network.model import Link
from ginnel.units import Prefix

#: What hosts that are run by something else can be ends of.
_WIREGUARD = frozenset({"wireguard"})
_PLAIN = _WIREGUARD | {"gre"}
KINDS_OF: dict[str, frozenset[str]] = {
    "wg-quick": _WIREGUARD,
    "networkd": _PLAIN,
    "networkmanager": _PLAIN,
    "netplan": _PLAIN,
    "iproute2": _PLAIN,
    "cisco-ios": frozenset({"gre", "gre+ipsec", "ipsec"}),
    "routeros": _PLAIN | {"gre+ipsec"},
}


def _links(context: Context) -> Iterator[tuple[Link, Path, str]]:
    """Every link that is point to point, the place to show for it, and what to call it."""
    for link in context.point_to_point:
        yield link, *context.named(link)


def _runs(context: Context) -> Iterator[Mistake]:
    """Whoever runs a node knows the kinds of its links."""
    kinds = context.network.kinds
    for node in context.network.nodes:
        known = KINDS_OF.get(node.runs)
        if known is None or kinds <= known:
            continue
        paths = context.paths
        for kind in sorted(paths.kinds_at(node.name) - known):
            link = next(found for other in paths.neighbours(node.name) if (found := paths.link(node.name, other)).kind == kind)
            path, where = context.named(link)
            message = f"{where}: {node.name} runs {node.runs}, which knows no {CALLED.get(kind, kind)}"
            yield context.at("G0330", ("node", node.name, "runs"), message, 'runs = "ginnel"', also=(path,))


def _ends(context: Context) -> Iterator[Mistake]:
    """Both ends can be ends of such a tunnel, and of this one."""
    network, nodes_of = context.network, context.nodes
    ends: dict[bytes, str] = {}
    for link, path, where in _links(context):
        nodes = [nodes_of[name] for name in link.between]
        for node in nodes:
            packed = gre.numeric_endpoint(node)
            if packed is not None and (other := ends.setdefault(packed, node.name)) != node.name:
                assert node.endpoint is not None  # it has a numeric one
                why = "GRE has no ports" if link.kind == "gre" else "IKE has one port for all"
                message = f"node.{node.name}.endpoint: {node.endpoint.host} is already {other}'s, and {why}"
                yield context.at(
                    "G0415",
                    ("node", node.name, "endpoint"),
                    message,
                    "give one of them WireGuard links",
                    also=(("node", other, "endpoint"),),
                )
        hidden = [node for node in nodes if node.behind_nat]
        if len(hidden) == 1 and link.kind == "gre" and not gre.in_udp(network, link):
            message = f"{where}: {hidden[0].name} is behind NAT, and GRE has no ports by which a NAT could tell tunnels apart"
            hint = f'encapsulation = "auto" takes GRE through it in UDP: {hidden[0].name} speaks first, and is answered there'
            yield context.at("G0218", path, message, hint)
        if hidden and link.ipsec is not None and link.ipsec.encapsulation == "raw":
            message = f"{where}: {hidden[0].name} is behind NAT, and raw ESP has no ports by which a NAT could tell tunnels apart"
            hint = 'leave encapsulation = "raw" out of [ipsec]: then ESP goes in UDP where there is a NAT'
            yield context.at("G0219", path, message, hint)
        if len(gre.families(network, link)) > 1:
            found = " and ".join(f"{node.name} has {node.endpoint.host}" for node in nodes if node.endpoint is not None)
            yield context.at("G0332", path, f"{where}: {found}: both ends of a {CALLED[link.kind]} tunnel are of one family")


def _options(context: Context) -> Iterator[Mistake]:
    """What Linux, too, would refuse, and two tunnels that nothing tells apart."""
    network = context.network
    seen: dict[tuple[str, str, int], str] = {}
    for link, path, where in _links(context):
        options = gre.gre_of(link)
        if link.kind == "ipsec":
            continue
        if link.kind == "gre+ipsec" and options.udp:
            message = f"{where}: GRE in UDP under IPsec is two wrappings for one purpose; ESP itself goes in UDP through a NAT"
            yield context.at("G0333", path, message, 'leave encapsulation = "udp" out of [gre]')
        if link.kind == "gre+ipsec" and options.keepalive != "auto" and options.keepalive is not None:
            message = f"{where}: a GRE keepalive comes back outside the protection, so it is not sent under IPsec"
            yield context.at("G0334", path, message, "leave keepalive out: IKE watches the peer (dpd in [ipsec])")
        if options.ttl and not options.pmtudisc:
            message = f"{where}: a fixed ttl sets DF, which pmtudisc = false would take away"
            yield context.at("G0335", path, message, 'ttl = "inherit", or leave pmtudisc out')
        if options.ignore_df and options.pmtudisc:
            message = f"{where}: ignore-df needs pmtudisc = false, which lets packets be fragmented"
            yield context.at("G0336", path, message, "pmtudisc = false as well, or take ignore-df out")
        if gre.family(network, link) == 6 and (options.ignore_df or not options.pmtudisc):
            message = f"{where}: over IPv6 nothing is fragmented on the way, so there is no pmtudisc or ignore-df to choose"
            yield context.at("G0337", path, message, "take them out")
        if options.key is None or link.kind != "gre":
            continue
        for near, far in (link.between, link.between[::-1]):
            # A peer behind NAT may come from any address; what its packets carry is all that names it.
            remote = "any" if context.nodes[far].behind_nat else far
            other = seen.setdefault((near, remote, options.key), far)
            if other != far:
                message = f"{where}: {near} has the tunnels to {other} and {far}, both behind NAT, and key {options.key} for both"
                yield context.at("G0338", path, message, "give each its own key, or none: then one is allocated")


def _mtus(context: Context) -> Iterator[Mistake]:
    network = context.network
    sixth = any(pool.version == 6 for pool in network.pool)
    for link, path, where in _links(context):
        options = gre.gre_of(link)
        keyed = options.key if options.key is not None or not gre.needs_key(network, link) else 0
        found = gre.arithmetic(network, link, keyed)
        said = options.mtu or network.mtu
        if said is not None and said > found.inner and (options.pmtudisc or gre.family(network, link) == 6):
            hint = f"at most {found}; to send fragments instead: pmtudisc = false"
            yield context.at("G0501", path, f"{where}: mtu {said} does not fit its way", hint)
        elif said is None and sixth and found.inner < mtu.MIN_IPV6_MTU:
            message = f"{where}: {found} is less than the {mtu.MIN_IPV6_MTU} that IPv6 needs"
            yield context.at("G0502", path, message, "take the IPv6 pool out, or find a better path")


def _subnets(context: Context) -> Iterator[Mistake]:
    network = context.network
    owner: dict[bytes, tuple[str, Path]] = {
        packed: (node.name, ("node", node.name, "address", index))
        for node in network.nodes
        for index, packed in enumerate(node.address)
    }
    for link in network.links:
        pools: set[Prefix] = set()
        for number, subnet in enumerate(link.subnet):
            where, path = f"link[{link.row}].subnet[{number}]", ("link", link.row, "subnet", number)
            pool = next((one for one in network.pool if one.length <= subnet.length and within(subnet.packed, one)), None)
            if pool is None:
                hint = f"pools are {', '.join(map(str, network.pool))}"
                yield context.at("G0411", path, f"{where}: {subnet} is not in a pool", hint)
                continue
            if len(subnet.packed) * 8 - subnet.length not in (1, 2):
                words = "a /30 or /31" if subnet.version == 4 else "a /126 or /127"
                yield context.at("G0416", path, f"{where}: expected {words}, found {subnet}", "a link has two ends")
                continue
            if pool in pools:
                yield context.at("G0412", path, f"{where}: the link already has a subnet of {pool}")
            pools.add(pool)
            other = next((owner[packed] for packed in addresses_of(subnet) if packed in owner), None)
            if other is not None:
                yield context.at("G0401", path, f"{where}: {subnet} holds an address of {other[0]}", also=(other[1],))
            for packed in addresses_of(subnet):
                owner.setdefault(packed, (f"link[{link.row}]", path))


def _devices(context: Context) -> Iterator[Mistake]:
    """Devices are named after their peers; no two of a node are called alike."""
    network, paths = context.network, context.paths
    for node in network.nodes:
        names: dict[str, Link] = {}
        for link in paths.point_to_point_at(node.name):
            peer = link.other(node.name)
            device = link.end(node.name).device or gre.device_name(peer, link.kind)
            first = names.setdefault(device, link)
            if first is not link:
                path, where = context.named(link)
                message = f"{where}: {node.name} calls the tunnels to {first.other(node.name)} and {peer} {device}"
                hint = f'[link.ends.{node.name}] device = "another"'
                yield context.at("G0417", path, message, hint, also=(context.named(first)[0],))
        interface = node.interface or network.interface
        if interface in names and numbered(node, paths):
            link = names[interface]
            kind = CALLED[link.kind]
            where = "network.interface" if node.interface is None else f"node.{node.name}.interface"
            message = f"{where}: {interface} is what {node.name}'s {kind} tunnel to {link.other(node.name)} is called"
            at: Path = ("network", "interface") if node.interface is None else ("node", node.name, "interface")
            yield context.at("G0417", at, message, "give the interface another name")
        if node.dns and not numbered(node, paths):
            message = f"node.{node.name}.dns: goes with a WireGuard interface, and {node.name} has none"
            yield context.at("G0418", ("node", node.name, "dns"), message, "set it in the host's own resolver")


RULES: tuple[Rule, ...] = (_runs, _ends, _options, _mtus, _subnets, _devices)
