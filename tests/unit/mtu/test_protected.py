"""Protected tunnels from plain values: the same sums as the text of `ginnel mtu` gives, and what fits every suite offered."""

from __future__ import annotations

import dataclasses

import pytest

from ginnel import mtu
from ginnel.config import layers
from ginnel.config.node import IpsecConfig, PlainConfig
from ginnel.ikev2 import algorithms, proposals
from ginnel.wire.ikev2 import TransformType

GRE = mtu.plain("gre", 4)
GRE6_KEY = mtu.plain("gre", 6, key=True)
CONFIG = PlainConfig("gre1", "gre", 4, local="192.0.2.1", remote="198.51.100.2", ipsec=IpsecConfig())


@pytest.mark.parametrize(
    ("stack", "text", "family"),
    [
        (mtu.protected(GRE, 4, mtu.suite("aes256gcm16"), tunnel=False, udp=True), "gre+esp(aes256gcm16,nat-t)", 4),
        (mtu.protected(GRE, 4, mtu.suite("aes128-sha512"), tunnel=True, udp=False), "gre+esp(aes128-sha512,tunnel)", 4),
        (mtu.protected(GRE6_KEY, 6, mtu.suite("aes128-sha256"), tunnel=False, udp=False), "gre+key+esp(aes128-sha256)", 6),
        (mtu.protected(None, 6, mtu.suite("chacha20poly1305"), tunnel=True, udp=True), "esp(chacha20poly1305,nat-t)", 6),
    ],
)
def test_it_is_the_sum_that_the_text_gives(stack: mtu.Stack, text: str, family: mtu.Family) -> None:
    assert stack.text == text
    expected = mtu.parse(text, family)
    for link in (1280, 1492, 1500, 1501, 9000):
        assert stack.inner(link) == expected.inner(link)
        assert stack.wire_size(stack.inner(link)) <= link < stack.wire_size(stack.inner(link) + 1)


def test_several_algorithms_of_a_kind_are_several_suites() -> None:
    found = {one.text for one in mtu.suites("aes256gcm16-aes128-aes256-sha256-sha512-x25519-none-esn-noesn")}
    rest = "x25519-none-esn-noesn"
    both = {f"{cipher}-{hash_}-{rest}" for cipher in ("aes128", "aes256") for hash_ in ("sha256", "sha512")}
    assert found == {f"aes256gcm16-{rest}", *both}
    assert [one.text for one in mtu.suites("aes128-sha256-modp2048")] == ["aes128-sha256-modp2048"]
    with pytest.raises(mtu.StackError, match="needs an integrity"):
        mtu.suites("aes128-x25519")


def test_what_fits_every_suite_is_what_the_heaviest_takes() -> None:
    # AES-CBC with SHA2-256 in UDP over IPv4: 1402 of 1500 for GRE in transport mode, AES-GCM would leave 1438.
    both = dataclasses.replace(CONFIG, ipsec=IpsecConfig(esp_proposals=("aes256gcm16-x25519", "aes128-sha256-x25519")))
    assert mtu.room(layers.stacks(both), 1500) == mtu.parse("gre+esp(aes128-sha256,nat-t)", 4).inner(1500)
    alone = dataclasses.replace(CONFIG, ipsec=IpsecConfig(esp_proposals=("aes256gcm16",), encapsulation="raw"))
    assert mtu.room(layers.stacks(alone), 1500) == mtu.parse("gre+esp(aes256gcm16)", 4).inner(1500)


def test_the_most_that_is_added_is_never_less_than_what_is_added() -> None:
    for config in (CONFIG, dataclasses.replace(CONFIG, ipsec=dataclasses.replace(IpsecConfig(), mode="tunnel"))):
        stacks = layers.stacks(config)
        most = layers.overhead(config)
        assert all(link - stack.inner(link) <= most for stack in stacks for link in range(600, 700))
        assert any(link - stack.inner(link) == most for stack in stacks for link in range(600, 700))
    assert layers.overhead(dataclasses.replace(CONFIG, ipsec=None)) == 24


def test_ipsec_alone_has_no_delivery_header_inside() -> None:
    alone = dataclasses.replace(CONFIG, kind="ipsec", ipsec=IpsecConfig(mode="tunnel", esp_proposals=("aes128gcm16",)))
    assert mtu.room(layers.stacks(alone), 1500) == mtu.parse("esp(aes128gcm16,nat-t)", 4).inner(1500)


def test_the_default_suites_are_those_of_the_default_offer() -> None:
    offered = set()
    for proposal in proposals.default_esp():
        kinds = {
            kind: [one for one in proposal.transforms if one.kind == kind] for kind in (TransformType.ENCR, TransformType.INTEG)
        }
        for cipher in kinds[TransformType.ENCR]:
            beside = [None] if algorithms.is_aead(cipher) else kinds[TransformType.INTEG]
            offered |= {
                "-".join([algorithms.word(cipher), *([algorithms.word(one)] if one is not None else [])]) for one in beside
            }
    # Every offered suite is counted; that a larger one of the same weight is named twice changes nothing.
    assert offered == set(layers.DEFAULT_SUITES)
