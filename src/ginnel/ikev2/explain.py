"""
Refusals, explained: the lines that a person reads in the log and in `show` when a negotiation fails.

First what failed, in a sentence; then each side's part of it; then the nearest difference, and what would have met. What the
other side wants is only known where it said so: a bare NO_PROPOSAL_CHOSEN says nothing, and the lines say that. No line holds a
secret, and nothing here goes to the peer.

What came from the peer is shown as values only (words of algorithms, addresses, identities made printable), and bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from ginnel.ikev2 import algorithms, identities, selectors
from ginnel.ikev2.proposals import Difference, groups, words
from ginnel.wire.ikev2 import AuthMethod, Id, Proposal, Selector, Transform, TransformType

Lines = tuple[str, ...]
What = Literal["ike", "esp"]

#: Of the other side's proposals that are shown; more are told as a number.
SHOWN_MAX: Final = 8
#: Of one proposal: strongSwan's widest is 300 characters.
_WORDS_MAX: Final = 400
_SA: Final = {"ike": "the IKE SA", "esp": "the child SA"}
#: What else NO_PROPOSAL_CHOSEN may mean.
_SAME_ANSWER: Final = {
    "ike": "a peer that has nothing configured for our address (or not yet) answers the same",
    "esp": "a peer that is configured for the other mode (transport, tunnel) answers the same",
}


# ---------------------------------------------------------------- proposals


def no_proposal(what: What, offered: Sequence[Proposal], configured: Sequence[Proposal], difference: Difference) -> Lines:
    """We answer NO_PROPOSAL_CHOSEN: *offered* by the peer, *configured* here."""
    return (
        f"no proposal in common for {_SA[what]}: we refused what the peer offers",
        *_numbered("the peer offers", offered),
        *_numbered("we take", configured),
        *_nearest(difference),
        *_would_meet(what, offered, configured),
    )


def proposal_refused(what: What, offered: Sequence[Proposal]) -> Lines:
    """The peer answered NO_PROPOSAL_CHOSEN to our offer; it does not say what it would take."""
    lines = (
        f"the peer takes none of our proposals for {_SA[what]} (NO_PROPOSAL_CHOSEN; it does not say what it would take)",
        *_numbered("we offered", offered),
        f"hint: name in `{what}` what the peer is configured for; its own log may show both sides",
        f"hint: {_SAME_ANSWER[what]}",
    )
    # The first child, made with the IKE SA, is offered without groups.
    if what == "esp" and any(groups(offered)):
        return (*lines, _pfs_hint(groups(offered)))
    return lines


def bad_answer(what: What, answer: Sequence[Proposal], offered: Sequence[Proposal], difference: Difference) -> Lines:
    """The peer chose what was not offered, or not exactly one of each kind; we end it."""
    return (
        f"the peer's choice for {_SA[what]} is not one of our proposals",
        *_numbered("the peer chose", answer),
        *_numbered("we offered", offered),
        *_nearest(difference),
    )


def group_refused(wanted: int, offered: Sequence[Proposal], what: What = "ike") -> Lines:
    """INVALID_KE_PAYLOAD names a group that we do not offer, or one that we have tried already."""
    ours = _groups_text(groups(offered))
    return (
        f"the peer wants the group {algorithms.group_word(wanted)} for {_SA[what]} (INVALID_KE_PAYLOAD)",
        f"we offered {ours}",
        f"hint: put {algorithms.group_word(wanted)} first among the groups of `{what}`"
        if wanted in groups(offered)
        else f"hint: {_can_be_added(wanted, what)}",
    )


def pfs_mismatch(offered: Sequence[Proposal], configured: Sequence[Proposal]) -> Lines:
    """The proposals of a child meet in all but the group: one side insists on PFS, or on another group."""
    theirs, ours = groups(offered), groups(configured)
    return (
        "the child SA's proposals meet in all but the key exchange (PFS): its rekeying would fail, so it is refused now",
        f"the peer's groups: {_groups_text(theirs)}",
        f"our groups: {_groups_text(ours)}",
        _pfs_hint(theirs),
    )


def _words(proposal: Proposal) -> str:
    """Bounded: whoever sends an offer also writes into the log."""
    text = words(proposal)
    return text if len(text) <= _WORDS_MAX else f"{text[:_WORDS_MAX]}…"


def _numbered(head: str, proposals: Sequence[Proposal]) -> list[str]:
    if not proposals:
        return [f"{head}: nothing"]
    lines = [f"{head}: {_words(one)}" for one in proposals[:SHOWN_MAX]]
    return [*lines, f"{head}: {len(proposals) - SHOWN_MAX} more"] if len(proposals) > SHOWN_MAX else lines


def _nearest(difference: Difference) -> list[str]:
    theirs, ours = difference.theirs, difference.ours
    if theirs is None or ours is None:
        return []
    pair = f"nearest: the peer's {_words(theirs)} and our {_words(ours)}"
    if not difference.kind:
        strange = [algorithms.word(one) for one in theirs.transforms if one.kind not in algorithms.KIND_NAMES]
        if strange:
            return [f"{pair}", f"  the peer's asks for what is not known here: {', '.join(strange)}"]
        return [pair]
    kind = algorithms.KIND_NAMES.get(difference.kind, f"transform type {difference.kind}")
    theirs_of_kind, ours_of_kind = _several(difference.theirs_of_kind), _several(difference.ours_of_kind)
    return [pair, f"  they differ in {kind}: the peer's {theirs_of_kind}, ours {ours_of_kind}"]


def _would_meet(what: What, offered: Sequence[Proposal], configured: Sequence[Proposal]) -> list[str]:
    """What could be written here so that it meets."""
    for theirs in offered:
        kinds = {transform.kind for transform in theirs.transforms}
        if not theirs.transforms or any(kind not in algorithms.KIND_NAMES for kind in kinds):
            continue
        takes = [one for one in theirs.transforms if algorithms.supported(one)]
        if {one.kind for one in takes} != kinds:
            continue
        proposal = Proposal(1, theirs.protocol, b"", _first_of_each(takes))
        weak = sorted({algorithms.weakness(one) for one in proposal.transforms} - {""})
        hint = f'hint: {what} = "{words(proposal)}" would meet the peer\'s offer'
        return [hint, *(f"  but: {sentence}" for sentence in weak)]
    unable = [algorithms.word(one) for theirs in offered for one in theirs.transforms if not algorithms.supported(one)]
    if not unable or not configured:
        return []
    return [f"hint: the peer has to offer one of ours; these of its algorithms cannot be done here: {_joined(unable)}"]


def _first_of_each(transforms: Iterable[Transform]) -> tuple[Transform, ...]:
    found: dict[int, Transform] = {}
    for one in transforms:
        kept = found.get(one.kind)
        if kept is None or (algorithms.weakness(kept) and not algorithms.weakness(one)):
            found[one.kind] = one
    return tuple(found.values())


def _several(transforms: Sequence[Transform]) -> str:
    return _joined(algorithms.word(one) for one in transforms)


def _joined(words_: Iterable[str]) -> str:
    found = list(dict.fromkeys(words_))
    more = f" and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
    return (", ".join(found[:SHOWN_MAX]) or "nothing") + more


def _joined_identities(ids: Iterable[Id | None]) -> str:
    """As `_joined`; only those that are shown are put into words, of a thousand."""
    found = list(dict.fromkeys(ids))
    more = f" and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
    return (", ".join(identities.text(one) for one in found[:SHOWN_MAX]) or "nothing") + more


def _groups_text(numbers: Iterable[int]) -> str:
    return _joined(algorithms.group_word(number) for number in numbers)


def _can_be_added(group: int, what: What) -> str:
    transform = Transform(TransformType.KE, group)
    if not algorithms.supported(transform):
        return "that group cannot be done here: the peer has to take one of ours"
    weak = algorithms.weakness(transform)
    return f"add {algorithms.group_word(group)} to `{what}`" + (f", but: {weak}" if weak else "")


def _pfs_hint(theirs: Iterable[int]) -> str:
    wanted = [algorithms.group_word(group) for group in theirs if group]
    if not wanted:
        return 'hint: the peer wants no PFS: add "none" beside the groups of `esp`, or name a group on the peer'
    return f'hint: the groups of `esp` (PFS) must have one in common, or both sides "none": {", ".join(wanted[:SHOWN_MAX])}'


# ---------------------------------------------------------------- selectors and mode


def selectors_refused(
    theirs_here: Sequence[Selector],
    theirs_there: Sequence[Selector],
    ours_here: Sequence[Selector],
    ours_there: Sequence[Selector],
) -> Lines:
    """We answer TS_UNACCEPTABLE. *…_here*: of our side's traffic, *…_there*: of the peer's."""
    sides = []
    for name, theirs, ours in (("our side", theirs_here, ours_here), ("its side", theirs_there, ours_there)):
        if selectors.narrow(theirs, ours) is None:
            sides.append(f"nothing in common for {name}: {_selector_difference(theirs, ours)}")
    meets = f'local_ts = "{selectors.texts(theirs_here[:1])}" and remote_ts = "{selectors.texts(theirs_there[:1])}"'
    return (
        "the traffic selectors have nothing in common (TS_UNACCEPTABLE): we refused what the peer offers",
        f"the peer offers: ours {selectors.texts(theirs_here[:SHOWN_MAX])} === its {selectors.texts(theirs_there[:SHOWN_MAX])}",
        f"we take: ours {selectors.texts(ours_here[:SHOWN_MAX])} === its {selectors.texts(ours_there[:SHOWN_MAX])}",
        *sides,
        f"hint: {meets} would meet it",
    )


def selectors_refused_by_peer(here: Sequence[Selector], there: Sequence[Selector], *, transport: bool, nat: bool) -> Lines:
    """The peer answered TS_UNACCEPTABLE; it does not say what it would take."""
    lines = [
        "the peer takes none of our traffic selectors (TS_UNACCEPTABLE; it does not say what it would take)",
        f"we offered: ours {selectors.texts(here[:SHOWN_MAX])} === its {selectors.texts(there[:SHOWN_MAX])}",
    ]
    if transport and nat:
        lines.append(
            "hint: there is a NAT between us, and not every peer puts the translated addresses into transport mode's selectors:"
            ' try mode = "tunnel", or GRE in UDP'
        )
    else:
        lines.append(
            "hint: the peer's remote selectors must be our local ones and the other way round, protocol and ports included"
        )
    return tuple(lines)


def selectors_widened(answer: Sequence[Selector], offered: Sequence[Selector]) -> Lines:
    """The peer's answer is not within what we offered; we delete the child."""
    return (
        "the peer's answer holds traffic selectors that we did not offer",
        f"the peer answered: {selectors.texts(answer[:SHOWN_MAX])}",
        f"we offered: {selectors.texts(offered[:SHOWN_MAX])}",
    )


def selectors_in_pieces(here: int, there: int, limit: int) -> Lines:
    """The peer's answer has more selectors than we hold each packet against; we delete the child."""
    return (
        f"the peer answered with {here} traffic selectors for our side and {there} for its own: at most {limit} pairs are taken",
    )


def mode_mismatch(*, ours_transport: bool, by_peer: bool) -> Lines:
    """One side has transport mode, the other tunnel mode. by_peer: it was the peer who answered so."""
    ours, theirs = ("transport", "tunnel") if ours_transport else ("tunnel", "transport")
    verb = "answers with" if by_peer else "asks for"
    return (
        f"the modes differ: we are configured for {ours} mode, the peer {verb} {theirs} mode",
        f'hint: set mode = "{theirs}" here, or {ours} mode on the peer (Cisco: `mode {ours}` in its transform-set)',
    )


def _selector_difference(theirs: Sequence[Selector], ours: Sequence[Selector]) -> str:
    if not theirs or not ours:
        return "one of them is empty"
    one, other = theirs[0], ours[0]
    if len(one.first) != len(other.first):
        return "one is IPv4, the other IPv6"
    if one.first > other.last or other.first > one.last:
        return "the addresses differ"
    if one.protocol and other.protocol and one.protocol != other.protocol:
        return "the protocols differ"
    return "the ports differ"


# ---------------------------------------------------------------- identities and authentication


def other_asked_for(sent: Id, asked: Id, ours: Iterable[Id]) -> Lines:
    """The peer is known, but it asks for somebody (IDr) who we are not towards it."""
    return (
        f"{identities.text(sent)} asks for us as {identities.text(asked)}, who we are not",
        f"we are: {_joined(identities.text(one) for one in ours)}",
        f'hint: local_id = "{identities.text(asked)}", or change the identity that the peer expects',
    )


def unknown_identity(sent: Id, configured: Iterable[Id | None], asked: Id | None = None) -> Lines:
    """No connection is for the peer's identity."""
    known = _joined_identities(configured)
    asks = (f"it asks for us as {identities.text(asked)}",) if asked is not None else ()
    return (
        f"nothing is configured for a peer that calls itself {identities.text(sent)}",
        *asks,
        f"configured from its address: {known}",
        f'hint: remote_id = "{identities.text(sent)}", or change the identity on the peer',
    )


def not_believed(sentence: str, sent: Id, looked_up: Id | None, secret_name: str = "") -> Lines:
    """We answer AUTHENTICATION_FAILED. *sentence*: of `Believing.verify`."""
    secret = (f"the secret is that of {secret_name}",) if secret_name else ()
    return (
        f"the peer could not prove that it is {identities.text(sent)}: {sentence}",
        f"looked up: {identities.text(looked_up)}; sent by the peer: {identities.text(sent)}",
        *secret,
        *(("hint: most likely the two ends have different secrets",) if secret_name else ()),
    )


def refused_by_peer(ours: Id, asked: Id | None, kind: str, secret_name: str = "") -> Lines:
    """The peer answered AUTHENTICATION_FAILED; it does not say why."""
    match kind:
        case "psk":
            hint = f"the secrets differ ({secret_name} here), or the peer has none for {identities.text(ours)}"
        case "certificate":
            hint = "the peer does not trust our certificate's authority, or the certificate does not name this identity"
        case _:
            hint = "the peer does not have our public key for this identity"
    return (
        "the peer did not accept who we are (AUTHENTICATION_FAILED; it does not say why)",
        f"we are {identities.text(ours)} and asked for {identities.text(asked)}, proved by {_proof_word(kind)}",
        f"hint: {hint}; or it knows nobody of that name: its log tells",
    )


def other_identity(expected: Id, sent: Id) -> Lines:
    """The peer proved to be somebody, but not whom we asked for."""
    return (
        f"expected the peer to be {identities.text(expected)}, found {identities.text(sent)}",
        f'hint: remote_id = "{identities.text(sent)}" if that is whom you mean',
    )


def other_method(found: int, expected_kind: str) -> Lines:
    """AUTH of a kind that is not configured for the peer."""
    by = _METHOD_WORDS.get(found, f"method {found}")
    return (
        f"the peer proves itself by {by}, and {_proof_word(expected_kind)} is configured for it",
        "hint: `remote_auth` says what is expected of the peer",
    )


_METHOD_WORDS: Final[dict[int, str]] = {
    AuthMethod.PSK: "a shared secret",
    AuthMethod.RSA_SHA1: "an RSA signature",
    AuthMethod.DIGITAL_SIGNATURE: "a signature",
    AuthMethod.ECDSA_SHA256_P256: "an ECDSA signature",
    AuthMethod.ECDSA_SHA384_P384: "an ECDSA signature",
    AuthMethod.ECDSA_SHA512_P521: "an ECDSA signature",
    AuthMethod.NULL: "nothing (NULL)",
}


def _proof_word(kind: str) -> str:
    return {"psk": "a shared secret", "certificate": "a certificate", "public-key": "a public key"}.get(kind, kind)


# ---------------------------------------------------------------- no answer, not now, not here


def no_answer(to: str, port: int, seconds: float, *, answered: bool, icmp: str = "") -> Lines:
    """
    Nothing came back.

    Args:
        to: the peer's address as text. port: of UDP. seconds: for how long it was tried.
        answered: whether the peer had answered the first message, on IKE's port.
        icmp: what a router said ("host unreachable"), or empty.
    """
    first = f"nothing came back from {to}, UDP port {port}, for {seconds:.0f} s"
    if icmp:
        return (first, f"the network says: {icmp}", "hint: is the address right, and does the peer run?")
    if answered:
        return (
            first,
            "the peer answered the first message (IKE_SA_INIT), and not what followed",
            "hint: a firewall may let IKE's first port (500) through and not 4500, or large packets are lost on the way",
        )
    return (
        first,
        "hint: is the peer up, and do firewalls on the way (here, there, at the provider) let UDP 500 and 4500 through?",
    )


def nat_found(word: str) -> Lines:
    """There is a NAT and `encapsulation = "raw"` forbids UDP."""
    where = {"us": "on our side", "peer": "on the peer's side", "both": "on both sides"}.get(word, "between us")
    return (
        f"there is a NAT {where}, and protocol 50 does not pass one",
        'hint: encapsulation = "auto" lets ESP go in UDP where a NAT is found',
    )


_LATER: Final = {
    "eap": ("EAP", "the peer wants to prove itself by EAP (its first IKE_AUTH has no AUTH)", "psk, certificate and public-key"),
    "mobike": ("MOBIKE", "the peer wants to change addresses by MOBIKE", "a new connection at the new address"),
    "redirect": ("redirection", "the peer sends us to another gateway", "the other gateway's address as `remote`"),
    "ppk": ("PPK", "the peer insists on a post-quantum preshared key (USE_PPK)", "psk without PPK"),
    "additional-ke": ("several key exchanges", "the peer insists on additional key exchanges (ML-KEM)", "one group alone"),
    "iptfs": ("IP-TFS", "the peer wants aggregated and fragmented ESP (USE_AGGFRAG)", "ESP without it"),
    "ikev1": ("IKEv1", "the peer speaks IKE version 1", "IKEv2 on the peer (Cisco: crypto ikev2, MikroTik: exchange-mode=ike2)"),
    "ah": ("AH", "the peer wants AH, which is not ESP", "ESP"),
    "ipcomp": ("IPComp", "the peer wants compression", "ESP without compression"),
    "null-auth": ("NULL authentication", "the peer does not want to prove who it is", "psk, certificate and public-key"),
    "hash-and-url": (
        "hash and URL",
        "the peer sends the address of its certificate in place of it",
        "certificates in the message",
    ),
    "config-payload": ("configuration payloads", "the peer wants an address from us", "addresses configured on the peer"),
}
Later = Literal[
    "eap",
    "mobike",
    "redirect",
    "ppk",
    "additional-ke",
    "iptfs",
    "ikev1",
    "ah",
    "ipcomp",
    "null-auth",
    "hash-and-url",
    "config-payload",
]


def unsupported(what: Later) -> Lines:
    """What comes later, or never."""
    name, sentence, way_out = _LATER[what]
    return (f"{sentence}; ginnel does not do {name}", f"hint: use {way_out}")


def critical_payload(kind: int, *, by_peer: bool) -> Lines:
    """UNSUPPORTED_CRITICAL_PAYLOAD, from either side."""
    who = (
        "the peer does not know a payload of ours"
        if by_peer
        else "the peer sent a payload that must be understood and is not known"
    )
    return (f"{who}: type {kind} (UNSUPPORTED_CRITICAL_PAYLOAD)",)


def malformed(sentence: str, *, by_peer: bool) -> Lines:
    """INVALID_SYNTAX. *sentence*: what `wire` found, when it was we who refused."""
    if by_peer:
        return ("the peer could not read our message (INVALID_SYNTAX)",)
    return (f"the peer's message is malformed: {sentence}",)


def busy(notify: str) -> Lines:
    """TEMPORARY_FAILURE or NO_ADDITIONAL_SAS: tried again later."""
    if notify == "NO_ADDITIONAL_SAS":
        return ("the peer takes no further child SA in this IKE SA (NO_ADDITIONAL_SAS)", "a new IKE SA is made instead")
    return (f"the peer cannot do it just now ({notify}); it is tried again",)


def other_error(name: str) -> Lines:
    """Any other error notification from the peer."""
    return (f"the peer refused with {name}",)
