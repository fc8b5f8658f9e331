"""
Message ids and retransmission of one IKE SA: a window of one each way.

- Each side counts its requests from 0; a response carries its request's id. We have one request outstanding, and answer one of
  the peer's at a time; the peer's next request says that it has our last answer.
- A request is sent again, the same bytes, until it is answered: after `first_ns`, then 1.8 times as long each time, each wait
  shortened by up to a tenth at random; after `give_up_ns` in all the peer is dead.
- The last answer is kept, and sent again when the same request comes again: recognised by its bytes (of a fragmented one by its
  first fragment, RFC 7383 2.6.1), without decrypting anything.

Source: RFC 7296 2.1, 2.2, 2.3; strongSwan's factor.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from ginnel.ikev2.context import Context

#: Ids have 32 bits and are never used twice: a new IKE SA is made long before (RFC 7296 2.2).
MESSAGE_ID_SOFT: Final = 2**31
_JITTER_PART: Final = 10


class Judgement(enum.Enum):
    """What a request with some id is."""

    NEW = enum.auto()
    #: The one that was answered last.
    AGAIN = enum.auto()
    #: Older, or further ahead than the window allows.
    OUTSIDE = enum.auto()


@dataclass(slots=True)
class Outstanding:
    """Our request that waits for its response. wait_ns: the last wait. end_ns: when to give up."""

    message_id: int
    exchange: int
    datagrams: tuple[bytes, ...]
    since_ns: int
    wait_ns: int
    due_ns: int
    end_ns: int
    tries: int = 1


@dataclass(slots=True)
class Answered:
    """The peer's last request and what we answered. request: the datagram (its first fragment)."""

    message_id: int
    request: bytes
    datagrams: tuple[bytes, ...]


class Window:
    """Both directions of one IKE SA."""

    __slots__ = ("_ctx", "_first_ns", "_give_up_ns", "answered", "expected", "next_id", "outstanding")

    def __init__(self, ctx: Context, first_ns: int, give_up_ns: int) -> None:
        self._ctx = ctx
        self._first_ns = first_ns
        self._give_up_ns = give_up_ns
        #: Id of our next request, and of the peer's.
        self.next_id = 0
        self.expected = 0
        self.outstanding: Outstanding | None = None
        self.answered: Answered | None = None

    def tempo(self, first_ns: int, give_up_ns: int) -> None:
        """Retransmit like this from the next request on."""
        self._first_ns = first_ns
        self._give_up_ns = give_up_ns

    @property
    def spent(self) -> bool:
        """Whether either side has used so many ids that a new IKE SA is due."""
        return max(self.next_id, self.expected) >= MESSAGE_ID_SOFT

    # ------------------------------------------------------------ our requests

    def sent(self, exchange: int, datagrams: tuple[bytes, ...], now_ns: int) -> int:
        """A request with `next_id` goes out; gives when it is due again."""
        assert self.outstanding is None, "one request at a time"
        wait_ns = self._shortened(self._first_ns)
        end_ns = now_ns + self._give_up_ns
        self.outstanding = Outstanding(self.next_id, exchange, datagrams, now_ns, self._first_ns, now_ns + wait_ns, end_ns)
        self.next_id += 1
        return self.outstanding.due_ns

    def again(self, now_ns: int) -> int | None:
        """The outstanding request is due: gives when it is due the next time, None when it is time to give up."""
        out = self.outstanding
        assert out is not None, "something is outstanding"
        if now_ns >= out.end_ns:
            return None
        out.tries += 1
        out.wait_ns = out.wait_ns * 9 // 5
        out.due_ns = min(out.end_ns, now_ns + self._shortened(out.wait_ns))
        return out.due_ns

    def taken(self) -> None:
        """The response has come."""
        self.outstanding = None

    def _shortened(self, wait_ns: int) -> int:
        return wait_ns - self._ctx.part(wait_ns // _JITTER_PART)

    # ------------------------------------------------------------ the peer's

    def judge(self, message_id: int) -> Judgement:
        """What the peer's request with this id is."""
        if message_id == self.expected:
            return Judgement.NEW
        if self.answered is not None and message_id == self.answered.message_id:
            return Judgement.AGAIN
        return Judgement.OUTSIDE

    def kept_answer(self, request: bytes) -> tuple[bytes, ...] | None:
        """What was answered to exactly this datagram; None when it is not the one."""
        kept = self.answered
        return kept.datagrams if kept is not None and kept.request == request else None

    def answer(self, request: bytes, datagrams: tuple[bytes, ...]) -> None:
        """The request with id `expected` is answered so."""
        self.answered = Answered(self.expected, request, datagrams)
        self.expected += 1
