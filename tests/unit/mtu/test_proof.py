"""The search and the proof, over simulated paths: routers that speak and that do not, narrow ways back, loss."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.mtu.layers import Family
from ginnel.mtu.proof import SMALLEST, WIDTH, Answer, Proof, Prover, sentences
from ginnel.mtu.search import Search

HOST, ROUTER = "203.0.113.9", "198.51.100.1"


@dataclass
class Path:
    """A path there and back; *said* is what the router names (0: it says nothing)."""

    device: int = 1500
    there: int = 1500
    back: int = 1500
    speaks: bool = True
    said: int | None = None
    dead: bool = False
    lost: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def send(self, size: int) -> Answer:
        if size > self.device:
            return Answer(size, "refused", "", self.device)
        if self.dead:
            return Answer(size, "silent")
        if size > self.there:
            named = self.there if self.said is None else self.said
            return Answer(size, "refused", ROUTER, named) if self.speaks else Answer(size, "silent")
        if self.chance.random() < self.lost:
            return Answer(size, "silent")
        # Fragments but the last carry a multiple of 8 bytes behind their headers of 20.
        return Answer(size, "passed", fragment=0 if size <= self.back else (self.back - 20) // 8 * 8 + 20)


def prove(path: Path, expected: int, family: Family = 4, rounds: int = 40) -> tuple[Proof, int]:
    prover = Prover(expected, family)
    for count in range(rounds):
        sizes = prover.sizes()
        if not sizes:
            return prover.proof(), count
        assert len(sizes) <= max(WIDTH, 3)
        assert list(sizes) == sorted(set(sizes))
        prover.took(path.send(size) for size in sizes)
    return prover.proof(), rounds


def test_as_expected_in_one_round() -> None:
    proof, rounds = prove(Path(device=1476, there=1476, back=1476), 1476)
    assert rounds == 1
    assert proof.agrees
    assert sentences(proof, HOST) == (
        "the sum says 1476: 1476 passes both ways, 1477 does not (this host refuses it: its device carries 1476)",
    )


def test_a_router_names_a_smaller_link() -> None:
    proof, rounds = prove(Path(there=1400), 1500)
    assert (proof.found, proof.whole, proof.agrees, proof.black_hole) == (1400, 1400, False, False)
    assert rounds == 2
    assert sentences(proof, HOST, "the link says") == (
        "the link says 1500, but only 1400 passes: 1401 does not (198.51.100.1 refuses it: the next link carries 1400)",
    )


@pytest.mark.parametrize("said", [0, 1300, 1499, 68])
def test_a_router_that_names_nothing_or_a_wrong_size_is_not_believed(said: int) -> None:
    proof, rounds = prove(Path(there=1400, said=said), 1500)
    assert proof.found == 1400
    assert rounds <= 7


def test_a_black_hole_is_found_in_few_rounds_and_called_so() -> None:
    proof, rounds = prove(Path(there=1400, speaks=False), 1500)
    assert (proof.found, proof.black_hole) == (1400, True)
    assert rounds <= 5
    assert sentences(proof, HOST) == (
        "the sum says 1500, but only 1400 passes: 1401 does not (it vanishes, and no ICMP came back: a black hole)",
    )


def test_more_passes_than_was_expected() -> None:
    proof, rounds = prove(Path(device=9000, there=1500), 1400)
    assert proof.found == 1500
    assert rounds <= 4
    assert sentences(proof, HOST)[0].startswith("the sum says 1400, and more passes: 1500 does, 1501 does not (198.51.100.1")


def test_everything_passes() -> None:
    proof, _ = prove(Path(device=65_535, there=65_535, back=65_535), 1400)
    assert proof.found == 65_535
    assert proof.finished
    assert sentences(proof, HOST) == ("the sum says 1400, and more passes: 65535 does, that is the largest there is",)


def test_a_narrow_way_back() -> None:
    proof, _ = prove(Path(device=1476, there=1476, back=1400), 1476)
    assert (proof.found, proof.whole, proof.fragment, proof.agrees) == (1476, 1400, 1396, False)
    assert sentences(proof, HOST) == (
        "the sum says 1476: 1476 passes to 203.0.113.9, 1477 does not (this host refuses it: its device carries 1476)",
        "the way back is narrower: the reply of 1476 came in fragments, the largest of 1396; in one piece it carries 1400",
    )


def test_narrow_both_ways() -> None:
    proof, _ = prove(Path(there=1450, back=1333), 1500)
    assert (proof.found, proof.whole, proof.finished) == (1450, 1333, True)


def test_nobody_answers() -> None:
    proof, rounds = prove(Path(dead=True), 1500)
    assert (proof.reached, proof.found, rounds) == (False, 0, 1)
    assert sentences(proof, HOST) == ("nothing is proven: 203.0.113.9 does not answer echo requests of any size",)


def test_it_goes_nowhere() -> None:
    prover = Prover(1500, 4)
    prover.took(Answer(size, "unreachable", ROUTER, why="host unreachable") for size in prover.sizes())
    assert prover.sizes() == ()
    assert sentences(prover.proof(), HOST) == ("nothing is proven: 198.51.100.1 says of 203.0.113.9: host unreachable",)


def test_out_of_time() -> None:
    proof, _ = prove(Path(there=1400, speaks=False), 1500, rounds=2)
    assert not proof.finished
    assert not proof.agrees
    assert sentences(proof, HOST)[0].startswith("the sum says 1500; not finished in time: ")


def test_before_anything_was_tried() -> None:
    assert not Prover(1500, 4).proof().reached


def test_a_lost_small_probe_does_not_mislead() -> None:
    """The larger one came: so it was loss, and what is beyond is looked for."""
    prover = Prover(1476, 4)
    prover.took([Answer(68, "silent"), Answer(1476, "silent"), Answer(1477, "passed")])
    assert prover.sizes() == (65_535,)
    prover.took([Answer(65_535, "refused", "", 1477)])
    assert prover.sizes() == (1478,)
    prover.took([Answer(1478, "refused", "", 1477)])
    assert prover.sizes() == ()
    assert prover.proof().found == 1477


@given(
    st.integers(1280, 9000),
    st.integers(100, 9000),
    st.integers(100, 9000),
    st.booleans(),
    st.integers(100, 9000),
    st.sampled_from([4, 6]),
)
def test_any_path_is_found_exactly(device: int, there: int, back: int, speaks: bool, expected: int, family: Family) -> None:
    path = Path(device, there, back, speaks)
    proof, rounds = prove(path, expected, family)
    assert proof.finished
    assert proof.found == min(device, there)
    assert proof.whole == min(device, there, back)
    assert rounds <= 20


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 12), st.lists(st.integers(0, 4000), max_size=5))
def test_search_ends_at_the_truth_whatever_is_hinted(low: int, room: int, width: int, hints: list[int]) -> None:
    truth = low + room // 2
    search = Search(low, low + room + 1)
    for step in range(60):
        sizes = search.sizes(width)
        if not sizes:
            break
        assert len(sizes) <= width
        for size in sizes:
            assert search.low < size < search.high
        for size in sizes:
            if size <= truth:
                search.passed(size)
            else:
                search.failed(size, hints[step] if step < len(hints) else 0)
    assert search.over
    assert search.low == truth


def test_smallest_is_what_may_be_sent() -> None:
    assert Prover(50, 4).smallest == 50
    assert Prover(1500, 6).smallest == SMALLEST[6]
