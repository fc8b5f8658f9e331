"""
Chapter 03, IPsec: what the two ends of a protected tunnel negotiate, and how they prove who they are.

Words that are not known here (another maker's algorithm, an identity that cannot be read) are held against nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ginnel.config.node import IpsecConfig
from ginnel.errors import UsageError
from ginnel.ikev2 import identities, proposals, selectors
from ginnel.network.findings import Finding
from ginnel.network.lint.pairs import Pair


def _protection(pair: Pair) -> Iterator[Finding]:
    one, other = pair.tunnel.config.ipsec, pair.other.config.ipsec
    if (one is None) == (other is None):
        return
    has, lacks = (pair.near, pair.far) if one is not None else (pair.far, pair.near)
    yield pair.finding(
        "G0321",
        f"{has.name} protects it by IPsec, {lacks.name} does not",
        f"{has.name} drops what comes in clear, {lacks.name} what does not",
        f"[ipsec] at {lacks.name} as well",
    )


def _both(pair: Pair) -> tuple[IpsecConfig, IpsecConfig] | None:
    one, other = pair.tunnel.config.ipsec, pair.other.config.ipsec
    return (one, other) if one is not None and other is not None else None


def _agreement(pair: Pair) -> Iterator[Finding]:
    """What IKE negotiates."""
    if (found := _both(pair)) is None:
        return
    one, other = found
    if one.mode != other.mode:
        yield pair.finding(
            "G0322",
            f"{one.mode} mode at {pair.near.name}, {other.mode} mode at {pair.far.name}",
            "the child SA is refused, or made in a mode that one of them does not mean",
            f'mode = "{one.mode}" at both ends',
        )
    for words, ours, theirs, defaults in (
        ("ike", one.ike_proposals, other.ike_proposals, proposals.default_ike),
        ("esp", one.esp_proposals, other.esp_proposals, proposals.default_esp),
    ):
        try:
            mine = proposals.parse_list(ours, "ike" if words == "ike" else "esp") if ours else defaults()
            other_s = proposals.parse_list(theirs, "ike" if words == "ike" else "esp") if theirs else defaults()
        except UsageError:
            continue  # of an algorithm that is not known here nothing can be said
        if isinstance(proposals.select(mine, other_s, ke=words == "ike"), proposals.Difference):
            yield pair.finding(
                "G0324",
                f"no {words.upper()} proposal in common: {_list(ours)} and {_list(theirs)}",
                "the answer is NO_PROPOSAL_CHOSEN",
                f"{words}_proposals = [{(ours or theirs)[0]!r}] at both ends",
            )
    if one.start == "wait" and other.start == "wait":
        yield pair.finding(
            "G0328",
            "both ends wait for the other to begin",
            "nobody does",
            f'start = "start" at {pair.near.name if pair.near.behind_nat else pair.far.name}',
        )


def _list(texts: tuple[str, ...]) -> str:
    return ", ".join(texts) or "the usual ones"


def _proofs(pair: Pair) -> Iterator[Finding]:
    """Who each end says it is, and how it proves it."""
    if (found := _both(pair)) is None:
        return
    for one, other, near, far in (
        (found[0], found[1], pair.near, pair.far),
        (found[1], found[0], pair.far, pair.near),
    ):
        if one.local_id and other.remote_id and not _same_id(one.local_id, other.remote_id):
            yield pair.finding(
                "G0325",
                f"{near.name} calls itself {one.local_id}, and {far.name} expects {other.remote_id}",
                "AUTHENTICATION_FAILED",
                f"at {far.name}: remote_id = {one.local_id!r}",
            )
        expected = other.remote_auth or other.auth
        if one.auth != expected and "psk" in (one.auth, expected):
            yield pair.finding(
                "G0326",
                f"{near.name} proves itself by {one.auth}, and {far.name} expects {expected}",
                "AUTHENTICATION_FAILED",
                "the same auth at both ends",
            )
    psk, theirs = pair.tunnel.psk, pair.other.psk
    if psk not in ("", "?") and theirs not in ("", "?") and psk != theirs:
        yield pair.finding(
            "G0327", "different preshared keys", "AUTHENTICATION_FAILED", "the same bytes in the files of both ends"
        )


def _same_id(one: str, other: str) -> bool:
    try:
        mine, theirs = identities.parse(one), identities.parse(other)
    except UsageError:
        return one == other
    return mine is None or theirs is None or identities.same(mine, theirs)


def _selectors(pair: Pair) -> Iterator[Finding]:
    """What goes through the SA, as each end has it."""
    if (found := _both(pair)) is None or found[0].mode != found[1].mode:
        return
    for one, other, near, far in (
        (found[0], found[1], pair.near, pair.far),
        (found[1], found[0], pair.far, pair.near),
    ):
        if not one.local_ts or not other.remote_ts:
            continue  # the default of either is what the other's tunnel needs
        try:
            mine = {selectors.parse_words(text) for text in one.local_ts}
            theirs = {selectors.parse_words(text) for text in other.remote_ts}
        except UsageError:
            continue
        if mine != theirs and not any(each.dynamic for each in mine | theirs):
            yield pair.finding(
                "G0323",
                f"{near.name} has {', '.join(one.local_ts)} on its side, {far.name} expects {', '.join(other.remote_ts)} there",
                "TS_UNACCEPTABLE, or an SA for less than is meant",
                f"at {far.name}: remote_ts = {', '.join(one.local_ts)}",
            )


RULES: tuple[Callable[[Pair], Iterator[Finding]], ...] = (_protection, _agreement, _proofs, _selectors)
