"""
A child SA: a pair of ESP SAs, one each way, as the machine knows it.

                 made by our request ------------------> carries at once
    (nothing) -<                                                           LIVE
                 made by the peer's: inbound at once ---> carries when the peer uses it, or has deleted the one before

    LIVE -> REKEYING       our request for another in its place is under way
         -> REPLACED       another is there; one of us deletes this one next
         -> REDUNDANT      two were made at once for the same: this is the one that goes
         -> DELETING       our DELETE is under way
         -> RETIRED        deleted, but what was sent before may still arrive: inbound only, 5 s
         -> GONE

Source: RFC 7296 2.8; strongSwan's order of switching.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ginnel.ikev2.effects import SetOutbound
from ginnel.ikev2.proposals import Chosen
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Selector

if TYPE_CHECKING:
    from ginnel.ikev2.lineage import Lineage
    from ginnel.ikev2.sa import IkeSa

#: How long a replaced inbound SA still takes what is late (strongSwan's delete_rekeyed_delay).
RETIRED_NS: Final = 5 * NS_PER_S
#: How long it does at least: what was sent before arrives within.
LATE_NS: Final = NS_PER_S
#: How long both of two that were made at once stand before ours goes.
SURPLUS_NS: Final = 2 * NS_PER_S
#: How long the peer may take to delete what is its to delete.
OVERDUE_NS: Final = 15 * NS_PER_S


class Stage(enum.Enum):
    """See above."""

    LIVE = enum.auto()
    REKEYING = enum.auto()
    REPLACED = enum.auto()
    REDUNDANT = enum.auto()
    DELETING = enum.auto()
    RETIRED = enum.auto()
    GONE = enum.auto()


#: Stages in which a child is an agreement that both sides have.
AGREED: Final = frozenset({Stage.LIVE, Stage.REKEYING, Stage.REPLACED, Stage.REDUNDANT, Stage.DELETING})
#: Which stage may follow which.
LEGAL: Final[dict[Stage, frozenset[Stage]]] = {
    Stage.LIVE: frozenset({Stage.REKEYING, Stage.REPLACED, Stage.REDUNDANT, Stage.DELETING, Stage.RETIRED, Stage.GONE}),
    Stage.REKEYING: frozenset({Stage.LIVE, Stage.REPLACED, Stage.REDUNDANT, Stage.RETIRED, Stage.GONE}),
    Stage.REPLACED: frozenset({Stage.LIVE, Stage.DELETING, Stage.RETIRED, Stage.GONE}),
    Stage.REDUNDANT: frozenset({Stage.DELETING, Stage.RETIRED, Stage.GONE}),
    Stage.DELETING: frozenset({Stage.RETIRED, Stage.GONE}),
    Stage.RETIRED: frozenset({Stage.GONE}),
    Stage.GONE: frozenset(),
}


@dataclass(eq=False, slots=True)
class Child:
    """
    spi_in, spi_out: what we and the peer receive with. initiated: by us. low_nonce: the lower of the two nonces of its
    exchange, which settles collisions. waiting: what is to be told to the engine when it is this one's turn to carry; None
    afterwards.

    replacement: what was made in its place. rekeyed: it took another's place itself.
    """

    spi_in: int
    spi_out: int
    chosen: Chosen
    transport: bool
    local_ts: tuple[Selector, ...]
    remote_ts: tuple[Selector, ...]
    initiated: bool
    low_nonce: bytes
    created_ns: int
    hard_ns: int
    waiting: SetOutbound | None
    rekeyed: bool
    #: Where it belongs; set when it is installed.
    lineage: Lineage | None = None
    stage: Stage = Stage.LIVE
    #: The peer asked for it in this IKE SA, and may not have our answer yet: it has not asked for more since, nor used it.
    unsure_in: IkeSa | None = None
    replacement: Child | None = None
    #: The lower nonce of what the peer's request made in its place, whatever became of that; empty: it asked for nothing.
    rival: bytes = b""
    #: When it began to carry, and when it was deleted; 0: not yet.
    carried_ns: int = 0
    retired_ns: int = 0

    def become(self, stage: Stage) -> None:
        """The next stage; an illegal one is our own mistake."""
        if stage is self.stage:
            return
        assert stage in LEGAL[self.stage], f"{self.stage} -> {stage}"
        self.stage = stage

    @property
    def agreed(self) -> bool:
        """Whether both sides have it."""
        return self.stage in AGREED

    @property
    def heir(self) -> Child | None:
        """The one at the end of the line of those that took its place."""
        found, one = None, self.replacement
        while one is not None and one.agreed and one is not self:
            found, one = one, one.replacement
        return found

    @property
    def replaced(self) -> bool:
        """Whether another that both sides have took its place."""
        return self.replacement is not None and self.replacement.agreed
