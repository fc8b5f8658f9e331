"""
One IKE SA: its keys, its window, and the queue of tasks that want an exchange. What the exchanges mean is in the tasks.

    initiator   INITIATING --INIT--> PROVING --AUTH--> ESTABLISHED --> REPLACED --> CLOSING --> GONE
    responder   HALF_OPEN ----------------AUTH-------> ESTABLISHED
                     `--> REFUSED (only the answer is kept, for a while)

- Messages are taken strictly in the order in which they come. One request of ours is outstanding; the next task's follows its
  response.
- A task gives the payloads of a request (or None: it has become pointless), and is given those of the response. Answers to the
  peer's requests come from `Home.answer`.
- What cannot be authenticated changes nothing. What can, but is malformed, ends the IKE SA on both sides (RFC 7296 2.21.3).
- A request that has been answered is answered again from memory; ours go out again as the same bytes.

Source: RFC 7296 2.1 to 2.5, 2.21; strongSwan's task manager for the shape.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ginnel.crypto.ike import AuthenticationFailed
from ginnel.errors import PeerError
from ginnel.ikev2 import protection
from ginnel.ikev2.connection import Connection
from ginnel.ikev2.content import Content
from ginnel.ikev2.context import Context
from ginnel.ikev2.drops import Drop
from ginnel.ikev2.effects import KeysMade, Path, Send, SetOutboundPath
from ginnel.ikev2.fragments import FRAGMENTS_MAX
from ginnel.ikev2.keys import IkeKeys
from ginnel.ikev2.nat import Nat
from ginnel.ikev2.proposals import Chosen
from ginnel.ikev2.timers import Timer
from ginnel.ikev2.window import Judgement, Window
from ginnel.units import NS_PER_S, Now
from ginnel.wire.ikev2 import (
    Delete,
    Exchange,
    Header,
    Message,
    Notify,
    NotifyType,
    Payload,
    ProtocolId,
    Sk,
    UnsupportedCriticalPayload,
)

if TYPE_CHECKING:
    from ginnel.ikev2.lineage import Lineage
    from ginnel.ikev2.tunnel import Cause

#: While we are behind a NAT and say nothing else (RFC 3948 4; strongSwan's keep_alive).
KEEPALIVE_NS: Final = 20 * NS_PER_S
#: Tasks that may wait for their turn: there is one of each kind for each of at most four children.
QUEUE_MAX: Final = 32


class State(enum.Enum):
    """See above."""

    INITIATING = enum.auto()
    PROVING = enum.auto()
    HALF_OPEN = enum.auto()
    REFUSED = enum.auto()
    ESTABLISHED = enum.auto()
    REPLACED = enum.auto()
    CLOSING = enum.auto()
    GONE = enum.auto()


#: Which state may follow which.
LEGAL: Final[dict[State, frozenset[State]]] = {
    State.INITIATING: frozenset({State.PROVING, State.GONE}),
    State.PROVING: frozenset({State.ESTABLISHED, State.CLOSING, State.GONE}),
    State.HALF_OPEN: frozenset({State.ESTABLISHED, State.REFUSED, State.GONE}),
    State.REFUSED: frozenset({State.GONE}),
    State.ESTABLISHED: frozenset({State.REPLACED, State.CLOSING, State.GONE}),
    State.REPLACED: frozenset({State.CLOSING, State.GONE}),
    State.CLOSING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}

#: Which of the peer's requests are looked at in a state; in others none are.
ANSWERED: Final[dict[State, frozenset[int]]] = {
    State.HALF_OPEN: frozenset({Exchange.IKE_AUTH}),
    State.ESTABLISHED: frozenset({Exchange.CREATE_CHILD_SA, Exchange.INFORMATIONAL}),
    State.REPLACED: frozenset({Exchange.CREATE_CHILD_SA, Exchange.INFORMATIONAL}),
    State.CLOSING: frozenset({Exchange.CREATE_CHILD_SA, Exchange.INFORMATIONAL}),
}

#: Both sides know each other.
AUTHENTICATED: Final = frozenset({State.ESTABLISHED, State.REPLACED, State.CLOSING})


class Task(Protocol):
    """One concern of one exchange that we initiate."""

    @property
    def exchange(self) -> Exchange: ...
    @property
    def inherited(self) -> bool:
        """Whether it is still to be done when another IKE SA takes the place of the one it waits in."""

    def request(self, sa: IkeSa, now: Now, /) -> tuple[Payload, ...] | None:
        """What is asked; None: nothing any more."""

    def response(self, sa: IkeSa, content: Content, now: Now, /) -> None:
        """What came back."""

    def abandoned(self, sa: IkeSa, now: Now, /) -> None:
        """
        No response will come: the IKE SA is gone. Called after `request` gave payloads, at most once, instead of `response`.
        """


class Home(Protocol):
    """What an IKE SA needs of the whole machine."""

    def answer(self, sa: IkeSa, exchange: int, content: Content, now: Now) -> tuple[Payload, ...]:
        """The answer to the peer's request; *sa* may be doomed by it."""

    def register(self, sa: IkeSa) -> None:
        """From now on messages with its SPIs are its."""

    def forget(self, sa: IkeSa) -> None:
        """They are nobody's."""

    def unanswered(self, sa: IkeSa, now: Now) -> None:
        """The peer answered nothing for so long."""

    def ended(self, sa: IkeSa, why: str, now: Now) -> None:
        """The IKE SA is over, by the peer's word or by what it said."""

    def closed(self, sa: IkeSa, why: str, cause: Cause, now: Now) -> None:
        """The peer has answered our DELETE of the IKE SA."""


@dataclass(slots=True)
class Traits:
    """What the peer said of itself. hashes: of RFC 7427. token: RFC 6290's, empty without."""

    fragmentation: bool = False
    childless: bool = False
    hashes: frozenset[int] = frozenset()
    token: bytes = b""


@dataclass(slots=True)
class Kept:
    """
    Of IKE_SA_INIT, until both sides know each other. message_i, message_r: as they were sent, for AUTH. requested: the hashes
    of the peer's CERTREQ.
    """

    nonce_i: bytes
    nonce_r: bytes
    message_i: bytes
    message_r: bytes
    requested: tuple[bytes, ...] = ()


class IkeSa:
    """See the top of the file. Made by `init` and `rekey`, held by the machine's table and by its lineage."""

    __slots__ = (
        "active",
        "chosen",
        "created_ns",
        "ctx",
        "doomed",
        "established_ns",
        "half_open_key",
        "hard_ns",
        "heard_ns",
        "home",
        "init",
        "initiator",
        "keys",
        "lineage",
        "local_spi",
        "low_nonce",
        "nat",
        "opening",
        "path",
        "queue",
        "spi_i",
        "spi_r",
        "state",
        "successor",
        "traits",
        "unsure_in",
        "window",
    )

    def __init__(
        self, ctx: Context, home: Home, spi_i: bytes, spi_r: bytes, path: Path, now: Now, *, initiator: bool, state: State
    ) -> None:
        self.ctx = ctx
        self.home = home
        self.spi_i = spi_i
        self.spi_r = spi_r
        #: Of the IKE SA itself, not of any exchange: the flag in each header.
        self.initiator = initiator
        #: What it is found by.
        self.local_spi = spi_i if initiator else spi_r
        self.path = path
        self.state = state
        #: The peer asked for this one in that one, and may not have our answer yet: before it has, nothing is asked here.
        self.unsure_in: IkeSa | None = None
        self.lineage: Lineage | None = None
        self.chosen: Chosen | None = None
        self.keys: IkeKeys | None = None
        self.opening: protection.Opening | None = None
        self.nat = Nat(us=False, peer=False)
        self.traits = Traits()
        self.window = Window(ctx, 2 * NS_PER_S, 60 * NS_PER_S)
        self.queue: deque[Task] = deque()
        self.active: Task | None = None
        #: What only IKE_SA_INIT and IKE_AUTH need.
        self.init: Kept | None = None
        #: The lower nonce of the exchange that made it.
        self.low_nonce = b""
        #: What the peer's request to rekey this made, while ours is still unanswered.
        self.successor: IkeSa | None = None
        #: Where it is listed while it is half-open.
        self.half_open_key: tuple[bytes, int, bytes] | None = None
        #: Set by an answer that ends the SA: why.
        self.doomed = ""
        self.created_ns = now.mono_ns
        self.established_ns = 0
        self.hard_ns = 0
        self.heard_ns = now.mono_ns

    # ------------------------------------------------------------ what it is

    def become(self, state: State) -> None:
        """The next state; an illegal one is our own mistake."""
        if state is self.state:
            return
        assert state in LEGAL[self.state], f"{self.state} -> {state}"
        self.state = state

    @property
    def connection(self) -> Connection:
        """Whose it is; known from the beginning as initiator, from IKE_AUTH on as responder."""
        assert self.lineage is not None, "known once authenticated"
        return self.lineage.tunnel.connection

    @property
    def name(self) -> str:
        """The tunnel's; empty while it is unknown whose it is."""
        return self.lineage.tunnel.connection.name if self.lineage is not None else ""

    @property
    def authenticated(self) -> bool:
        """Whether both sides know each other."""
        return self.state in AUTHENTICATED

    def answers_to(self, header: Header) -> bool:
        """Whether a message has both its SPIs; the responder's is not known at first."""
        return header.spi_i == self.spi_i and (header.spi_r == self.spi_r or self.state is State.INITIATING)

    def keyed(self, keys: IkeKeys, chosen: Chosen) -> None:
        """From now on messages are sealed."""
        self.keys = keys
        self.chosen = chosen
        self.opening = protection.Opening(keys.open)
        if keys.decryption_line:
            self.ctx.emit(KeysMade(self.name, "ikev2_decryption_table", keys.decryption_line))

    # ------------------------------------------------------------ tasks

    def want(self, task: Task, now: Now, *, first: bool = False) -> None:
        """Do this when it is its turn. first: before all that wait."""
        if len(self.queue) >= QUEUE_MAX:
            if not first:
                return
            self.queue.pop()
        if first:
            self.queue.appendleft(task)
        else:
            self.queue.append(task)
        self.proceed(now)

    def wants(self, kind: type) -> bool:
        """Whether a task of that kind waits or is under way."""
        return isinstance(self.active, kind) or any(isinstance(task, kind) for task in self.queue)

    def proceed(self, now: Now) -> None:
        """Send the next request, if none is outstanding."""
        while self.active is None and self.queue and self.unsure_in is None and self.state is not State.GONE:
            task = self.queue.popleft()
            self.active = task
            payloads = task.request(self, now)
            if payloads is None:
                self.active = None
                continue
            header = Header(self.spi_i, self.spi_r, task.exchange, self.initiator, False, self.window.next_id)
            self._ask(task.exchange, self._sealed(header, payloads), now)

    def ask_openly(self, task: Task, datagram: bytes, now: Now) -> None:
        """IKE_SA_INIT: a request without keys, as *task*'s."""
        self.active = task
        self._ask(task.exchange, (datagram,), now)

    def _ask(self, exchange: int, datagrams: tuple[bytes, ...], now: Now) -> None:
        due_ns = self.window.sent(exchange, datagrams, now.mono_ns)
        self.ctx.timers.arm(self, Timer.RETRANSMIT, due_ns)
        self._send(datagrams, self.path)

    def answered_openly(self) -> None:
        """The response of IKE_SA_INIT was taken (or is to be asked for anew)."""
        self.window.taken()
        self.active = None
        self.ctx.timers.cancel(self, Timer.RETRANSMIT)

    def retransmit(self, now: Now) -> None:
        """The deadline of the outstanding request has come."""
        if self.window.outstanding is None:
            return
        due_ns = self.window.again(now.mono_ns)
        if due_ns is None:
            self.home.unanswered(self, now)
            return
        self.ctx.timers.arm(self, Timer.RETRANSMIT, due_ns)
        self._send(self.window.outstanding.datagrams, self.path)

    def give_up_by(self, end_ns: int) -> None:
        """Wait for the response to the outstanding request until then at the longest."""
        out = self.window.outstanding
        if out is not None and end_ns < out.end_ns:
            out.end_ns = end_ns
            out.due_ns = min(out.due_ns, end_ns)
            self.ctx.timers.arm(self, Timer.RETRANSMIT, out.due_ns)

    def say_goodbye(self) -> None:
        """DELETE, once: whether it arrives is not waited for, and what is outstanding is not either."""
        header = Header(self.spi_i, self.spi_r, Exchange.INFORMATIONAL, self.initiator, False, self.window.next_id)
        self._send(self._sealed(header, (Delete(ProtocolId.IKE),)), self.path)

    def finish(self, now: Now) -> None:
        """It is over: no message of it is taken any more, no deadline of it comes."""
        if self.state is State.GONE:
            return
        self.become(State.GONE)
        self.ctx.timers.cancel_all(self)
        self.home.forget(self)
        active, self.active = self.active, None
        self.queue.clear()
        if active is not None:
            active.abandoned(self, now)
        self.window.taken()
        self.successor = None
        self.init = None

    # ------------------------------------------------------------ messages

    def receive(self, data: bytes, message: Message, path: Path, now: Now) -> None:
        """A protected message with our SPIs."""
        header = message.header
        sk = message.payloads[-1] if message.payloads else None
        if self.opening is None or not isinstance(sk, Sk) or not sk.sealed:
            self.ctx.drop(self.name, Drop.UNPROTECTED)
            return
        if not self._wanted(data, header, sk, path):
            return
        try:
            opened = self.opening.open(data, message, now.mono_ns)
            content = None if opened is None else Content(opened.payloads)
        except AuthenticationFailed:
            self.ctx.drop(self.name, Drop.INTEGRITY)
            return
        except PeerError as mistake:
            self._malformed(self._known_by(data, sk), header, mistake, path, now)
            return
        if content is None:
            return
        self.heard_ns = now.mono_ns
        self.follow(path)
        if header.response:
            self._response(content, now)
        else:
            if self.lineage is not None:
                self.lineage.confirm(self, now)
            payloads = self.home.answer(self, header.exchange, content, now)
            self._answer(self._known_by(data, sk), header.exchange, payloads, path, now)

    def _known_by(self, data: bytes, sk: Sk) -> bytes:
        """The datagram that a request which has just been opened is known by when it is repeated."""
        return self.opening.first_fragment if sk.total and self.opening is not None else data

    def _wanted(self, data: bytes, header: Header, sk: Sk, path: Path) -> bool:
        """Whether a message is worth opening; a repeated request is answered here."""
        if sk.total > FRAGMENTS_MAX:
            self.ctx.drop(self.name, Drop.FRAGMENT)
            return False
        if header.response:
            out = self.window.outstanding
            fits = out is not None and out.message_id == header.message_id and out.exchange == header.exchange
            if not fits:
                self.ctx.drop(self.name, Drop.UNEXPECTED_RESPONSE)
            return fits
        match self.window.judge(header.message_id):
            case Judgement.AGAIN:
                kept = self.window.kept_answer(data)
                if kept is not None:
                    self._send(kept, path)
                self.ctx.drop(self.name, Drop.REPEATED)
                return False
            case Judgement.OUTSIDE:
                self.ctx.drop(self.name, Drop.MESSAGE_ID)
                return False
            case Judgement.NEW:
                pass
        if header.exchange not in ANSWERED.get(self.state, ()):
            self.ctx.drop(self.name, Drop.UNEXPECTED_EXCHANGE)
            return False
        return True

    def _response(self, content: Content, now: Now) -> None:
        task = self.active
        assert task is not None, "something is outstanding"
        self.window.taken()
        self.active = None
        self.ctx.timers.cancel(self, Timer.RETRANSMIT)
        task.response(self, content, now)
        self.proceed(now)

    def _answer(self, request: bytes, exchange: int, payloads: Sequence[Payload], path: Path, now: Now) -> None:
        if self.keys is not None and self.state is not State.GONE:
            header = Header(self.spi_i, self.spi_r, exchange, self.initiator, True, self.window.expected)
            datagrams = self._sealed(header, payloads)
            self.window.answer(request, datagrams)
            self._send(datagrams, path)
        if self.doomed:
            self.home.ended(self, self.doomed, now)
        else:
            self.proceed(now)

    def _malformed(self, request: bytes, header: Header, mistake: PeerError, path: Path, now: Now) -> None:
        """What was inside is the peer's own word, and wrong."""
        self.ctx.drop(self.name, Drop.MALFORMED)
        if not header.response:
            if isinstance(mistake, UnsupportedCriticalPayload):
                answer = Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((mistake.kind,)))
            else:
                answer = Notify(NotifyType.INVALID_SYNTAX)
            if not isinstance(mistake, UnsupportedCriticalPayload) or not self.authenticated:
                self.doomed = f"the peer sent a malformed request: {mistake}"
            self._answer(request, header.exchange, (answer,), path, now)
            return
        self.home.ended(self, f"the peer sent a malformed response: {mistake}", now)

    def _sealed(self, header: Header, payloads: Sequence[Payload]) -> tuple[bytes, ...]:
        assert self.keys is not None, "there are keys"
        cut = self.traits.fragmentation and (self.lineage is None or self.connection.fragmentation)
        room = protection.room(len(self.path.remote), natt=self.path.natt) if cut else None
        return protection.seal(self.keys.seal, header, payloads, room)

    def _send(self, datagrams: tuple[bytes, ...], path: Path) -> None:
        for datagram in datagrams:
            self.ctx.emit(Send(self.name, datagram, path))

    # ------------------------------------------------------------ where the peer is

    def follow(self, path: Path) -> None:
        """A genuine message came by *path*: go after the peer if its NAT moved it, and we are behind none (RFC 7296 2.23)."""
        if path == self.path:
            return
        if self.state is State.HALF_OPEN:
            # The initiator floats to the NAT traversal port with IKE_AUTH.
            self.path = path
            return
        if not self.nat.peer or self.nat.us or not self.authenticated:
            return
        self.move(path)

    def move(self, path: Path) -> None:
        """IKE and ESP go there from now on."""
        self.path = path
        lineage = self.lineage
        if lineage is not None and lineage.tunnel.carrier is not None and lineage.tunnel.carrier.spi_in in lineage.children:
            self.ctx.emit(SetOutboundPath(self.name, self.esp_path(), self.udp))

    @property
    def udp(self) -> bool:
        """Whether ESP goes in UDP."""
        return self.nat.found or self.connection.encapsulation == "udp"

    def esp_path(self) -> Path:
        """Where ESP goes."""
        if self.udp and not self.path.natt:
            return Path(self.path.local, self.path.remote, self.connection.natt_port, True)
        return self.path
