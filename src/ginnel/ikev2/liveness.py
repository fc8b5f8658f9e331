"""
Is the peer there? An empty INFORMATIONAL request; any genuine answer is one. Silence is judged by the window's retransmissions.

Asked when nothing came, IKE or ESP, for the connection's `dpd_ns`, and when a stranger hints that the peer has lost its memory.

Source: RFC 7296 1.4, 2.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ginnel.wire.ikev2 import Exchange

if TYPE_CHECKING:
    from ginnel.ikev2.content import Content
    from ginnel.ikev2.sa import IkeSa
    from ginnel.units import Now
    from ginnel.wire.ikev2 import Payload


class Liveness:
    """The question. Pointless once the SA is being closed: that asks as well."""

    exchange = Exchange.INFORMATIONAL
    inherited = True

    def request(self, sa: IkeSa, _now: Now) -> tuple[Payload, ...] | None:
        """Nothing: the message itself is the question."""
        return () if sa.authenticated else None

    def response(self, sa: IkeSa, content: Content, now: Now) -> None:
        """That it came is all."""

    def abandoned(self, sa: IkeSa, now: Now) -> None:
        """Nothing is left behind."""
