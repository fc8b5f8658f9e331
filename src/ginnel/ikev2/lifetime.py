"""
AUTH_LIFETIME: the responder wants the initiator to prove itself anew before so long: a new IKE SA is made beside the old one in
time, which then goes.

Source: RFC 4478.
"""

from __future__ import annotations

from typing import Final

from ginnel.ikev2.content import Content
from ginnel.ikev2.sa import IkeSa
from ginnel.ikev2.timers import Timer
from ginnel.units import NS_PER_S, Now
from ginnel.wire.ikev2 import NotifyType

#: Begin a tenth of it early, or up to two.
_EARLY_PART: Final = 10
#: A peer that wants it more often than that is not obeyed so far.
LIFETIME_MIN_S: Final = 60


def obey(sa: IkeSa, content: Content, now: Now) -> None:
    """Look for it in the response of IKE_AUTH, or in an INFORMATIONAL request; only an initiator obeys."""
    told = content.notifies.get(NotifyType.AUTH_LIFETIME)
    if told is None or len(told.data) != 4 or sa.lineage is None or not sa.lineage.initiated:
        return
    lifetime_ns = max(LIFETIME_MIN_S, int.from_bytes(told.data, "big")) * NS_PER_S
    early_ns = lifetime_ns // _EARLY_PART
    sa.ctx.timers.arm(sa, Timer.REAUTHENTICATE, now.mono_ns + lifetime_ns - early_ns - sa.ctx.part(early_ns))
