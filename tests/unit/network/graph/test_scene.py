"""What there is to be seen of a network."""

from __future__ import annotations

from ginnel.network import Compilation, Lock, allocate
from ginnel.network.graph.scene import RELAYED_MAX, Cell, Scene, see
from unit.network.networks import HEAD, parsed


def seen(text: str, *, relayed: bool = False) -> Scene:
    network = parsed(text)
    return see(Compilation(network, allocate(network, Lock())), relayed=relayed)


def node(name: str, *lines: str) -> str:
    return f"\n[node.{name}]\n" + "\n".join(lines) + "\n"


OFFICES = (
    HEAD.replace('name = "acme"', 'name = "acme"\nshape = "hub"\nhub = "paris"')
    + node("paris", 'endpoint = "203.0.113.10"', 'lans = ["10.20.0.0/24"]')
    + node("lyon", 'lans = ["10.30.0.0/24", "10.31.0.0/24"]')
    + node("phone", 'runs = "wg-quick"', 'exit = "paris"')
)


def test_roles_labels_and_what_a_node_runs() -> None:
    scene = seen(OFFICES)
    paris, lyon, phone = scene.actors
    assert (paris.roles, paris.nat, paris.labels) == (("hub", "exit"), False, ("10.20.0.0/24",))
    assert (lyon.roles, lyon.nat, lyon.labels) == ((), True, ("10.30.0.0/24", "10.31.0.0/24"))
    assert (phone.runs, phone.exit, phone.nat) == ("wg-quick", "paris", True)
    assert scene.facts == ("3 nodes", "2 links", "10.10.0.0/24, fd10:10::/64")


def test_links_know_where_all_traffic_leaves() -> None:
    assert {(wire.left, wire.right): wire.exits for wire in seen(OFFICES).wires} == {
        ("paris", "lyon"): "", ("paris", "phone"): "paris"
    }  # fmt: skip


def test_pairs_through_a_relay_are_listed_when_asked_for() -> None:
    assert seen(OFFICES).relayed == ()
    assert seen(OFFICES, relayed=True).relayed == (("lyon", "phone", "paris"),)
    many = HEAD.replace('name = "acme"', 'name = "acme"\nshape = "hub"\nhub = "paris"') + node(
        "paris", 'endpoint = "203.0.113.10"'
    )
    many += "".join(node(f"n{index}") for index in range(60))
    assert len(seen(many, relayed=True).relayed) == RELAYED_MAX


def test_regions_are_cells_and_who_is_in_none_is_in_the_nameless_one() -> None:
    text = HEAD + "[region.north]\n[region.south]\n[region.empty]\n"
    text += (
        node("a", 'region = "south"', 'endpoint = "192.0.2.1"') + node("b", 'region = "north"') + node("c", 'region = "south"')
    )
    text += node("d", 'endpoint = "192.0.2.4"')
    scene = seen(text + node("e", "relay = true", 'endpoint = "192.0.2.5"'))
    assert scene.cells == (
        Cell("north", "region", ("b",)), Cell("south", "region", ("a", "c")), Cell("", "", ("d", "e"))
    )  # fmt: skip
    assert [actor.cell for actor in scene.actors] == [1, 0, 1, 2, 2]


def test_groups_are_cells_where_there_are_no_regions_and_the_first_has_a_node() -> None:
    text = HEAD + '[group.shops]\nnodes = ["b", "c"]\n[group.all]\nnodes = ["a", "b", "c"]\n[group.one]\nnodes = ["d"]\n'
    text += "".join(node(name, f'endpoint = "192.0.2.{index}"') for index, name in enumerate("abcd", 1))
    assert seen(text).cells == (Cell("shops", "group", ("b", "c")), Cell("all", "group", ("a",)), Cell("", "", ("d",)))


def test_a_second_hub_is_held_ready() -> None:
    text = HEAD.replace('name = "acme"', 'name = "acme"\nshape = "hub"\nhub = ["a", "b"]')
    text += node("a", 'endpoint = "192.0.2.1"') + node("b", 'endpoint = "192.0.2.2"') + node("c")
    held = {frozenset((wire.left, wire.right)): wire.held for wire in seen(text).wires}
    assert held == {frozenset("ab"): False, frozenset("ac"): False, frozenset("bc"): True}


def test_an_edge_and_its_origin() -> None:
    text = HEAD + node("front", 'endpoint = "192.0.2.1"') + node("hidden", 'endpoint = "192.0.2.2"')
    text += '\n[[protect]]\nedge = "front"\norigin = "hidden"\naddresses = ["198.51.100.64/28"]\n'
    front, hidden = seen(text).actors
    assert (front.roles, hidden.roles) == (("edge",), ("origin",))
    assert hidden.labels == ("198.51.100.64/28 protected",)
