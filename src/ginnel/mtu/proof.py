"""
The sum put to the proof: which packets really pass to a host and back. Sans-I/O: sizes to probe go out, answers come in.

A probe is an ICMP echo request of an exact size that nobody on the way may fragment. Each comes to one of four ends:

    passed       the reply came. Its own fragments, if it came in any, tell of the way back, where fragmenting is allowed
    refused      somebody said that it is too big and named what is not: this host (no sender), or a router
    unreachable  somebody said that it goes nowhere at all
    silent       nothing came in the time there was, several tries long

The first round tries a small packet, the expected size and one byte more; mostly that is all. When the truth is another it is
searched for, in rounds of several sizes at once, so that a path that swallows packets in silence costs seconds. Then, when
replies came back in fragments, the largest reply that comes whole is searched for likewise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ginnel.mtu.layers import Family
from ginnel.mtu.search import Search

#: A path of IPv4 carries as much (RFC 791); of IPv6 it is an empty echo request with room to know it again.
SMALLEST: dict[Family, int] = {4: 68, 6: 88}
#: Sizes in one round: 8 leave a ninth, so any path is found in four rounds. All of them are less than 16 full packets.
WIDTH = 8
#: The largest echo request there is.
LARGEST = 65_535


@dataclass(frozen=True, slots=True)
class Answer:
    """
    The end of one probe.

    by: who refused it or called it unreachable, "" = this host itself. mtu: what they named (0: nothing). why: of unreachable,
    for people. fragment: the largest fragment that the reply came in, 0 = it came whole.
    """

    size: int
    end: Literal["passed", "refused", "unreachable", "silent"]
    by: str = ""
    mtu: int = 0
    why: str = ""
    fragment: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """
    What was found out.

    found: the largest size that passed, 0 = the host did not answer at all. beyond: the answer to one byte more. whole: the
    largest reply that came back in one piece. fragment: the largest fragment of those that did not, 0 = none was fragmented.
    finished: whether there was time enough.
    """

    expected: int
    found: int
    beyond: Answer | None
    whole: int
    fragment: int
    finished: bool = True

    @property
    def reached(self) -> bool:
        """Whether the host answered anything."""
        return self.found > 0

    @property
    def agrees(self) -> bool:
        """Whether what was expected passes both ways in one piece, and nothing larger passes."""
        return self.finished and self.found == self.expected == self.whole

    @property
    def black_hole(self) -> bool:
        """Whether packets too large vanish without a word."""
        return self.reached and self.found < self.expected and self.beyond is not None and self.beyond.end == "silent"


@dataclass(slots=True)
class Prover:
    """
    The machine: probe each of `sizes()`, give the answers to `took`, until `sizes()` is empty; then `proof()`.

    expected: the size that the sum says. family: of the probes.
    """

    expected: int
    family: Family
    _answers: dict[int, Answer] = field(default_factory=dict)
    _there: Search = field(default_factory=lambda: Search(0, LARGEST + 1))
    _back: Search | None = None
    _begun: bool = False

    @property
    def smallest(self) -> int:
        """The first probe's size."""
        return min(SMALLEST[self.family], self.expected)

    def sizes(self) -> tuple[int, ...]:
        """What to probe now, smallest first; empty: all is known that can be."""
        if not self._begun:
            return tuple(sorted({self.smallest, self.expected, min(self.expected + 1, LARGEST)}))
        if not self._there.low:
            return ()
        if not self._there.over:
            return self._next_there()
        if self._back is None and self._answers[self._there.low].fragment:
            whole = [size for size, answer in self._answers.items() if answer.end == "passed" and not answer.fragment]
            self._back = Search(max(whole, default=0), self._there.low, hint=self._answers[self._there.low].fragment)
        return self._back.sizes(WIDTH) if self._back is not None else ()

    def _next_there(self) -> tuple[int, ...]:
        # Beyond what was expected nothing is known; this host's own device mostly ends it, and says where.
        if self._there.high > LARGEST and LARGEST not in self._answers:
            return (LARGEST,)
        return self._there.sizes(WIDTH)

    def took(self, answers: Iterable[Answer]) -> None:
        """What became of the probes of one round."""
        self._begun = True
        for answer in answers:
            self._answers[answer.size] = answer
            if self._back is not None:
                if answer.end == "passed" and not answer.fragment:
                    self._back.passed(answer.size)
                else:
                    self._back.failed(answer.size, answer.fragment)
            if answer.end == "passed":
                self._there.passed(answer.size)
            else:
                self._there.failed(answer.size, answer.mtu if answer.end == "refused" else 0)

    def unanswered(self, sizes: Sequence[int]) -> None:
        """A round that got no answer to *sizes*."""
        self.took(Answer(size, "silent") for size in sizes)

    def proof(self) -> Proof:
        """What is known by now."""
        found = self._there.low
        beyond = self._answers.get(found + 1)
        if not found:
            told = [answer for answer in self._answers.values() if answer.end == "unreachable"]
            return Proof(self.expected, 0, told[0] if told else self._answers.get(self.smallest), 0, 0, self._begun)
        at_found = self._answers[found]
        whole = found if not at_found.fragment else self._back.low if self._back is not None else 0
        finished = self._there.over and (not at_found.fragment or (self._back is not None and self._back.over))
        return Proof(self.expected, found, beyond, whole, at_found.fragment, finished)


def sentences(proof: Proof, host: str, subject: str = "the sum says") -> tuple[str, ...]:
    """
    The proof in words, the verdict first.

    Args:
        host: the address that was probed.
        subject: who expected the size: "the sum says", "the link says".
    """
    expected, found, beyond = proof.expected, proof.found, proof.beyond
    if not proof.reached:
        if beyond is not None and beyond.end == "unreachable":
            return (f"nothing is proven: {_speaker(beyond)} says of {host}: {beyond.why}",)
        return (f"nothing is proven: {host} does not answer echo requests of any size",)
    if not proof.finished:
        return (f"{subject} {expected}; not finished in time: {found} passes",)
    end = f"{found + 1} does not ({_how(beyond)})" if found < LARGEST else "that is the largest there is"
    if proof.agrees:
        return (f"{subject} {expected}: {found} passes both ways, {end}",)
    said: list[str] = []
    if found == expected:
        said.append(f"{subject} {expected}: {found} passes to {host}, {end}")
    elif found < expected:
        said.append(f"{subject} {expected}, but only {found} passes: {end}")
    else:
        said.append(f"{subject} {expected}, and more passes: {found} does, {end}")
    if proof.fragment:
        said.append(
            f"the way back is narrower: the reply of {found} came in fragments, the largest of {proof.fragment};"
            f" in one piece it carries {proof.whole}"
        )
    return tuple(said)


def _speaker(answer: Answer) -> str:
    return answer.by or "this host"


def _how(answer: Answer | None) -> str:
    """Why a packet did not pass."""
    match answer:
        case Answer(end="refused", by="", mtu=mtu):
            return f"this host refuses it: its device carries {mtu}" if mtu else "this host refuses it"
        case Answer(end="refused", by=by, mtu=mtu):
            return f"{by} refuses it: the next link carries {mtu}" if mtu else f"{by} refuses it and names no size"
        case Answer(end="unreachable", why=why):
            return f"{_speaker(answer)} says: {why}"
        case Answer(end="silent"):
            return "it vanishes, and no ICMP came back: a black hole"
        case _:
            return "not tried"
