"""
IKEv2 and ESP against strongSwan: every cipher, group and kind of proof that both have, in both roles, rekeyed from either side.

One charon and one process of ours have all connections at the same time. Each is established by strongSwan, carries pings and
TCP, is rekeyed four times (child and IKE SA, from each side), is ended by one side, established again by ours, and ended by the
other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from namespaces import Net, wait_until
from peers.ipsec_credentials import MANY, certified, pinned
from peers.ipsec_world import Peering, World


def by_secret(number: int, ike: str, esp: str, word: str, **options: Any) -> Peering:
    """A connection with these proposals; *word*: strongSwan's names of the IKE cipher, the group, and ESP's cipher."""
    cipher, group, protected = word.split()
    chosen = {"encr-alg": cipher, "dh-group": group, "esp": protected}
    return Peering(number, f"{ike}-{esp}", ike=ike, esp=esp, word=chosen, **options)


PEERINGS = [
    by_secret(1, "aes256gcm16-prfsha256-x25519", "aes256gcm16", "AES_GCM_16 CURVE_25519 AES_GCM_16"),
    by_secret(2, "aes128gcm16-prfsha256-ecp256", "aes128gcm16-ecp256", "AES_GCM_16 ECP_256 AES_GCM_16"),
    by_secret(3, "chacha20poly1305-prfsha384-ecp384", "chacha20poly1305-x25519", "CHACHA20_POLY1305 ECP_384 CHACHA20_POLY1305"),
    by_secret(4, "aes128-sha256-prfsha256-modp2048", "aes128-sha256-modp2048", "AES_CBC MODP_2048 AES_CBC"),
    by_secret(5, "aes256-sha384-prfsha384-modp3072", "aes256-sha384-modp3072", "AES_CBC MODP_3072 AES_CBC"),
    by_secret(6, "aes256-sha512-prfsha512-ecp521", "aes256-sha512-ecp521", "AES_CBC ECP_521 AES_CBC"),
    by_secret(7, "aes192gcm16-prfsha512-modp4096", "aes192gcm16", "AES_GCM_16 MODP_4096 AES_GCM_16"),
    by_secret(8, "aes128-sha1-prfsha1-modp2048", "aes128-sha1", "AES_CBC MODP_2048 AES_CBC"),
    # Each offers first what the other does not have: the responder asks for another group.
    Peering(
        9,
        "another-group",
        ours={"ike_proposals": ("aes256gcm16-prfsha256-x25519-ecp256",)},
        theirs={"proposals": "aes256gcm16-prfsha256-modp3072-ecp256"},
        word={"dh-group": "ECP_256"},
        heard=("it requested ECP_256", "generating IKE_SA_INIT response 0 [ N(INVAL_KE) ]"),
    ),
    Peering(10, "no-childless", ours={"childless": "never"}),
    Peering(
        11,
        "childless-forced",
        esp="aes256gcm16-x25519",
        theirs={"childless": "force"},
        heard=("IKE_AUTH response 1 [ IDr AUTH N(CRASH_DET) ]", "generating CREATE_CHILD_SA request 2 [ SA No KE TSi TSr ]"),
    ),
    certified(12, "rsa", "rsa", heard=("of 'node12.example.org' with RSA_EMSA_PKCS1_SHA2_256 successful",)),
    certified(13, "ecdsa-256", "ecp256", heard=("of 'node13.example.org' with ECDSA_WITH_SHA256_DER successful",)),
    certified(14, "ecdsa-384", "ecp384", heard=("of 'node14.example.org' with ECDSA_WITH_SHA384_DER successful",)),
    certified(15, "ecdsa-521", "ecp521", heard=("of 'node15.example.org' with ECDSA_WITH_SHA512_DER successful",)),
    certified(16, "ed25519", "ed25519", heard=("of 'node16.example.org' with ED25519 successful",)),
    certified(17, "rsa-pss", "rsa", theirs="rsa/pss-sha256", heard=("of 'swan17.example.org' (myself) with RSA_EMSA_PSS",)),
    certified(
        18, "large-certificates", "rsa4096", names=MANY, heard=("into 3 fragments", "#3 of 3, reassembled fragmented IKE message")
    ),
    pinned(19, "raw-keys", heard=("of 'node19' with ED25519 successful",)),
    Peering(20, "gre", kind="gre"),
    # What both do where nobody names an algorithm.
    Peering(
        21,
        "defaults",
        ours={"ike_proposals": (), "esp_proposals": ()},
        theirs={"proposals": "default"},
        theirs_child={"esp_proposals": "default"},
    ),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All connections, none of them established."""
    with Net.create() as net:
        started = World.start(net, tmp_path_factory.mktemp("ike"), PEERINGS, name="judged")
        yield started
        started.stop()


def chosen(world: World, peering: Peering) -> None:
    """strongSwan's word for what was agreed on is the one that was meant."""
    (ike,) = [one for one in world.charon.associations() if one["name"] == peering.name]
    for key, value in peering.word.items():
        assert (ike["children"][0]["encr-alg"] if key == "esp" else ike[key]) == value


@pytest.mark.parametrize("peering", PEERINGS, ids=str)
def test_established_from_both_sides_rekeyed_and_ended(world: World, peering: Peering) -> None:
    """See the module."""
    charon = world.charon
    past = len(charon.said())
    assert "established" in charon.initiate(peering.name, check=False), world.why(peering)
    world.carries(peering)
    world.transfers(peering)
    chosen(world, peering)

    for rekey in (
        lambda: charon.rekey_child(peering.name),
        lambda: world.command(peering, "rekey"),
    ):
        before = world.up(peering)["spi-in"]
        rekey()
        wait_until(lambda b=before: world.up(peering)["spi-in"] != b, 10, f"a rekeyed child {world.why(peering)}")
        world.carries(peering)
    for rekey in (
        lambda: charon.rekey_ike(peering.name),
        lambda: world.command(peering, "rekey-ike"),
    ):
        before = spis(world, peering)
        rekey()
        wait_until(lambda b=before: (now := spis(world, peering)) != b and len(now) == 1, 10, "a rekeyed IKE SA")
        world.carries(peering)

    charon.terminate(peering.name)
    wait_until(lambda: not world.node.show(peering.device)["ipsec"]["child"], 10, "the end here")
    world.ours_up(peering)
    world.carries(peering)
    chosen(world, peering)
    world.command(peering, "terminate")
    world.gone(peering)
    said = charon.said()[past:]
    assert [words for words in peering.heard if words not in said] == []


def spis(world: World, peering: Peering) -> set[str]:
    """Of strongSwan's IKE SAs of this connection."""
    return {one["initiator-spi"] for one in world.charon.associations() if one["name"] == peering.name}
