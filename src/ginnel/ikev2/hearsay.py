"""
What is said in the open: answers to our IKE_SA_INIT, and words about SAs that anybody may have sent.

Unprotected words never change what stands; at most the peer is asked whether it is there, seldom, or one more attempt is begun
beside the one that they are about. The one exception proves
itself: a crash token (`crash`). And what we say in the open: that we do not have an IKE SA (with its token), or an ESP SA (a
hint).

Source: RFC 7296 1.5, 2.4, 2.21.4; RFC 6290 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ginnel.errors import PeerError
from ginnel.ikev2 import crash, init
from ginnel.ikev2.auth import Authenticate
from ginnel.ikev2.content import Content
from ginnel.ikev2.context import Context
from ginnel.ikev2.drops import Drop
from ginnel.ikev2.effects import Path, Send
from ginnel.ikev2.init import Initiate
from ginnel.ikev2.liveness import Liveness
from ginnel.ikev2.sa import IkeSa, State
from ginnel.ikev2.strangers import Strangers
from ginnel.ikev2.tunnel import Cause, Tunnel
from ginnel.units import NS_PER_S, Now
from ginnel.wire.ikev2 import Exchange, Header, Message, Notify, NotifyType, ProtocolId, Sk, build, parse

#: A hint that a peer has lost its memory leads to a question at most so often, of one IKE SA.
HINT_NS: Final = 2 * NS_PER_S
#: IKE SAs asked because of one hint.
HINTED_MAX: Final = 16


class Hearsay:
    """at: the tunnels that an address may belong to. known: whether an SPI of ours is in use."""

    def __init__(
        self,
        ctx: Context,
        strangers: Strangers,
        at: Callable[[bytes], Iterator[Tunnel]],
        known: Callable[[bytes], bool],
    ) -> None:
        self._ctx = ctx
        self._strangers = strangers
        self._at = at
        self._known = known
        #: When an IKE SA was asked because of words, by our SPI.
        self._asked_ns: dict[bytes, int] = {}

    def forget(self, sa: IkeSa) -> None:
        """It is gone."""
        self._asked_ns.pop(sa.local_spi, None)

    def in_the_open(self, sa: IkeSa, data: bytes, message: Message, path: Path, now: Now) -> None:
        """With our SPIs, but not protected."""
        header = message.header
        try:
            content = Content(message.payloads)
        except PeerError:
            self._ctx.drop(sa.name, Drop.MALFORMED)
            return
        if sa.state is State.INITIATING:
            out = sa.window.outstanding
            wanted = header.response and header.exchange == Exchange.IKE_SA_INIT and header.message_id == 0
            if not wanted or out is None or path.remote != sa.path.remote:
                self._ctx.drop(sa.name, Drop.UNEXPECTED_RESPONSE)
                return
            task = sa.active
            if isinstance(task, Initiate) and task.receive(sa, data, message, content, path, now):
                sa.want(Authenticate(), now)
            return
        shown = content.notifies.get(NotifyType.QUICK_CRASH_DETECTION)
        if sa.authenticated and header.response and shown is not None and content.has(NotifyType.INVALID_IKE_SPI):
            if crash.proves(sa.traits.token, shown.data):
                self._crashed(sa, now)
            else:
                self._ctx.drop(sa.name, Drop.TOKEN)
            return
        if sa.authenticated and content.errors:
            self._ctx.drop(sa.name, Drop.HINT)
            self._ask(sa, now)
            return
        lineage = sa.lineage
        answers = sa.state is State.PROVING and header.response and path.remote == sa.path.remote
        if answers and lineage is not None and content.has(NotifyType.INVALID_IKE_SPI):
            self._ctx.drop(sa.name, Drop.HINT)
            lineage.tunnel.doubt(lineage, now)
            return
        self._ctx.drop(sa.name, Drop.UNPROTECTED)

    def _crashed(self, sa: IkeSa, now: Now) -> None:
        lineage = sa.lineage
        if lineage is None:
            return
        if lineage.current is sa:
            lineage.tunnel.down(lineage, Cause.CRASHED, "the peer was started anew, and proved it by its token", now)
        else:
            # What it had asked for there, it may have lost as well.
            lineage.forget(sa, now)
            lineage.current.want(Liveness(), now)

    def unknown(self, data: bytes, header: Header, path: Path, now: Now) -> None:
        """For an IKE SA that we do not have."""
        ours = header.spi_r if header.initiator else header.spi_i
        self._ctx.drop("", Drop.UNKNOWN_SA)
        if header.response or self._known(ours):
            return
        try:
            message = parse(data)
            content = Content(message.payloads)
        except PeerError:
            return
        if not message.payloads or not isinstance(message.payloads[-1], Sk):
            if header.exchange == Exchange.INFORMATIONAL and content.has(NotifyType.INVALID_SPI):
                self._hinted(path, now)
            return
        if init.NO_SPI in {header.spi_i, header.spi_r}:
            return
        self._strangers.answer(
            header, path, (Notify(NotifyType.INVALID_IKE_SPI), crash.notify(self._ctx.crash_secret, ours)), now
        )

    def _hinted(self, path: Path, now: Now) -> None:
        """Somebody at that address says that it got ESP for an SPI that it does not know: ask those of ours that are there."""
        asked = 0
        for tunnel in self._at(path.remote):
            lineage = tunnel.lineage
            if lineage is not None and lineage.current.path.remote == path.remote and asked < HINTED_MAX:
                asked += 1
                self._ask(lineage.current, now)

    def _ask(self, sa: IkeSa, now: Now) -> None:
        """Is the peer there? Not again for a while."""
        last_ns = self._asked_ns.get(sa.local_spi)
        if last_ns is not None and now.mono_ns - last_ns < HINT_NS:
            return
        self._asked_ns[sa.local_spi] = now.mono_ns
        asked = sa.unsure_in or sa
        if asked.active is None:
            asked.want(Liveness(), now)

    def hint(self, path: Path, spi: int) -> None:
        """INVALID_SPI in the open: nobody's word, but it makes a peer of ours ask (RFC 7296 1.5)."""
        header = Header(init.fresh_spi(self._ctx), init.NO_SPI, Exchange.INFORMATIONAL, True, False, 0)
        told = Notify(NotifyType.INVALID_SPI, spi.to_bytes(4, "big"), ProtocolId.ESP)
        self._ctx.emit(Send("", build(Message(header, (told,))), path))
