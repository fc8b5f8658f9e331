"""Bands, ribbons and the links that remain are the links that there were."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from ginnel.network.graph.bundles import LINKS_MAX, Bundles, bundle
from ginnel.network.graph.scene import Wire


def mesh(names: list[str], kind: str = "wireguard") -> list[Wire]:
    return [Wire(left, right, kind) for left, right in combinations(names, 2)]


def told(bundles: Bundles) -> dict[frozenset[str], str]:
    """Every link that bands, ribbons and the rest say there is, by what they are said to be."""
    found: dict[frozenset[str], str] = {}

    def say(left: str, right: str, kind: str) -> None:
        assert frozenset((left, right)) not in found
        found[frozenset((left, right))] = kind

    for index, some in bundles.bands:
        for left, right in combinations(bundles.sets[index], 2):
            say(left, right, some[0].kind)
    for one, other, some in bundles.ribbons:
        for left in bundles.sets[one]:
            for right in bundles.sets[other]:
                say(left, right, some[0].kind)
    for wire in bundles.rest:
        say(wire.left, wire.right, wire.kind)
    return found


def test_a_full_mesh_is_one_band() -> None:
    names = [f"n{index}" for index in range(100)]
    bundles = bundle([names], mesh(names))
    assert bundles is not None
    assert bundles.sets == (tuple(names),)
    ((index, some),) = bundles.bands
    assert (index, len(some), bundles.ribbons, bundles.rest) == (0, 4950, (), ())


def test_a_mesh_with_nodes_behind_nat_is_a_band_and_a_ribbon() -> None:
    names = [f"n{index}" for index in range(30)]
    hidden = set(names[::3])
    wires = [wire for wire in mesh(names) if not {wire.left, wire.right} <= hidden]
    bundles = bundle([names], wires)
    assert bundles is not None
    assert [set(members) for members in bundles.sets] == [hidden, set(names) - hidden]
    assert [index for index, _ in bundles.bands] == [1]
    assert [(left, right) for left, right, _ in bundles.ribbons] == [(0, 1)]
    assert bundles.joined == {0, 1}


def test_a_link_of_another_kind_stays_itself() -> None:
    names = [f"n{index}" for index in range(20)]
    wires = [wire if {wire.left, wire.right} != {"n3", "n4"} else Wire("n3", "n4", "gre") for wire in mesh(names)]
    bundles = bundle([names], wires)
    assert bundles is not None
    assert [wire for wire in bundles.rest if wire.kind == "gre"] == [Wire("n3", "n4", "gre")]
    assert told(bundles) == {frozenset((wire.left, wire.right)): wire.kind for wire in wires}


def test_nodes_of_two_regions_are_of_no_common_set() -> None:
    names = [f"n{index}" for index in range(20)]
    bundles = bundle([names[:10], names[10:]], mesh(names))
    assert bundles is not None
    assert bundles.sets == (tuple(names[:10]), tuple(names[10:]))
    assert (len(bundles.bands), len(bundles.ribbons)) == (2, 1)


def test_few_links_are_not_bundled() -> None:
    names = [f"n{index}" for index in range(14)]
    wires = mesh(names)
    assert len(wires) == LINKS_MAX + 1
    assert bundle([names], wires) is not None
    assert bundle([names], wires[1:]) is None


@given(data=st.data(), count=st.integers(14, 30))
def test_whatever_is_bundled_says_the_same(data: st.DataObject, count: int) -> None:
    names = [f"n{index}" for index in range(count)]
    hidden = data.draw(st.sets(st.sampled_from(names), max_size=count // 2))
    odd = data.draw(
        st.dictionaries(st.tuples(st.sampled_from(names), st.sampled_from(names)), st.sampled_from(["gre", ""]), max_size=6)
    )
    wires = []
    for wire in mesh(names):
        kind = odd.get((wire.left, wire.right), wire.kind)
        if kind and not {wire.left, wire.right} <= hidden:
            wires.append(Wire(wire.left, wire.right, kind))
    cut = data.draw(st.integers(0, count))
    parts = [part for part in (names[:cut], names[cut:]) if part]
    bundles = bundle(parts, wires)
    if bundles is None:
        return
    assert told(bundles) == {frozenset((wire.left, wire.right)): wire.kind for wire in wires}
    assert sorted(name for members in bundles.sets for name in members) == sorted(names)
