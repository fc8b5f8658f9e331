"""
Proposals: strongSwan's words <-> transforms, what is offered by default, and which one is chosen.

A proposal names for each kind of transform the ones that may be taken; choosing is taking one of each kind.
Rules (RFC 7296, 3.3):

- A kind that is left out says: none (integrity of an AEAD, key exchange of a child), no ESN. Beside an AEAD there is no other
  integrity than none; beside other encryption there must be one.
- A proposal with a kind of transform that is not known is never chosen (3.3.6). A transform that is not known, or has an
  attribute that is not, is passed over.
- The responder's order decides, but within one of its proposals the group that the initiator has already sent a value of is
  preferred: another costs a round trip, and no strength that we configured.
- The child SA of IKE_AUTH has no key exchange: groups are left out of it on both sides (*ke* False).

`select` and `check_answer` give `Chosen`, or the nearest difference as a value, for `explain`.

Words: `aes256gcm16-prfsha256-x25519`; several of a kind may stand in one proposal; a PRF that is not named follows the integrity
algorithm; `esn` and `noesn` (default) for ESP; `none` or `modpnone` beside groups: PFS is wanted but not insisted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ginnel.errors import UsageError
from ginnel.ikev2 import algorithms
from ginnel.wire.ikev2 import Proposal, ProtocolId, Transform, TransformType

_ENCR, _PRF, _INTEG, _KE, _ESN = TransformType
#: Kinds of transform by protocol, in the order of words.
KINDS: Final[dict[int, tuple[TransformType, ...]]] = {
    ProtocolId.IKE: (_ENCR, _INTEG, _PRF, _KE),
    ProtocolId.ESP: (_ENCR, _INTEG, _KE, _ESN),
}
_NO_INTEGRITY: Final = Transform(_INTEG, algorithms.NONE)
_NO_GROUP: Final = Transform(_KE, algorithms.NONE)
_NO_ESN: Final = Transform(_ESN, 0)
_ESN_ON: Final = Transform(_ESN, 1)


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    One transform of each kind.

    proposal: what goes into the answer: the offer's number, its SPI (to be replaced by ours), the chosen transforms.
    integrity: None for an AEAD; prf: None of a child; group: 0 without key exchange.
    """

    proposal: Proposal
    encryption: Transform
    integrity: Transform | None
    prf: Transform | None
    group: int
    esn: bool

    @property
    def suite(self) -> str:
        """The engine's name: "aes256gcm16", "aes256-sha256"."""
        return algorithms.suite(self.encryption, self.integrity)

    @property
    def hash(self) -> algorithms.Hash:
        """The PRF's, of an IKE SA."""
        if self.prf is None:
            raise ValueError("expected the proposal of an IKE SA, found a child's")
        return algorithms.prf_hash(self.prf)

    @property
    def encryption_key_bytes(self) -> int:
        """With the salt of an AEAD."""
        return algorithms.key_bytes(self.encryption)

    @property
    def integrity_key_bytes(self) -> int:
        """0 for an AEAD."""
        return algorithms.key_bytes(self.integrity)

    @property
    def text(self) -> str:
        """In words: "aes256gcm16-prfsha384-x25519", "aes128gcm16-esn"."""
        return words(self.proposal)


@dataclass(frozen=True, slots=True)
class Difference:
    """
    Why the nearest pair of proposals does not meet.

    theirs, ours: the two, None when that side has none of the protocol. kind: the transforms that differ (0: the proposal has a
    kind that is not known, or that does not belong there). met: how many kinds agree. theirs_of_kind, ours_of_kind: what either
    side names.
    """

    theirs: Proposal | None
    ours: Proposal | None
    kind: int = 0
    met: int = 0
    theirs_of_kind: tuple[Transform, ...] = ()
    ours_of_kind: tuple[Transform, ...] = ()


def parse_words(text: str, protocol: Literal["ike", "esp"]) -> Proposal:
    """
    A proposal in strongSwan's words, number 1, without SPI.

    Raises:
        UsageError: a word is not known or cannot be done here, belongs to the other protocol, or a kind is missing.
    """
    number = ProtocolId.IKE if protocol == "ike" else ProtocolId.ESP
    found: list[Transform] = []
    for one in text.strip().lower().removesuffix("!").split("-"):
        transform = _transform(one, text, number)
        if transform not in found:
            found.append(transform)
    return Proposal(1, number, b"", _completed(found, text, number))


def parse_list(texts: Iterable[str], protocol: Literal["ike", "esp"]) -> tuple[Proposal, ...]:
    """Several, numbered from 1 in their order; UsageError as `parse_words`."""
    return numbered(parse_words(text, protocol) for text in texts)


def numbered(proposals: Iterable[Proposal], spi: bytes | None = None) -> tuple[Proposal, ...]:
    """The same, numbered from 1, and with *spi* where one is given: as they are offered."""
    return tuple(
        replace(proposal, number=number, spi=proposal.spi if spi is None else spi) for number, proposal in enumerate(proposals, 1)
    )


def words(proposal: Proposal) -> str:
    """
    In strongSwan's words, kinds in the order encryption, integrity, prf, group, ESN.

    A PRF that follows from the integrity algorithms, "noesn" alone, "none" alone, and no integrity of an AEAD are left out.
    """
    found: list[str] = []
    for kind in (_ENCR, _INTEG, _PRF, _KE, _ESN):
        of_kind = _of_kind(proposal, kind)
        if kind == _PRF and _implied_prfs(_of_kind(proposal, _INTEG)) == of_kind:
            continue
        if of_kind in ((_NO_INTEGRITY,), (_NO_GROUP,), (_NO_ESN,)):
            continue
        found += [algorithms.word(transform) for transform in of_kind]
    found += [algorithms.word(transform) for transform in proposal.transforms if transform.kind not in algorithms.KIND_NAMES]
    return "-".join(found) if found else "nothing"


def default_ike() -> tuple[Proposal, ...]:
    """What is offered for an IKE SA when nothing is configured; no weak algorithm is among it."""
    return parse_list(
        (
            "aes256gcm16-prfsha384-x25519-ecp384",
            "aes256gcm16-aes128gcm16-chacha20poly1305-prfsha256-x25519-ecp256-modp2048",
            "aes256-aes128-sha256-prfsha256-x25519-ecp256-modp2048",
        ),
        "ike",
    )


def default_esp() -> tuple[Proposal, ...]:
    """What is offered for a child: PFS wanted and none taken too, ESN where the peer has it."""
    return parse_list(
        (
            "aes256gcm16-aes128gcm16-chacha20poly1305-x25519-ecp256-ecp384-modp2048-none-esn-noesn",
            "aes256-aes128-sha256-x25519-ecp256-ecp384-modp2048-none-esn-noesn",
        ),
        "esp",
    )


def without_ke(proposals: Iterable[Proposal]) -> tuple[Proposal, ...]:
    """As they are offered in IKE_AUTH, where no key exchange takes place (RFC 7296, 1.2)."""
    return tuple(
        replace(proposal, transforms=tuple(transform for transform in proposal.transforms if transform.kind != _KE))
        for proposal in proposals
    )


def groups(proposals: Iterable[Proposal]) -> tuple[int, ...]:
    """The groups that may be chosen, in their order, each once; 0 for "none", and for a proposal that names none."""
    found: list[int] = []
    for proposal in proposals:
        found += [transform.number for transform in _named(proposal, _KE) if transform.number not in found]
    return tuple(found)


def select(
    offered: Sequence[Proposal], configured: Sequence[Proposal], *, ke: bool, ke_group: int | None = None
) -> Chosen | Difference:
    """
    The responder's choice.

    Args:
        offered: the initiator's, as they came.
        configured: ours, in the order of preference.
        ke: whether there is a key exchange (not for the child of IKE_AUTH).
        ke_group: the group of the initiator's KE payload, None without one.

    Returns:
        What is taken, or the nearest difference. When `Chosen.group` is not *ke_group*, INVALID_KE_PAYLOAD is to be answered.
    """
    nearest = Difference(offered[0] if offered else None, configured[0] if configured else None)
    for ours in configured:
        for theirs in offered:
            found = _meet(theirs, ours, ke=ke, ke_group=ke_group)
            if isinstance(found, Chosen):
                return found
            if found.met > nearest.met or not nearest.kind:
                nearest = found
    return nearest


def check_answer(answer: Sequence[Proposal], offered: Sequence[Proposal], *, ke: bool) -> Chosen | Difference:
    """
    The initiator's look at what the responder chose: one proposal, one transform of each kind, all of them from one of ours.

    Args:
        answer: the proposals of the response.
        offered: what was sent.
        ke: whether there is a key exchange.

    Returns:
        What was agreed on; its `proposal` is the responder's, with its SPI.
    """
    if len(answer) != 1:
        return Difference(answer[0] if answer else None, offered[0] if offered else None)
    theirs = answer[0]
    for kind in TransformType:
        several = _of_kind(theirs, kind)
        if len(several) > 1:
            return Difference(theirs, offered[0] if offered else None, kind, 0, several)
    nearest = Difference(theirs, offered[0] if offered else None)
    # The number tells which of ours it is; some responders put 1 whatever they take, so the others are looked at after it.
    for ours in sorted(offered, key=lambda one: one.number != theirs.number):
        found = _meet(theirs, ours, ke=ke, ke_group=None)
        if isinstance(found, Chosen):
            return replace(found, proposal=theirs)
        if found.met > nearest.met or not nearest.kind:
            nearest = found
    return nearest


def _meet(theirs: Proposal, ours: Proposal, *, ke: bool, ke_group: int | None) -> Chosen | Difference:
    kinds = KINDS.get(ours.protocol, ())
    if theirs.protocol != ours.protocol or any(transform.kind not in kinds for transform in theirs.transforms):
        return Difference(theirs, ours)
    chosen: dict[int, Transform] = {}
    differs: int | None = None
    for kind in kinds:
        if kind == _KE and not ke:
            continue
        preferred = ke_group if kind == _KE else None
        found = _common(_named(theirs, kind), _named(ours, kind), kind, chosen.get(_ENCR), preferred)
        if found is None:
            differs = kind if differs is None else differs
        else:
            chosen[kind] = found
    if differs is not None:
        return Difference(theirs, ours, differs, len(chosen), _named(theirs, differs), _named(ours, differs))
    transforms = tuple(one for kind in kinds if (one := chosen.get(kind)) is not None and not _silent(one, theirs))
    group = chosen.get(_KE, _NO_GROUP).number
    integrity = chosen.get(_INTEG, _NO_INTEGRITY)
    return Chosen(
        replace(theirs, transforms=transforms),
        chosen[_ENCR],
        None if integrity == _NO_INTEGRITY else integrity,
        chosen.get(_PRF),
        group,
        chosen.get(_ESN, _NO_ESN) == _ESN_ON,
    )


def _silent(chosen: Transform, theirs: Proposal) -> bool:
    """Whether what is chosen is what the initiator meant by leaving the kind out; then the answer leaves it out too."""
    return chosen in (_NO_INTEGRITY, _NO_GROUP, _NO_ESN) and not _of_kind(theirs, chosen.kind)


def _common(
    theirs: tuple[Transform, ...],
    ours: tuple[Transform, ...],
    kind: int,
    encryption: Transform | None,
    preferred: int | None,
) -> Transform | None:
    usable = [one for one in ours if one in theirs and algorithms.supported(one)]
    if kind == _INTEG and encryption is not None:
        if algorithms.is_aead(encryption):
            return _NO_INTEGRITY if _NO_INTEGRITY in theirs else None
        usable = [one for one in usable if one != _NO_INTEGRITY]
    if preferred is not None:
        usable.sort(key=lambda one: one.number != preferred)
    return usable[0] if usable else None


def _named(proposal: Proposal, kind: int) -> tuple[Transform, ...]:
    """The transforms of a kind; in place of none what leaving it out means."""
    found = _of_kind(proposal, kind)
    if found:
        return found
    match kind:
        case TransformType.INTEG:
            return (_NO_INTEGRITY,)
        case TransformType.KE if proposal.protocol != ProtocolId.IKE:
            return (_NO_GROUP,)
        case TransformType.ESN if proposal.protocol != ProtocolId.IKE:
            return (_NO_ESN,)
        case _:
            return ()


def _of_kind(proposal: Proposal, kind: int) -> tuple[Transform, ...]:
    return tuple(transform for transform in proposal.transforms if transform.kind == kind)


def _implied_prfs(integrity: tuple[Transform, ...]) -> tuple[Transform, ...]:
    found: list[Transform] = []
    for one in integrity:
        number = algorithms.PRF_OF_INTEGRITY.get(one.number)
        if number is not None and Transform(_PRF, number) not in found:
            found.append(Transform(_PRF, number))
    return tuple(found)


_EXAMPLE: Final = {ProtocolId.IKE: "aes256gcm16-prfsha256-x25519", ProtocolId.ESP: "aes256gcm16-x25519"}


def _transform(one: str, text: str, protocol: ProtocolId) -> Transform:
    match one:
        case "esn" | "noesn" if protocol == ProtocolId.ESP:
            return _ESN_ON if one == "esn" else _NO_ESN
        case "esn" | "noesn":
            raise UsageError(f"'{text}': '{one}' is ESP's, and this is a proposal for IKE")
        case "none" | "modpnone" if protocol == ProtocolId.ESP:
            return _NO_GROUP
        case "none" | "modpnone":
            raise UsageError(f"'{text}': IKE needs a key exchange; '{one}' is for ESP")
    found = algorithms.by_word(one)
    if found is None:
        near = algorithms.near(one)
        hint = f"did you mean {near}?" if near else f"write proposals as strongSwan does, for example {_EXAMPLE[protocol]}"
        raise UsageError(f"'{text}': '{one}' is not an algorithm that is known\n  hint: {hint}")
    if not found.engine:
        raise UsageError(f"'{text}': '{one}' cannot be done here\n  hint: for example {_EXAMPLE[protocol]}")
    if found.transform.kind not in KINDS[protocol]:
        raise UsageError(f"'{text}': '{one}' is IKE's, and this is a proposal for ESP")
    return found.transform


def _completed(found: list[Transform], text: str, protocol: ProtocolId) -> tuple[Transform, ...]:
    """What is left unsaid added, what contradicts itself refused; kinds together, each in the order it was written in."""
    encryption = [one for one in found if one.kind == _ENCR]
    integrity = [one for one in found if one.kind == _INTEG]
    if not encryption:
        raise UsageError(f"'{text}': expected an encryption\n  hint: for example {_EXAMPLE[protocol]}")
    aead = {algorithms.is_aead(one) for one in encryption}
    if len(aead) > 1:
        raise UsageError(
            f"'{text}': an AEAD (gcm, chacha20poly1305) and other encryption do not go into one proposal\n"
            "  hint: write two, the preferred one first"
        )
    if protocol == ProtocolId.IKE and not any(one.kind == _PRF for one in found):
        if not integrity and aead == {False}:
            first = algorithms.word(encryption[0])
            raise UsageError(
                f"'{text}': {first} needs an integrity algorithm beside it\n  hint: for example {first}-sha256-x25519"
            )
        if not integrity:
            raise UsageError(f"'{text}': an AEAD needs a PRF beside it in IKE\n  hint: for example {_EXAMPLE[protocol]}")
        found = [*found, *_implied_prfs(tuple(integrity))]
    if aead == {True} and integrity and protocol == ProtocolId.IKE:
        # "aes256gcm16-sha256-x25519" is what many write for a PRF: no integrity is offered beside an AEAD.
        found = [one for one in found if one.kind != _INTEG]
    elif aead == {True} and integrity:
        raise UsageError(f"'{text}': {algorithms.word(encryption[0])} needs no integrity algorithm beside it")
    elif aead == {False} and not integrity:
        first = algorithms.word(encryption[0])
        raise UsageError(f"'{text}': {first} needs an integrity algorithm beside it\n  hint: for example {first}-sha256")
    if protocol == ProtocolId.IKE and not any(one.kind == _KE for one in found):
        raise UsageError(f"'{text}': IKE needs a key exchange\n  hint: for example {text}-x25519")
    if [one for one in found if one.kind == _KE] == [_NO_GROUP]:
        found.remove(_NO_GROUP)  # "none" alone is what leaving it out says
    if protocol == ProtocolId.ESP and not any(one.kind == _ESN for one in found):
        found = [*found, _NO_ESN]
    return tuple(one for kind in KINDS[protocol] for one in found if one.kind == kind)
