"""
Both ends of an IKE SA act at once: every collision of RFC 7296 2.8.1, 2.8.2 and 2.25, as schedules of messages.

`SCHEDULES` states the cases that strongSwan's own tests name, each in both roles and for each order of the nonces;
`test_every_order` walks all orders of delivery (also with one message lost, one overtaken) for every pair of things that the
ends may do; and a thousand rekeyings at random under loss end the file. After each step of each of them nothing that is sent
may be lost, and at the end there is one IKE SA and one child, the same at both ends (tests/ike_pair.py).

A schedule is written as it happens: "a" and "b" deliver the oldest message under way to that end, "a1" the one behind it, "-a"
loses it, "a:rekey_child" is a command.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from ginnel.ikev2.effects import ChildUp
from ginnel.wire.ikev2 import parse_header
from ike_pair import Datagram, Host, IkePair

LOW, HIGH = 0x00, 0xFF

#: Whose nonce is the lowest of four: those of a's exchange (a's, b's answer), those of b's exchange (b's, a's answer).
LOWEST = ("a_asks", "b_answers", "b_asks", "a_answers")


def set_nonces(pair: IkePair, lowest: str) -> None:
    pair.a.entropy.nonces[:] = [LOW if lowest == "a_asks" else HIGH, LOW if lowest == "a_answers" else HIGH]
    pair.b.entropy.nonces[:] = [LOW if lowest == "b_asks" else HIGH, LOW if lowest == "b_answers" else HIGH]


def act(pair: IkePair, word: str) -> None:
    """One word of a schedule."""
    letter, _, command = word.partition(":")
    lost = letter.startswith("-")
    host = pair.a if letter.removeprefix("-").startswith("a") else pair.b
    if command == "expire_hard":
        host.expire(hard=True)
    elif command == "expire_soft":
        host.expire(hard=False)
    elif command:
        getattr(host, command)()
    elif lost:
        pair.drop(host)
        return
    else:
        pair.deliver(host, int(letter[1:] or "0"))
    pair.step()


class Case(NamedTuple):
    """name: of the case; end: "one" SA of each kind is left, or all is "gone"; child, ike: which SAs are new at the end."""

    name: str
    schedule: str
    end: str = "one"
    child: bool = True
    ike: bool = False


# fmt: off
SCHEDULES = (
    # -------- the child, by one end
    Case("regular", "a:rekey_child b a b a"),
    Case("regular, by the other", "b:rekey_child a b a b"),
    Case("request lost", "a:rekey_child -b"),
    Case("response lost", "a:rekey_child b -a"),
    Case("delete lost", "a:rekey_child b a -b"),
    Case("answer to the delete lost", "a:rekey_child b a b -a"),
    Case("soft limit of the old SA met by the responder", "a:rekey_child b b:expire_soft a b a"),
    Case("soft limit of the old SA met by the initiator", "a:rekey_child a:expire_soft b a b a"),
    Case("hard limit of the old SA met by the responder", "a:rekey_child b a b:expire_hard -b"),
    Case("hard limit of the old SA met by the initiator", "a:rekey_child a:expire_hard b a b a"),
    # -------- the child, by both
    Case("collision", "a:rekey_child b:rekey_child b a a b b a a b"),
    Case("collision, delayed response", "a:rekey_child b:rekey_child b a b a1"),
    Case("collision, delayed response, deletes first", "a:rekey_child b:rekey_child b a b a1 b a1"),
    Case("collision, delayed request", "a:rekey_child b:rekey_child a b1 a"),
    Case("collision, delayed request, after the delete", "a:rekey_child b:rekey_child a b1 a b1 b"),
    Case("collision, request lost", "a:rekey_child b:rekey_child -b a b a"),
    Case("collision, both requests lost", "a:rekey_child b:rekey_child -b -a"),
    Case("collision, both responses lost", "a:rekey_child b:rekey_child b a -a -b"),
    Case("collision, one unaware", "a:rekey_child b b:rekey_child a a b b a"),
    Case("rekeyed twice by the same end", "a:rekey_child a:rekey_child b a b a"),
    Case("rekeyed again before the delete", "a:rekey_child b a b:rekey_child b a a b"),
    # -------- the child: rekey and delete
    Case("rekey and delete", "a:rekey_child b:expire_hard b a a b"),
    Case("rekey and delete, delete first", "a:rekey_child b:expire_hard a b b a"),
    Case("rekey and delete, delete lost", "a:rekey_child b:expire_hard b -a a"),
    Case("rekey and delete, rekey lost", "a:rekey_child b:expire_hard -b a b"),
    Case("delete and delete", "a:expire_hard b:expire_hard b a a b"),
    Case("delete and delete, one lost", "a:expire_hard b:expire_hard -b a b"),
    # -------- the IKE SA, by one end
    Case("ike regular", "a:rekey_ike b a b a", child=False, ike=True),
    Case("ike regular, by the other", "b:rekey_ike a b a b", child=False, ike=True),
    Case("ike request lost", "a:rekey_ike -b", child=False, ike=True),
    Case("ike response lost", "a:rekey_ike b -a", child=False, ike=True),
    Case("ike delete lost", "a:rekey_ike b a -b", child=False, ike=True),
    Case("ike answer to the delete lost", "a:rekey_ike b a b -a", child=False, ike=True),
    # -------- the IKE SA, by both
    Case("ike collision", "a:rekey_ike b:rekey_ike b a a b b a a b", child=False, ike=True),
    Case("ike collision, delayed response", "a:rekey_ike b:rekey_ike b a b a1", child=False, ike=True),
    Case("ike collision, delayed response, deletes first", "a:rekey_ike b:rekey_ike b a b a1 b a1", child=False, ike=True),
    Case("ike collision, request lost", "a:rekey_ike b:rekey_ike -b a b a", child=False, ike=True),
    Case("ike collision, delayed request", "a:rekey_ike b:rekey_ike a b1 a", child=False, ike=True),
    Case("ike collision, delayed request and delete", "a:rekey_ike b:rekey_ike a b1 a b1 b", child=False, ike=True),
    Case("ike collision, both responses lost", "a:rekey_ike b:rekey_ike b a -a -b", child=False, ike=True),
    # -------- the IKE SA: rekey and delete
    Case("ike rekey and delete", "a:rekey_ike b:terminate b a a b", end="gone"),
    Case("ike rekey and delete, delete first", "a:rekey_ike b:terminate a b", end="gone"),
    Case("ike rekey and delete, delete delayed", "a:rekey_ike b:terminate b a1 a", end="gone"),
    Case("ike rekey and delete, delete lost", "a:rekey_ike b:terminate b -a", end="gone"),
    Case("ike delete and delete", "a:terminate b:terminate b a a b", end="gone"),
    Case("ike delete and delete, one lost", "a:terminate b:terminate -b a b", end="gone"),
    Case("ike delete after the answer to a rekey", "a:rekey_ike b b:terminate a a b b", end="gone"),
    # -------- child and IKE SA
    Case("child rekey and ike rekey", "a:rekey_child b:rekey_ike b a a b", ike=True),
    Case("child rekey and ike rekey, ike first", "a:rekey_child b:rekey_ike a b b a", ike=True),
    Case("child rekey and ike rekey, response lost", "a:rekey_child b:rekey_ike b a -a -b", ike=True),
    Case("child rekey, then ike rekey by the same end", "a:rekey_child a:rekey_ike b a b a", ike=True),
    Case("child rekey and ike delete", "a:rekey_child b:terminate b a a b", end="gone"),
    Case("child rekey and ike delete, delete first", "a:rekey_child b:terminate a b", end="gone"),
    Case("child delete and ike delete", "a:expire_hard b:terminate b a a b", end="gone"),
)
# fmt: on


def swapped(schedule: str) -> str:
    """The same with the ends exchanged."""
    return " ".join(map(_swapped, schedule.split()))


def _swapped(word: str) -> str:
    letter, colon, command = word.partition(":")
    return letter.translate(str.maketrans("ab", "ba")) + colon + command


def play(case: Case, *, swap: bool, lowest: str, traffic: bool) -> None:
    pair = IkePair(traffic=traffic)
    before = pair.establish()
    children = {host.letter: set(host.engine.inbound) for host in pair.hosts}
    set_nonces(pair, lowest)
    for word in (swapped(case.schedule) if swap else case.schedule).split():
        letter = word.removeprefix("-")[0]
        if ":" not in word and len(pair.flight[letter]) <= int(word.removeprefix("-")[1:] or "0"):
            continue  # this order of nonces (or this role) needs fewer messages
        act(pair, word)
    if case.end == "gone":
        pair.check_gone()
        return
    after = pair.check_settled()
    assert (before != after) is case.ike, f"the IKE SA was {'not' if case.ike else ''} rekeyed\n{pair.story()}"
    for host in pair.hosts:
        assert (set(host.engine.inbound) != children[host.letter]) is case.child, f"of the child likewise\n{pair.story()}"


RUNS = [
    pytest.param(case, swap, lowest, traffic, id=f"{case.name}{', swapped' * swap}, {lowest}{', traffic' * traffic}")
    for case in SCHEDULES
    for swap in (False, True)
    for lowest in (LOWEST if "collision" in case.name else LOWEST[:1])
    for traffic in (False, True)
]


@pytest.mark.parametrize(("case", "swap", "lowest", "traffic"), RUNS)
def test_schedule(case: Case, swap: bool, lowest: str, traffic: bool) -> None:
    play(case, swap=swap, lowest=lowest, traffic=traffic)


# ---------------------------------------------------------------- who closes which


@pytest.mark.parametrize("lowest", LOWEST)
def test_the_child_with_the_lowest_nonce_is_closed_by_its_maker(lowest: str) -> None:
    """RFC 7296 2.8.1."""
    pair = IkePair()
    pair.establish()
    set_nonces(pair, lowest)
    first = pair.a.engine.next_spi + 1
    for word in ["a:rekey_child", "b:rekey_child", "b", "a"]:
        act(pair, word)
    assert max(pair.a.engine.inbound) >= first
    pair.check_settled()
    of_a = lowest in {"a_asks", "b_answers"}  # a's exchange has the lowest nonce: b's SA stays
    (kept,) = pair.a.engine.inbound
    assert kept == first + of_a, pair.story()


@pytest.mark.parametrize("lowest", LOWEST)
def test_the_ike_sa_with_the_lowest_nonce_is_closed(lowest: str) -> None:
    """RFC 7296 2.8.2: of two new IKE SAs the one with the lowest nonce goes; who made the other is its initiator."""
    pair = IkePair()
    pair.establish()
    set_nonces(pair, lowest)
    for word in ["a:rekey_ike", "b:rekey_ike", "b", "a", "a", "b"]:
        act(pair, word)
    of_a = lowest in {"a_asks", "b_answers"}
    pair.check_settled()
    speaker = next(host for host in pair.hosts if parse_header(host.sent[-1].message).initiator)  # who made the SA
    assert (speaker is pair.b) is of_a, pair.story()


# ---------------------------------------------------------------- all orders


class Budget(NamedTuple):
    """How many messages may be lost, and may be overtaken, in one walk."""

    lost: int = 0
    overtaken: int = 0


def walks(commands: dict[str, str], budget: Budget, depth: int, build: Callable[[], IkePair]) -> Iterator[tuple[str, ...]]:
    """
    All schedules in which each end does its command (by letter) at some time, with up to *depth* deliveries besides; those in
    which each end sees the same things in the same order are one, whatever happened first elsewhere.
    """
    seen: set[object] = set()
    waiting: list[tuple[tuple[str, ...], Budget]] = [((), budget)]
    while waiting:
        words, left = waiting.pop()
        pair = build()
        saw: dict[str, list[object]] = {"a": [], "b": []}
        for word in words:
            letter = word.removeprefix("-")[0]
            if ":" in word:
                saw[letter].append(word)
            else:
                one = pair.flight[letter][int(word.removeprefix("-")[1:] or "0")]
                saw[letter].append((word[0] == "-", one.number))
            act(pair, word)
        state = tuple(saw["a"]), tuple(saw["b"])
        if state in seen:
            continue
        seen.add(state)
        to_do = [f"{letter}:{command}" for letter, command in commands.items() if f"{letter}:{command}" not in words]
        choices = [(word, left) for word in to_do]
        if len(words) < depth + len(commands):
            for letter in "ab":
                waits = len(pair.flight[letter])
                choices += [(letter, left)] if waits else []
                choices += [(f"-{letter}", left._replace(lost=left.lost - 1))] if waits and left.lost else []
                choices += [(f"{letter}1", left._replace(overtaken=left.overtaken - 1))] if waits > 1 and left.overtaken else []
        if not choices:
            yield words
        waiting += [((*words, word), after) for word, after in choices]


ACTIONS = ("rekey_child", "rekey_ike", "expire_hard", "terminate")
PAIRS = [
    (one, other, lowest)
    for one in ACTIONS
    for other in ACTIONS
    for lowest in (("a_asks", "b_asks") if one == other and one.startswith("rekey") else ("a_asks",))
]


@pytest.mark.parametrize("budget", [Budget(), Budget(lost=1), Budget(overtaken=1)], ids=["all", "one lost", "one overtaken"])
@pytest.mark.parametrize(("one", "other", "lowest"), PAIRS)
def test_every_order(one: str, other: str, lowest: str, budget: Budget) -> None:
    def build() -> IkePair:
        pair = IkePair()
        pair.establish()
        set_nonces(pair, lowest)
        return pair

    count = 0
    for schedule in walks({"a": one, "b": other}, budget, 6, build):
        count += 1
        pair = build()
        for word in schedule:
            act(pair, word)
        try:
            if "terminate" in {one, other}:
                pair.check_gone()
            else:
                pair.check_settled()
        except AssertionError as wrong:
            raise AssertionError(f"{' '.join(schedule)}: {wrong}") from None
    assert count > 1


# ---------------------------------------------------------------- found by chance, and looked for by chance

#: Schedules that left something behind, or nothing, in some order of the nonces.
FOUND = (
    "b:rekey_child a -b a:rekey_child b a",
    "b:rekey_child a b a:rekey_child b a1 b a",
    "b:rekey_ike a -b a:rekey_child b a",
    "b:expire_hard a b a -b a:rekey_child",
    "b:rekey_child a a:expire_hard -b b a:expire_hard a a:expire_soft -b a:expire_soft",
    "a:rekey_ike -b b:expire_hard a:expire_soft a b:rekey_child",
    "b:expire_soft a -b a:expire_hard -b a:expire_hard b:rekey_child b:rekey_ike",
    "a:rekey_ike b:expire_hard a:rekey_child b a -a",
    "a:rekey_ike -b a:rekey_child b:rekey_child a b b:expire_hard a b a",
    "b:expire_hard a b a -b a:expire_hard b b:expire_soft -a b:expire_soft",
    "b:expire_hard a b b:expire_hard a:expire_hard a a:expire_hard b1 a -b b a a:expire_soft b a b",
)


@pytest.mark.parametrize("traffic", [False, True], ids=["quiet", "traffic"])
@pytest.mark.parametrize("lowest", LOWEST)
@pytest.mark.parametrize("schedule", FOUND)
def test_found(schedule: str, lowest: str, traffic: bool) -> None:
    pair = IkePair(traffic=traffic)
    pair.establish()
    set_nonces(pair, lowest)
    for word in schedule.split():
        index = int(word.removeprefix("-")[1:] or "0") if ":" not in word else -1
        if len(pair.flight[word.removeprefix("-")[0]]) > index:
            act(pair, word)
    pair.check_settled()


@pytest.mark.parametrize("seed", range(4))
def test_schedules_by_chance(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        pair = IkePair(traffic=chance.random() < 0.5, seed=chance.randrange(10**6))
        pair.establish()
        set_nonces(pair, chance.choice(LOWEST))
        words: list[str] = []
        for _ in range(chance.choice([6, 10, 16])):
            choices = [
                f"{letter}:{command}" for letter in "ab" for command in ("rekey_child", "rekey_ike", "expire_soft", "expire_hard")
            ]
            choices = [chance.choice(choices)] if len([word for word in words if ":" in word]) < 5 else []
            for letter in "ab":
                waits = len(pair.flight[letter])
                choices += [letter] * 2 * bool(waits) + [f"-{letter}"] * bool(waits) + [f"{letter}1"] * (waits > 1)
            if not choices:
                break
            words.append(chance.choice(choices))
            act(pair, words[-1])
        try:
            pair.check_settled()
        except AssertionError as wrong:
            raise AssertionError(f"{' '.join(words)}: {wrong}") from None


# ---------------------------------------------------------------- a thousand at random


@pytest.mark.parametrize("seed", [1, 2])
def test_five_hundred_rekeyings_by_both_ends_under_loss(seed: int) -> None:
    chance = random.Random(seed)
    pair = IkePair(seed=seed, traffic=True)
    pair.establish()
    ups = 0

    def lose(_: Datagram) -> bool:
        return chance.random() < 0.1

    def host() -> Host:
        return chance.choice(pair.hosts)

    for _ in range(500):
        for _ in range(chance.choice([1, 1, 2])):
            one = host()
            if chance.random() < 0.85:
                one.rekey_child()
            else:
                one.rekey_ike()
            pair.step()
        pair.run_for(chance.uniform(0, 6), lose)
    pair.check_settled()
    for one in pair.hosts:
        ups += len([event for event in one.told(ChildUp) if isinstance(event, ChildUp) and event.rekeyed])
    assert ups >= 500, pair.story()
