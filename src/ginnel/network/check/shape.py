"""Shape, links and exits: who is linked with whom, and whether somebody carries between the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ginnel.errors import Mistake
from ginnel.network.check.context import CALLED, MAX_MISTAKES_A_RULE, Context, Rule
from ginnel.network.links import State
from ginnel.network.model import POINT_TO_POINT, Node
from ginnel.network.paths import unreachable_pairs

#: Pairs that are looked at: those of 450 nodes of which none reaches another. Of more only some are told, one by one.
_PAIRS = 100_000
#: Names that one mistake lists.
_NAMES = 8


def _shape(context: Context) -> Iterator[Mistake]:
    network = context.network
    if network.shape == "hub" and not network.hubs:
        reachable = next((node.name for node in network.nodes if not node.behind_nat), None)
        hint = f'add hub = "{reachable}"' if reachable else "a hub needs a node with an endpoint"
        yield context.at("G0209", ("network", "shape"), 'network.shape: "hub" needs to know which node it is', hint)
    for hub in network.hubs:
        if network.shape != "hub":
            message = f'network.hub: only shape "hub" has a hub, this one is "{network.shape}"'
            yield context.at("G0210", ("network", "hub"), message, 'shape = "hub"')
        elif context.nodes[hub].behind_nat:
            message = f"network.hub: {hub} has no endpoint, so no spoke can find it"
            yield context.at("G0211", ("network", "hub"), message, also=(("node", hub),))
    for node in network.nodes:
        if node.relay and node.behind_nat:
            yield context.at(
                "G0212",
                ("node", node.name, "relay"),
                f"node.{node.name}.relay: a relay must be reachable from outside",
                f"give {node.name} an endpoint, or another node the relay",
            )


def _groups(context: Context) -> Iterator[Mistake]:
    for group in context.network.groups:
        where = f"group.{group.name}"
        if group.shape == "hub" and not group.hubs:
            reachable = next((name for name in group.nodes if not context.nodes[name].behind_nat), None)
            hint = f'add hub = "{reachable}"' if reachable else "a hub needs a node with an endpoint"
            message = f'{where}.shape: "hub" needs to know which node it is'
            yield context.at("G0209", ("group", group.name, "shape"), message, hint)
        for hub in group.hubs:
            path = ("group", group.name, "hub")
            if group.shape != "hub":
                message = f'{where}.hub: only shape "hub" has a hub, this one is "{group.shape}"'
                yield context.at("G0210", path, message, 'shape = "hub"')
            elif hub not in group.nodes:
                yield context.at("G0222", path, f"{where}.hub: {hub} is not in the group", "add it to its nodes")
            elif context.nodes[hub].behind_nat:
                message = f"{where}.hub: {hub} has no endpoint, so no spoke can find it"
                yield context.at("G0211", path, message, also=(("node", hub),))


def _links(context: Context) -> Iterator[Mistake]:
    nodes = context.nodes
    seen: dict[frozenset[str], int] = {}
    for number, link in enumerate(context.network.links):
        left, right = link.between
        path, where = ("link", link.row, "between"), f"link[{link.row}].between"
        if left == right:
            yield context.at("G0909", path, f"{where}: {left} cannot be linked with itself")
            continue
        first = seen.setdefault(frozenset(link.between), number)
        if first != number:
            row = context.network.links[first].row
            message = f"{where}: {left} and {right} are already linked by link[{row}]"
            yield context.at("G0910", path, message, also=(("link", row, "between"),))
        if (
            nodes[left].behind_nat
            and nodes[right].behind_nat
            and not any(end.endpoint is not None and end.endpoint.host for end in link.ends)
        ):
            yield context.at(
                "G0201",
                path,
                f"{where}: {left} and {right} are both behind NAT, neither can reach the other",
                "give one of them an endpoint, or let a node with one carry between them (relay = true)",
                also=(("node", left), ("node", right)),
            )


def _carried(context: Context) -> Iterator[Mistake]:
    network = context.network
    if network.shape == "none" or (network.shape == "hub" and not network.hubs):
        return
    routed = context.paths.all_links.routed
    if not routed and any(context.paths.around(node.name).unrouted for node in network.nodes):
        return  # what carries there is found out by a routing daemon
    relays = any(node.relay for node in network.nodes) or bool(network.hubs)
    candidates = [node.name for node in network.nodes if not node.behind_nat and not node.relay and node.name not in network.hubs]
    for apart in _apart(unreachable_pairs(network, context.paths, _PAIRS)):
        both = "both" if len(apart) == 2 else "they"
        why = f"{both} are behind NAT" if all(node.behind_nat for node in apart) else "they have no link"
        if relays:
            hint = "link them with one and the same relay: [[link]]"
        elif candidates:
            hint = f"relay = true in [node.{candidates[0]}] lets it carry between them"
        else:
            hint = f"give one of them an endpoint{'' if len(apart) == 2 else ', and relay = true'}"
        yield context.at(
            "G0208",
            ("node", apart[1].name),
            f"nothing carries between {_listed([node.name for node in apart])}: {why} and no node relays"
            f"{' that has a link with each' if relays else ''}",
            hint,
            key=True,
        )


def _apart(pairs: Sequence[tuple[Node, Node]]) -> Iterator[list[Node]]:
    """Nodes of which no two reach each other: what many pairs have in common is told once, not of each pair."""
    if len(pairs) == _PAIRS:
        yield from ([one, other] for one, other in pairs[:MAX_MISTAKES_A_RULE])
        return
    every = {(one.name, other.name) for one, other in pairs}
    told: set[tuple[str, str]] = set()
    others: dict[str, list[Node]] = {}
    for one, other in pairs:
        others.setdefault(one.name, []).append(other)
    for one, other in pairs:
        if (one.name, other.name) in told:
            continue
        together = [one, other]
        for more in others[one.name]:
            if more is not other and all((each.name, more.name) in every for each in together):
                together.append(more)
        told.update((each.name, more.name) for index, each in enumerate(together) for more in together[index + 1 :])
        yield together


def _listed(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= _NAMES else [*names[:_NAMES], f"{len(names) - _NAMES} more"]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _exits(context: Context) -> Iterator[Mistake]:
    for node in context.network.nodes:
        if node.exit is None:
            continue
        paths = context.paths
        where, path = f"node.{node.name}.exit", ("node", node.name, "exit")
        if node.exit == node.name:
            yield context.at("G0213", path, f"{where}: {node.name} cannot leave through itself")
        elif (onward := context.nodes[node.exit].exit) is not None:
            message = f"{where}: {node.exit} itself leaves through {onward}"
            yield context.at("G0214", path, message, f'exit = "{onward}"', also=(("node", node.exit, "exit"),))
        elif not paths.linked(node.name, node.exit):
            hint = f'add [[link]] between = ["{node.name}", "{node.exit}"]'
            yield context.at("G0215", path, f"{where}: {node.name} has no link with {node.exit}", hint)
        elif paths.state(node.name, node.exit) is State.HELD:
            message = f"{where}: the link of {node.name} with {node.exit} is one to a second hub, held ready, and carries nothing"
            yield context.at("G0215", path, message, "make that hub the first one, by `region` or by the order of the hubs")
        elif paths.link(node.name, node.exit).kind == "gre":
            message = (
                f"{where}: the link with {node.exit} is GRE, and what leaves through an exit would be in clear on the way to it"
            )
            yield context.at("G0216", path, message, 'make that link kind = "wireguard"')
        elif kinds := sorted(paths.kinds_at(node.name).intersection(POINT_TO_POINT)):
            message = (
                f"{where}: {node.name} has {CALLED[kinds[0]]} links, and their packets would leave through {node.exit} as well"
            )
            yield context.at("G0217", path, message, f'make all links of {node.name} kind = "wireguard"')


RULES: tuple[Rule, ...] = (_shape, _groups, _links, _carried, _exits)
