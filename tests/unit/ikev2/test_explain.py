"""What a person reads when a negotiation fails, word by word."""

from __future__ import annotations

import pytest

from ginnel.ikev2 import explain, identities, proposals, selectors
from ginnel.ikev2.proposals import Difference
from ginnel.wire.ikev2 import AuthMethod, Id, Proposal, Selector, Transform


def one(text: str) -> Selector:
    return selectors.parse_words(text).at(bytes((192, 0, 2, 1)))


def who(text: str) -> Id:
    found = identities.parse(text)
    assert found is not None
    return found


def refused(what: explain.What, theirs: tuple[str, ...], ours: tuple[str, ...]) -> tuple[str, ...]:
    offered, configured = proposals.parse_list(theirs, what), proposals.parse_list(ours, what)
    difference = proposals.select(offered, configured, ke=True)
    assert isinstance(difference, Difference)
    return explain.no_proposal(what, offered, configured, difference)


def test_proposals_that_do_not_meet() -> None:
    assert refused("ike", ("aes128-sha1-modp1024",), ("aes256gcm16-prfsha256-x25519", "aes128-sha256-modp2048")) == (
        "no proposal in common for the IKE SA: we refused what the peer offers",
        "the peer offers: aes128-sha1-modp1024",
        "we take: aes256gcm16-prfsha256-x25519",
        "we take: aes128-sha256-modp2048",
        "nearest: the peer's aes128-sha1-modp1024 and our aes128-sha256-modp2048",
        "  they differ in integrity: the peer's sha1, ours sha256",
        'hint: ike = "aes128-sha1-modp1024" would meet the peer\'s offer',
        "  but: 1024-bit MODP groups can be broken by those who can pay for it: use x25519, ecp256 or modp2048",
        "  but: SHA-1 is kept only for old devices: use sha256",
    )


def test_of_several_the_hint_takes_what_is_sound() -> None:
    lines = refused("ike", ("aes128-aes256-sha1-sha512-modp1024-ecp521",), ("aes256gcm16-prfsha256-x25519",))
    assert 'hint: ike = "aes128-sha512-ecp521" would meet the peer\'s offer' in lines
    assert not any(line.startswith("  but") for line in lines)


def test_a_group_of_pfs_that_differs() -> None:
    lines = refused("esp", ("aes256gcm16-ecp521",), ("aes256gcm16-x25519",))
    assert "  they differ in group: the peer's ecp521, ours x25519" in lines
    assert explain.pfs_mismatch(
        proposals.parse_list(["aes256gcm16-ecp521"], "esp"), proposals.parse_list(["aes256gcm16"], "esp")
    ) == (
        "the child SA's proposals meet in all but the key exchange (PFS): its rekeying would fail, so it is refused now",
        "the peer's groups: ecp521",
        "our groups: none",
        'hint: the groups of `esp` (PFS) must have one in common, or both sides "none": ecp521',
    )


def test_what_cannot_be_done_here_is_named() -> None:
    offered = (Proposal(1, 1, b"", (Transform(1, 3), Transform(2, 5), Transform(3, 12), Transform(4, 14))),)
    configured = proposals.default_ike()
    difference = proposals.select(offered, configured, ke=True)
    assert isinstance(difference, Difference)
    lines = explain.no_proposal("ike", offered, configured, difference)
    assert "  they differ in encryption: the peer's 3des, ours aes256, aes128" in lines
    assert lines[-1] == "hint: the peer has to offer one of ours; these of its algorithms cannot be done here: 3des"


def test_a_kind_of_transform_that_is_not_known_is_named() -> None:
    ours = proposals.parse_list(["aes256gcm16-prfsha256-x25519"], "ike")
    strange = (Proposal(1, 1, b"", (*ours[0].transforms, Transform(6, 36))),)
    difference = proposals.select(strange, ours, ke=True)
    assert isinstance(difference, Difference)
    lines = explain.no_proposal("ike", strange, ours, difference)
    assert "  the peer's asks for what is not known here: transform type 6 36" in lines


def test_a_long_offer_is_cut() -> None:
    many = tuple(f"aes256-sha256-modp{bits}" for bits in (2048, 3072, 4096)) * 4
    lines = refused("ike", many, ("aes256gcm16-prfsha256-x25519",))
    assert "the peer offers: 4 more" in lines
    assert sum(line.startswith("the peer offers: aes") for line in lines) == explain.SHOWN_MAX


def test_a_wide_proposal_is_cut() -> None:
    wide = (Proposal(1, 1, b"", tuple(Transform(1, 1000 + number) for number in range(64))),)
    difference = proposals.select(wide, proposals.default_ike(), ke=True)
    assert isinstance(difference, Difference)
    assert all(len(line) < 1_000 for line in explain.no_proposal("ike", wide, proposals.default_ike(), difference))


def test_a_peer_that_refuses_says_nothing_and_the_lines_say_that() -> None:
    lines = explain.proposal_refused("ike", proposals.parse_list(["aes256gcm16-prfsha256-x25519"], "ike"))
    assert lines == (
        "the peer takes none of our proposals for the IKE SA (NO_PROPOSAL_CHOSEN; it does not say what it would take)",
        "we offered: aes256gcm16-prfsha256-x25519",
        "hint: name in `ike` what the peer is configured for; its own log may show both sides",
        "hint: a peer that has nothing configured for our address (or not yet) answers the same",
    )
    assert "PFS" in explain.proposal_refused("esp", proposals.default_esp())[-1]
    assert "PFS" not in explain.proposal_refused("esp", proposals.parse_list(["aes256gcm16"], "esp"))[-1]


def test_an_answer_that_was_not_offered() -> None:
    offered = proposals.parse_list(["aes256gcm16-prfsha256-x25519"], "ike")
    answer = (Proposal(1, 1, b"", (Transform(1, 20, 256), Transform(2, 5), Transform(4, 19))),)
    difference = proposals.check_answer(answer, offered, ke=True)
    assert isinstance(difference, Difference)
    assert explain.bad_answer("ike", answer, offered, difference) == (
        "the peer's choice for the IKE SA is not one of our proposals",
        "the peer chose: aes256gcm16-prfsha256-ecp256",
        "we offered: aes256gcm16-prfsha256-x25519",
        "nearest: the peer's aes256gcm16-prfsha256-ecp256 and our aes256gcm16-prfsha256-x25519",
        "  they differ in group: the peer's ecp256, ours x25519",
    )


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        (19, "hint: put ecp256 first among the groups of `ike`"),
        (20, "hint: add ecp384 to `ike`"),
        (2, "hint: add modp1024 to `ike`, but: 1024-bit MODP groups can be broken"),
        (36, "hint: that group cannot be done here: the peer has to take one of ours"),
        (99, "hint: that group cannot be done here: the peer has to take one of ours"),
    ],
)
def test_a_group_that_the_peer_insists_on(wanted: int, hint: str) -> None:
    lines = explain.group_refused(wanted, proposals.parse_list(["aes256gcm16-prfsha256-x25519-ecp256"], "ike"))
    assert lines[1] == "we offered x25519, ecp256"
    assert lines[2].startswith(hint)


def test_selectors_that_have_nothing_in_common() -> None:
    here, there = one("dynamic[gre]"), one("198.51.100.2[gre]")
    assert explain.selectors_refused((one("10.1.0.0/16"),), (there,), (here,), (there,)) == (
        "the traffic selectors have nothing in common (TS_UNACCEPTABLE): we refused what the peer offers",
        "the peer offers: ours 10.1.0.0/16 === its 198.51.100.2[gre]",
        "we take: ours 192.0.2.1[gre] === its 198.51.100.2[gre]",
        "nothing in common for our side: the addresses differ",
        'hint: local_ts = "10.1.0.0/16" and remote_ts = "198.51.100.2[gre]" would meet it',
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "why"),
    [
        ("10.0.0.0/8", "::/0", "one is IPv4, the other IPv6"),
        ("10.0.0.0/8[tcp]", "10.0.0.0/8[udp]", "the protocols differ"),
        ("10.0.0.0/8[tcp/80]", "10.0.0.0/8[tcp/443]", "the ports differ"),
    ],
)
def test_how_selectors_differ(theirs: str, ours: str, why: str) -> None:
    lines = explain.selectors_refused((one(theirs),), (one("10.9.9.9"),), (one(ours),), (one("10.9.9.9"),))
    assert f"nothing in common for our side: {why}" in lines


def test_selectors_that_the_peer_refuses() -> None:
    here, there = (one("dynamic[gre]"),), (one("198.51.100.2[gre]"),)
    assert "there is a NAT between us" in explain.selectors_refused_by_peer(here, there, transport=True, nat=True)[-1]
    assert "the other way round" in explain.selectors_refused_by_peer(here, there, transport=True, nat=False)[-1]


def test_modes() -> None:
    assert explain.mode_mismatch(ours_transport=True, by_peer=True)[0] == (
        "the modes differ: we are configured for transport mode, the peer answers with tunnel mode"
    )
    assert 'mode = "transport"' in explain.mode_mismatch(ours_transport=False, by_peer=False)[1]


def test_a_wrong_secret_says_which_identity_was_looked_up_and_never_the_secret() -> None:
    lines = explain.not_believed("the secret does not give its AUTH", who("sun.example.org"), who("moon"), "/etc/ginnel/sun.psk")
    assert lines == (
        "the peer could not prove that it is sun.example.org: the secret does not give its AUTH",
        "looked up: moon; sent by the peer: sun.example.org",
        "the secret is that of /etc/ginnel/sun.psk",
        "hint: most likely the two ends have different secrets",
    )
    assert explain.not_believed("no", who("sun"), None)[1] == "looked up: %any; sent by the peer: sun"


def test_a_peer_that_does_not_believe_us() -> None:
    lines = explain.refused_by_peer(who("moon"), who("sun"), "psk", "/etc/ginnel/sun.psk")
    assert lines[1] == "we are moon and asked for sun, proved by a shared secret"
    assert "/etc/ginnel/sun.psk" in lines[2]
    for kind in ("certificate", "public-key"):
        assert kind.replace("-", " ") in explain.refused_by_peer(who("moon"), None, kind)[2]


def test_an_identity_that_nobody_has() -> None:
    assert explain.unknown_identity(who("CN=evil"), [who("sun"), None]) == (
        "nothing is configured for a peer that calls itself CN=evil",
        "configured from its address: sun, %any",
        'hint: remote_id = "CN=evil", or change the identity on the peer',
    )
    assert explain.unknown_identity(who("a"), [], who("b"))[1] == "it asks for us as b"
    assert explain.other_asked_for(who("sun"), who("moon"), [who("mars")]) == (
        "sun asks for us as moon, who we are not",
        "we are: mars",
        'hint: local_id = "moon", or change the identity that the peer expects',
    )
    assert explain.other_identity(who("sun"), who("mars"))[0] == "expected the peer to be sun, found mars"


def test_a_method_that_was_not_expected() -> None:
    assert explain.other_method(AuthMethod.PSK, "certificate")[0] == (
        "the peer proves itself by a shared secret, and a certificate is configured for it"
    )
    assert "method 99" in explain.other_method(99, "psk")[0]


def test_no_answer() -> None:
    silent = explain.no_answer("192.0.2.2", 500, 60.2, answered=False)
    assert silent[0] == "nothing came back from 192.0.2.2, UDP port 500, for 60 s"
    assert "firewalls" in silent[1]
    later = explain.no_answer("192.0.2.2", 4500, 60, answered=True)
    assert "the peer answered the first message" in later[1]
    assert "through and not 4500, or large packets" in later[2]
    told = explain.no_answer("192.0.2.2", 500, 60, answered=False, icmp="port unreachable")
    assert told[1] == "the network says: port unreachable"


def test_everything_that_comes_later_has_its_sentence_and_a_way_out() -> None:
    for what in ("eap", "mobike", "redirect", "ppk", "additional-ke", "iptfs", "ikev1", "ah", "ipcomp", "null-auth"):
        sentence, hint = explain.unsupported(what)
        assert "ginnel does not do" in sentence
        assert hint.startswith("hint: use ")


def test_the_rest() -> None:
    assert "on our side" in explain.nat_found("us")[0]
    assert "type 200" in explain.critical_payload(200, by_peer=False)[0]
    assert explain.malformed("expected 4 bytes at offset 4, found 3", by_peer=False)[0].endswith("offset 4, found 3")
    assert "INVALID_SYNTAX" in explain.malformed("", by_peer=True)[0]
    assert "tried again" in explain.busy("TEMPORARY_FAILURE")[0]
    assert "new IKE SA" in explain.busy("NO_ADDITIONAL_SAS")[1]
    assert explain.other_error("STATE_NOT_FOUND") == ("the peer refused with STATE_NOT_FOUND",)
    widened = explain.selectors_widened((one("0.0.0.0/0"),), (one("10.0.0.0/8"),))
    assert widened[1:] == ("the peer answered: 0.0.0.0/0", "we offered: 10.0.0.0/8")
