"""Stacks as people write them, and what they are told when one does not exist."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel import mtu
from ginnel.mtu.text import describe

WORDS = [
    *("gre", "gretap", "ip6gre", "ip6gretap", "gre-in-udp", "gretap-in-udp", "ipip", "sit", "ip6tnl", "eoip", "wireguard"),
    *(
        "key",
        "csum",
        "seq",
        "vlan",
        "udp",
        "encaplimit",
        "ipv4",
        "ipv6",
        "pppoe",
        "esp(aes256gcm16)",
        "esp(aes128-sha256,tunnel)",
    ),
]


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("wg", "wireguard"),
        ("GRE + Key", "gre+key"),
        ("gre+udp", "gre-in-udp"),
        ("gre+okey+ikey", "gre+key"),
        ("4in4", "ipip"),
        ("6in4", "sit"),
        ("4in6", "ip6tnl"),
        ("ip6gre", "gre+ipv6"),
        ("eoipv6", "eoip+ipv6"),
        ("gre+esp(aes256gcm16)", "gre+esp(aes256gcm16,transport)"),
        ("esp(aes256gcm16)", "esp(aes256gcm16,tunnel)"),
        ("esp(aes256gcm16,nat-t)", "esp(aes256gcm16)+udp"),
        ("esp(aes256gcm128-modp2048-esn)", "esp(aes256gcm16)"),
        ("esp(AES128-SHA256_96!)", "esp(aes128-sha1)"),
    ],
)
def test_other_words_for_the_same(text: str, same_as: str) -> None:
    assert mtu.parse(text).layers == mtu.parse(same_as).layers


@pytest.mark.parametrize(
    ("text", "families"),
    [
        ("gre", (4, 6)),
        ("ip6gre", (6,)),
        ("gre+encaplimit", (6,)),
        ("ipip", (4,)),
        ("sit", (4,)),
        ("ip6tnl", (6,)),
        ("wireguard+ipv6", (6,)),
        ("gre+ipv6+wireguard", (4, 6)),
        ("gre+ipv4+esp(aes256gcm16)", (4,)),
        ("gre+ipv4+esp(aes256gcm16,tunnel)", (4, 6)),
        ("ipip+gre", (4, 6)),
    ],
)
def test_what_a_stack_exists_over(text: str, families: tuple[mtu.Family, ...]) -> None:
    found = describe(text)
    assert found.families == families
    assert [found.over(family).family for family in families] == list(families)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a tunnel or an option on both sides of every +"),
        ("gre+", "expected a tunnel or an option on both sides of every +"),
        ("grr", "did you mean gre?"),
        ("gre+kay", "did you mean key?"),
        ("wiregaurd", "did you mean wireguard?"),
        ("zzz", "tunnels are gre,"),
        ("key", "an option stands behind the tunnel"),
        ("pppoe", "expected a tunnel before +pppoe"),
        ("pppoe+gre", "stands last"),
        ("gre(", "a bracket is not closed"),
        ("gre)", "the brackets do not match"),
        ("esp", "which suite?"),
        ("esp()", "'' is not an encryption that is known"),
        ("esp(aes256)", "aes256 needs an integrity algorithm beside it"),
        ("esp(aes256gcm16-sha256)", "an integrity algorithm is not wanted beside AEAD"),
        ("esp(aes256gcm17)", "'aes256gcm17' is not an encryption that is known"),
        ("esp(aes256-sha256-fast)", "'fast' is not known"),
        ("esp(aes256gcm16,transport)", "none lies inside"),
        ("gre+esp(aes256gcm16,transport,tunnel)", "exclude each other"),
        ("gre+esp(aes256gcm16,transprot)", "expected transport, tunnel or nat-t behind the suite, found 'transprot'"),
        ("gre+esp(aes256gcm16)+key", "esp has no such option"),
        ("esp(aes256gcm16)+esp(aes256gcm16)", "esp(...,tunnel)"),
        ("ipip+key", "fields of the GRE header, which ipip does not have"),
        ("ip6tnl+udp", "only GRE goes in UDP"),
        ("gre+vlan", "use gretap"),
        ("wireguard+key", "wireguard has no such option"),
        ("ip6gre+ipv4", "over IPv6 by its name"),
        ("gre+ipv4+ipv6", "exclude each other"),
        ("gre+ipv4+encaplimit", "an option of IPv6"),
        ("gre-in-udp+ipv6+encaplimit", "leave it out"),
        ("gre+ipv4+sit", "sit: it carries IPv6 alone"),
        ("gre+ipv6+ipip", "ipip: it carries IPv4 alone"),
        ("gre+ipv4+esp(aes256gcm16)+ipv6", "share one header"),
        ("+".join(["gre"] * 6), "Linux gives up after 5"),
        ("gre+" * 200, "characters"),
    ],
)
def test_mistakes_are_told_with_what_was_meant(text: str, said: str) -> None:
    with pytest.raises(mtu.StackError) as caught:
        mtu.parse(text)
    assert said in str(caught.value)


def test_a_family_that_a_stack_does_not_exist_over() -> None:
    with pytest.raises(mtu.StackError, match="ipip over IPv6: it is over IPv4"):
        mtu.parse("ipip", 6)


@pytest.mark.parametrize("link", [0, 67, 65_536, -1])
def test_links_that_are_none(link: int) -> None:
    with pytest.raises(mtu.StackError, match="expected 68 to 65535"):
        mtu.parse("gre").sum(link)


def test_a_link_that_leaves_nothing() -> None:
    with pytest.raises(
        mtu.StackError, match="a link of 90 leaves 66 bytes, and IP needs 68\n  hint: the link must be 92 or more"
    ):
        mtu.parse("gre").sum(90)
    assert mtu.parse("gre").sum(92).inner == 68


def test_below_1280_there_is_no_ipv6_inside() -> None:
    found = mtu.parse("gre").sum(1303)
    assert (found.inner, found.mss4, found.mss6) == (1279, 1239, None)
    assert found.notes == ("1279 is below 1280: there is no IPv6 inside (IPv4 works); it needs a link of 1304",)
    assert mtu.parse("gre").sum(1304).mss6 == 1220
    assert mtu.parse("ipip").sum(1299).notes == ()
    assert "nothing else is carried" in mtu.parse("sit").sum(1299).notes[0]
    assert "a link that carries IPv6 takes 1280 or more" in mtu.parse("ip6gre").sum(1279).notes[1]


def test_what_only_one_version_goes_through_has_one_mss() -> None:
    assert (mtu.parse("ipip").sum(1500).mss4, mtu.parse("ipip").sum(1500).mss6) == (1440, None)
    assert (mtu.parse("sit").sum(1500).mss4, mtu.parse("sit").sum(1500).mss6) == (None, 1420)


def test_steps_of_a_block_cipher_are_told() -> None:
    found = mtu.parse("gre+esp(aes128-sha256,nat-t)").sum(1500)
    assert found.notes == ("packets grow in steps of 16: the largest is 1492 on the link",)
    assert (found.inner, found.wire, found.broken, found.broken_wire) == (1418, 1492, 1419, 1508)


def test_overhead_of_plain_values() -> None:
    assert mtu.overhead("gre", 4) == 24
    assert mtu.overhead("gre", 6, key=True, csum=True, seq=True, encaplimit=True) == 64
    assert mtu.overhead("gretap", 4, udp=True, key=True) == 50
    assert mtu.overhead("ip6tnl", 6, encaplimit=True) == 48
    with pytest.raises(mtu.StackError, match="there is no such tunnel"):
        mtu.overhead("ipip", 6)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), st.integers(68, 65_535))
def test_any_sequence_of_words_is_summed_or_refused_and_never_breaks(words: list[str], link: int) -> None:
    """Of whatever is accepted: M fits, M + 1 does not, the steps add up."""
    try:
        described = describe("+".join(words))
        sums = [described.over(family).sum(link) for family in described.families]
    except mtu.StackError:
        return
    for found in sums:
        assert found.wire <= link < found.broken_wire
        assert found.link - sum(layer.size_bytes for layer in found.layers) == found.inner


@given(st.text(alphabet="greky+()-espat,16 \0é", max_size=40))
def test_any_text_is_a_stack_or_a_stack_error(text: str) -> None:
    try:
        describe(text)
    except mtu.StackError:
        pass
