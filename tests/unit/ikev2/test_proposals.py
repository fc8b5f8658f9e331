"""Proposals: words both ways, the default offer, and the choice from both sides."""

from __future__ import annotations

from typing import Literal

import pytest

from ginnel.errors import UsageError
from ginnel.ikev2 import algorithms, proposals
from ginnel.ikev2.proposals import Chosen, Difference
from ginnel.wire.ikev2 import Proposal, Transform, TransformType

ENCR, PRF, INTEG, KE, ESN = TransformType
What = Literal["ike", "esp"]


def ike(*texts: str) -> tuple[Proposal, ...]:
    return proposals.parse_list(texts, "ike")


def esp(*texts: str) -> tuple[Proposal, ...]:
    return proposals.parse_list(texts, "esp")


def test_words_become_transforms() -> None:
    assert proposals.parse_words("aes256gcm16-prfsha384-x25519", "ike") == Proposal(
        1, 1, b"", (Transform(ENCR, 20, 256), Transform(PRF, 6), Transform(KE, 31))
    )
    assert proposals.parse_words("aes128-sha256-modp2048", "ike") == Proposal(
        1, 1, b"", (Transform(ENCR, 12, 128), Transform(INTEG, 12), Transform(PRF, 5), Transform(KE, 14))
    )
    assert proposals.parse_words("chacha20poly1305-none-esn", "esp") == Proposal(
        1, 3, b"", (Transform(ENCR, 28), Transform(ESN, 1))
    )


@pytest.mark.parametrize(
    ("what", "text", "same"),
    [
        ("ike", "aes256gcm16-prfsha384-x25519", ""),
        ("ike", "AES256GCM128-PRFSHA256-Curve25519!", "aes256gcm16-prfsha256-x25519"),
        ("ike", "aes-sha2_256-modp3072", "aes128-sha256-modp3072"),
        ("ike", "aes128-aes256-sha256-sha512-x25519-ecp384", ""),
        ("ike", "aes256-sha512-prfsha256-ecp521", ""),
        ("ike", "aes256gcm-sha384-ecp384", "aes256gcm16-prfsha384-ecp384"),
        ("ike", "aes128-sha1-modp1024", ""),
        ("esp", "aes128gcm128-x25519", "aes128gcm16-x25519"),
        ("esp", "aes256gcm16-aes128gcm16-ecp256-none-esn-noesn", ""),
        ("esp", "aes128gcm16-modpnone", "aes128gcm16"),
        ("esp", "aes256-sha256-noesn", "aes256-sha256"),
        ("esp", "aes256-sha384-esn", ""),
    ],
)
def test_words_come_back(what: What, text: str, same: str) -> None:
    found = proposals.parse_words(text, what)
    assert proposals.words(found) == (same or text)
    assert proposals.parse_words(proposals.words(found), what) == found


@pytest.mark.parametrize(
    ("what", "text", "sentence"),
    [
        ("ike", "", "'' is not an algorithm that is known"),
        ("ike", "aes256gcm17-prfsha256-x25519", "'aes256gcm17' is not an algorithm that is known"),
        ("ike", "aes256gcm16-x25519", "an AEAD needs a PRF beside it in IKE"),
        ("ike", "aes256-sha257-x25519", "did you mean sha256?"),
        ("esp", "aes256gcm-x2551", "did you mean x25519?"),
        ("ike", "aes256", "aes256 needs an integrity algorithm beside it"),
        ("ike", "aes256-sha256", "IKE needs a key exchange"),
        ("ike", "aes256-x25519-prfsha256", "aes256 needs an integrity algorithm beside it"),
        ("ike", "prfsha256-x25519", "expected an encryption"),
        ("ike", "aes256gcm16-aes256-sha256-x25519", "do not go into one proposal"),
        ("ike", "aes256-sha256-none", "IKE needs a key exchange; 'none' is for ESP"),
        ("ike", "aes256-sha256-x25519-esn", "'esn' is ESP's"),
        ("ike", "3des-sha256-modp2048", "'3des' cannot be done here"),
        ("ike", "aes256-md5-modp2048", "'md5' cannot be done here"),
        ("esp", "null-sha256", "'null' cannot be done here"),
        ("esp", "aes256gcm12-x25519", "'aes256gcm12' cannot be done here"),
        ("esp", "aes256gcm16-prfsha256", "'prfsha256' is IKE's"),
        ("esp", "aes256gcm16-sha256", "aes256gcm16 needs no integrity algorithm beside it"),
        ("esp", "aes128", "aes128 needs an integrity algorithm beside it"),
        ("esp", "aes256gcm16-mlkem768", "'mlkem768' cannot be done here"),
    ],
)
def test_words_that_make_no_proposal(what: What, text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        proposals.parse_words(text, what)


def test_the_default_offer_begins_with_the_best_and_has_nothing_weak() -> None:
    offered = proposals.default_ike()
    assert [one.number for one in offered] == [1, 2, 3]
    assert proposals.words(offered[0]) == "aes256gcm16-prfsha384-x25519-ecp384"
    assert proposals.groups(offered) == (31, 20, 19, 14)
    child = proposals.default_esp()
    assert proposals.groups(child) == (31, 19, 20, 14, 0)
    for one in (*offered, *child):
        assert all(algorithms.supported(transform) and not algorithms.weakness(transform) for transform in one.transforms)


def test_every_word_of_the_table_is_its_own() -> None:
    words = [one.word for one in algorithms.TABLE]
    assert len(set(words)) == len(words)
    transforms = [one.transform for one in algorithms.TABLE]
    assert len(set(transforms)) == len(transforms)
    for one in algorithms.TABLE:
        assert algorithms.by_word(one.word.upper()) is one
        assert algorithms.word(one.transform) == one.word


def test_what_is_weak_says_so() -> None:
    weak = {one.word for one in algorithms.TABLE if one.weak and one.engine}
    assert weak == {"sha1", "prfsha1", "modp1024", "modp1536"}


def test_unknown_numbers_are_named_by_numbers() -> None:
    assert algorithms.word(Transform(ENCR, 40, 256)) == "encryption 40/256"
    assert algorithms.word(Transform(6, 35)) == "transform type 6 35"
    assert algorithms.group_word(99) == "group 99"
    assert algorithms.group_word(0) == "none"
    # A key length where there is none is another algorithm (RFC 7634).
    assert not algorithms.supported(Transform(ENCR, 28, 256))
    assert not algorithms.supported(Transform(ENCR, 20))


# ---------------------------------------------------------------- the responder


def chosen(
    offered: tuple[Proposal, ...], configured: tuple[Proposal, ...], *, ke: bool = True, group: int | None = None
) -> Chosen:
    found = proposals.select(offered, configured, ke=ke, ke_group=group)
    assert isinstance(found, Chosen)
    return found


def difference(offered: tuple[Proposal, ...], configured: tuple[Proposal, ...], *, ke: bool = True) -> Difference:
    found = proposals.select(offered, configured, ke=ke)
    assert isinstance(found, Difference)
    return found


def test_the_configured_order_decides_and_the_answer_has_the_offers_number() -> None:
    found = chosen(ike("aes128-sha256-modp2048", "aes256gcm16-prfsha256-ecp256"), ike("aes256gcm16-prfsha256-x25519-ecp256"))
    assert found.proposal == Proposal(2, 1, b"", (Transform(ENCR, 20, 256), Transform(PRF, 5), Transform(KE, 19)))
    assert (found.suite, found.hash, found.group) == ("aes256gcm16", "sha256", 19)
    assert (found.encryption_key_bytes, found.integrity_key_bytes) == (36, 0)
    assert found.text == "aes256gcm16-prfsha256-ecp256"


def test_encryption_with_integrity() -> None:
    found = chosen(ike("aes256-aes128-sha512-sha256-modp2048"), ike("aes128-sha256-sha512-modp2048"))
    assert (found.suite, found.hash) == ("aes128-sha256", "sha256")
    assert (found.encryption_key_bytes, found.integrity_key_bytes) == (16, 32)
    assert found.text == "aes128-sha256-modp2048"


def test_a_group_that_was_sent_already_is_preferred_within_a_proposal() -> None:
    offered, configured = ike("aes256gcm16-prfsha256-ecp256-x25519"), ike("aes256gcm16-prfsha256-x25519-ecp256")
    assert chosen(offered, configured).group == 31
    assert chosen(offered, configured, group=19).group == 19
    # But not before a proposal that we prefer, nor one that is not in the offer.
    assert chosen(offered, ike("aes256gcm16-prfsha256-x25519", "aes256gcm16-prfsha256-ecp256"), group=19).group == 31
    assert chosen(offered, configured, group=14).group == 31


def test_a_child_without_groups_has_no_pfs_and_ours_must_allow_it() -> None:
    strongswan = esp("aes128-aes192-aes256-sha256-sha384-sha512-sha1", "aes128gcm16-aes192gcm16-aes256gcm16")
    found = chosen(strongswan, proposals.default_esp())
    assert (found.text, found.group, found.esn) == ("aes256gcm16", 0, False)
    # The kind that the offer leaves out is left out of the answer.
    assert found.proposal.transforms == (Transform(ENCR, 20, 256), Transform(ESN, 0))
    # Where the offer says "none" outright, the answer does.
    outright = (Proposal(1, 3, b"", (Transform(ENCR, 20, 256), Transform(KE, 0), Transform(ESN, 0))),)
    assert chosen(outright, proposals.default_esp()).proposal == outright[0]
    missing = difference(strongswan, esp("aes256gcm16-x25519"))
    assert (missing.kind, missing.theirs_of_kind, missing.ours_of_kind) == (KE, (Transform(KE, 0),), (Transform(KE, 31),))


def test_the_child_of_ike_auth_has_no_groups() -> None:
    found = chosen(esp("aes256gcm16-ecp521"), esp("aes256gcm16-x25519"), ke=False)
    assert (found.group, found.text) == (0, "aes256gcm16")
    assert proposals.without_ke(esp("aes256gcm16-x25519-none-esn"))[0].transforms == (Transform(ENCR, 20, 256), Transform(ESN, 1))


def test_extended_sequence_numbers() -> None:
    assert chosen(esp("aes256gcm16-esn-noesn"), esp("aes256gcm16-esn-noesn")).esn
    assert not chosen(esp("aes256gcm16-noesn"), esp("aes256gcm16-esn-noesn")).esn
    # An offer without a word about it means none.
    silent = (Proposal(1, 3, b"spi!", (Transform(ENCR, 20, 256),)),)
    found = chosen(silent, esp("aes256gcm16"))
    assert not found.esn
    assert found.proposal == silent[0]
    assert difference(silent, esp("aes256gcm16-esn")).kind == ESN


def test_an_aead_with_integrity_is_not_taken_and_other_encryption_not_without() -> None:
    both = (Proposal(1, 3, b"", (Transform(ENCR, 20, 256), Transform(INTEG, 12), Transform(ESN, 0))),)
    assert difference(both, esp("aes256gcm16")).kind == INTEG
    none = (Proposal(1, 3, b"", (Transform(ENCR, 20, 256), Transform(INTEG, 0), Transform(ESN, 0))),)
    assert chosen(none, esp("aes256gcm16")).proposal.transforms == none[0].transforms
    naked = (Proposal(1, 3, b"", (Transform(ENCR, 12, 256), Transform(INTEG, 0), Transform(ESN, 0))),)
    assert difference(naked, esp("aes256-sha256")).kind == INTEG


def test_a_proposal_with_a_kind_that_is_not_known_is_never_taken() -> None:
    strange = Proposal(1, 1, b"", (*ike("aes256gcm16-prfsha256-x25519")[0].transforms, Transform(6, 36)))
    known = proposals.numbered(ike("aes256gcm16-prfsha256-x25519"))
    assert difference((strange,), known).kind == 0
    plain = Proposal(2, 1, b"", known[0].transforms)
    assert chosen((strange, plain), known).proposal.number == 2
    # A PRF does not belong into ESP.
    assert (
        difference((Proposal(1, 3, b"", (*esp("aes256gcm16")[0].transforms, Transform(PRF, 5))),), esp("aes256gcm16")).kind == 0
    )


def test_a_transform_that_is_not_known_is_passed_over() -> None:
    strange = Transform(ENCR, 20, 256, ((0x8007, b"\0\1"),))
    rest = ike("aes256gcm16-prfsha256-x25519")[0].transforms
    offered = (Proposal(1, 1, b"", (strange, Transform(ENCR, 99), *rest)),)
    found = chosen(offered, ike("aes256gcm16-prfsha256-x25519"))
    assert found.proposal.transforms == rest
    assert difference((Proposal(1, 1, b"", (strange, *rest[1:])),), ike("aes256gcm16-prfsha256-x25519")).kind == ENCR


def test_what_the_engine_cannot_do_is_not_taken_though_it_were_configured() -> None:
    camellia = (Proposal(1, 3, b"", (Transform(ENCR, 23, 256), Transform(INTEG, 12), Transform(ESN, 0))),)
    assert difference(camellia, camellia).kind == ENCR


def test_the_nearest_difference_is_the_one_that_agrees_most() -> None:
    found = difference(
        ike("aes128-sha1-modp1024", "aes256-sha256-modp1024"),
        ike("aes256gcm16-prfsha256-x25519", "aes256-sha256-x25519-modp2048"),
    )
    assert (found.kind, found.met) == (KE, 3)
    assert found.theirs is not None
    assert found.theirs.number == 2
    assert found.ours is not None
    assert found.ours.number == 2
    assert difference((), proposals.default_ike()).theirs is None
    # Another protocol is not met, whatever its transforms are.
    assert difference((Proposal(1, 2, b"abcd", (Transform(INTEG, 12),)),), esp("aes256gcm16")).kind == 0


# ---------------------------------------------------------------- the initiator


def answer(*transforms: Transform, number: int = 1) -> tuple[Proposal, ...]:
    return (Proposal(number, 1, b"", transforms),)


GCM, SHA256, X25519 = Transform(ENCR, 20, 256), Transform(PRF, 5), Transform(KE, 31)


def test_an_answer_is_one_of_ours() -> None:
    offered = ike("aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha256-x25519-ecp256")
    found = proposals.check_answer(answer(GCM, SHA256, X25519, number=2), offered, ke=True)
    assert isinstance(found, Chosen)
    assert (found.suite, found.group) == ("aes256gcm16", 31)
    # Whatever number the responder gives it.
    assert isinstance(proposals.check_answer(answer(GCM, SHA256, X25519), offered, ke=True), Chosen)


def test_the_answers_spi_is_kept() -> None:
    offered = proposals.numbered(esp("aes256gcm16-x25519-none"), spi=b"ours")
    theirs = (Proposal(1, 3, b"peer", (Transform(ENCR, 20, 256), Transform(ESN, 0))),)
    found = proposals.check_answer(theirs, offered, ke=True)
    assert isinstance(found, Chosen)
    assert (found.proposal.spi, found.group) == (b"peer", 0)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ((), 0),
        (answer(GCM, SHA256, X25519) * 2, 0),
        (answer(Transform(ENCR, 20, 128), SHA256, X25519), ENCR),
        (answer(GCM, SHA256, X25519, Transform(KE, 19)), KE),
        (answer(GCM, SHA256, Transform(KE, 14)), KE),
        (answer(GCM, SHA256), KE),
        (answer(GCM, X25519), PRF),
        (answer(GCM, SHA256, X25519, Transform(INTEG, 12)), INTEG),
        (answer(GCM, SHA256, X25519, Transform(9, 1)), 0),
    ],
)
def test_an_answer_that_is_none_of_ours(given: tuple[Proposal, ...], kind: int) -> None:
    found = proposals.check_answer(given, ike("aes256gcm16-prfsha256-x25519-ecp256"), ke=True)
    assert isinstance(found, Difference)
    assert found.kind == kind
