"""
What one peer can make us spend: memory by authenticated peers that begin or rekey for ever and delete nothing, computing by
strangers whose Diffie-Hellman values are none, and answers that are kept for the wrong message.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from ginnel.crypto.ike import KeyExchange, prf
from ginnel.ikev2 import der, identities, proposals
from ginnel.ikev2.cookies import COOKIES_FROM
from ginnel.ikev2.effects import Path, Refused
from ginnel.ikev2.rekey import IKE_SAS_MAX
from ginnel.ikev2.strangers import COOKIES_FROM_SOURCE, REQUEST_MAX_BYTES
from ginnel.ikev2.tunnel import STRANGERS_TOLD_BURST, SURPLUS_MAX
from ginnel.testing import FakeClock
from ginnel.wire.ikev2 import Exchange, Ke, Message, Nonce, Notify, NotifyType, Payload, Sa, associated, build, build_payloads
from ike_pair import NAME, SECRET, Host, connection
from ike_peer import GROUP, IKE_PROPOSALS, Peer, derive, kinds

MODP4096 = proposals.parse_list(["aes128gcm16-prfsha256-modp4096"], "ike")


def waiting(remote: bytes | None = bytes([192, 0, 2, 2]), **changes: object) -> Host:
    host = Host("a", bytes([192, 0, 2, 1]), FakeClock(), 1)
    made = connection(bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), "a.example.org", "b.example.org", None, **changes)
    host.add(replace(made, remote=remote))
    return host


def rekey(peer: Peer, number: int) -> list[str]:
    """New keys of the IKE SA, and on with those; what was answered."""
    exchange, spi, nonce = KeyExchange(GROUP), b"RK" + number.to_bytes(6, "big"), number.to_bytes(32, "big")
    offered: list[Payload] = [Sa(proposals.numbered(IKE_PROPOSALS, spi)), Nonce(nonce), Ke(GROUP, exchange.public)]
    answer = peer.ask(Exchange.CREATE_CHILD_SA, offered)
    found = {type(one): one for one in (answer.payloads if answer is not None else ())}
    theirs, ke, chosen = found.get(Nonce), found.get(Ke), found.get(Sa)
    if isinstance(theirs, Nonce) and isinstance(ke, Ke) and isinstance(chosen, Sa):
        assert peer.keys is not None
        seed = prf("sha256", peer.keys.d, exchange.agree(ke.data), nonce, theirs.data)
        peer.spi_i, peer.spi_r, peer.initiator, peer.next_id = spi, chosen.proposals[0].spi, True, 0
        peer.keys = derive(seed, nonce + theirs.data, peer.spi_i + peer.spi_r)
    return kinds(answer)


def test_a_peer_that_rekeys_for_ever_and_deletes_nothing_has_few_ike_sas() -> None:
    host = waiting()
    peer = Peer(host)
    peer.init()
    peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))
    answers = [rekey(peer, number) for number in range(1, 50)]
    assert "Ke" in answers[0]
    assert answers[-1] == ["TEMPORARY_FAILURE"]
    assert len(host.ike._sas) == IKE_SAS_MAX
    assert host.engine.outbound is not None


def test_a_peer_that_begins_for_ever_has_few_lineages_and_the_last_one_carries() -> None:
    host = waiting()
    for _ in range(50):
        peer = Peer(host)
        peer.init()
        answer = peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))
        assert "TsR" in kinds(answer)
        assert len(host.ike._sas) <= SURPLUS_MAX + 1
        assert len(host.ike._tunnels[NAME].lineages) <= SURPLUS_MAX + 1
        assert host.engine.outbound is not None
    assert not host.engine.reserved


def test_a_value_that_is_none_costs_its_sender_a_place() -> None:
    """Our key pair of MODP-4096 is what costs most of all that a stranger can ask for."""
    host = waiting(ike_proposals=MODP4096)
    answers = []
    for _ in range(2 * COOKIES_FROM_SOURCE):
        peer = Peer(host)
        answers.append(kinds(peer.init([Sa(MODP4096), Ke(16, bytes(511) + b"\1"), Nonce(b"n" * 32)])))
    assert answers == [["INVALID_SYNTAX"]] * COOKIES_FROM_SOURCE + [["COOKIE"]] * COOKIES_FROM_SOURCE
    assert host.ike.half_open == COOKIES_FROM_SOURCE
    host.clock.advance_to(host.clock.mono_ns + 31 * 10**9)
    host.timeout()
    assert host.ike.half_open == 0
    assert not host.ike._sas


def fragments(peer: Peer, payloads: list[Payload], count: int, message_id: int, *, response: bool = False) -> list[bytes]:
    """One message in so many pieces."""
    assert peer.keys is not None
    first, text = build_payloads(payloads)
    cipher = peer.keys.initiator if peer.initiator else peer.keys.responder
    size, made = -(-len(text) // count), []
    header = peer.header(Exchange.INFORMATIONAL, message_id, response=response)
    for number in range(1, count + 1):
        part = text[(number - 1) * size : number * size]
        head = associated(header, first if number == 1 else 0, cipher.sealed_size(len(part)), number, count)
        made.append(head + cipher.seal(head, part))
    return made


def up() -> tuple[Host, Peer]:
    host = waiting()
    peer = Peer(host)
    peer.init([*peer.init_payloads(), Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)])
    peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))
    return host, peer


LONG: list[Payload] = [Notify(NotifyType.INITIAL_CONTACT, bytes(200))]


def test_a_request_that_comes_between_the_pieces_of_a_response_is_known_when_it_is_repeated() -> None:
    host, peer = up()
    before = len(host.sent)
    host.ike.terminate(NAME, host.clock.now())
    host.poll()
    assert len(host.sent) > before
    peer.send(fragments(peer, LONG, 3, 0, response=True)[0])
    request = peer.sealed(Exchange.INFORMATIONAL, [])
    answers = peer.send(request)
    assert len(answers) == 1
    assert peer.send(request) == answers


def test_a_request_that_was_cut_anew_is_known_by_its_new_first_piece() -> None:
    _, peer = up()
    wide = fragments(peer, LONG, 2, peer.next_id)
    assert peer.send(wide[0]) == []
    narrow = fragments(peer, LONG, 4, peer.next_id)
    answers = [one for piece in narrow for one in peer.send(piece)]
    assert len(answers) == 1
    assert peer.send(narrow[0]) == answers


def test_a_forged_first_piece_does_not_take_the_place_of_the_true_one() -> None:
    _, peer = up()
    true = fragments(peer, LONG, 3, peer.next_id)
    forged = bytearray(fragments(peer, LONG, 2, peer.next_id)[0])
    forged[-1] ^= 1
    assert peer.send(true[1]) == []
    assert peer.send(bytes(forged)) == []
    answers = [one for piece in (true[0], true[2]) for one in peer.send(piece)]
    assert len(answers) == 1
    assert peer.send(true[0]) == answers


def test_wrong_proofs_without_end_do_not_fill_the_log() -> None:
    host = waiting(remote=None)
    for number in range(COOKIES_FROM):
        peer = Peer(host, address=bytes([10, 0, 0, number]))
        peer.init()
        assert kinds(peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(b"a guess"))) == ["AUTHENTICATION_FAILED"]
    assert len(host.told(Refused)) == STRANGERS_TOLD_BURST < COOKIES_FROM


def test_stray_packets_begin_no_attempt_before_its_time() -> None:
    """A peer that refuses us, and sends with what we lost."""
    host = waiting(start="start")
    host.timeout()
    begun = 0
    for _ in range(50):
        if len(host.sent) > begun:
            begun = len(host.sent)
            peer = Peer(host, initiator=False)
            peer.answer_init(host.sent[-1].message, [Notify(NotifyType.NO_PROPOSAL_CHOSEN)])
        host.ike.unknown_spi(0x1234, Path(host.address, bytes([192, 0, 2, 2]), 4500, True), host.clock.now())
        host.poll()
    assert begun == 1


def test_a_stranger_among_a_thousand_names_reads_none_of_them_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    true_parts = der.name_parts
    monkeypatch.setattr(der, "name_parts", lambda encoded: read.append(encoded) or true_parts(encoded))
    host = waiting(remote=None)
    made = connection(bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), "a.example.org", "b.example.org")
    names = [identities.parse(f"O=A rather long organisation, CN=gw{number}.example.org") for number in range(1000)]
    for number, name in enumerate(names):
        host.ike.add(replace(made, name=f"t{number}", remote=None, remote_id=name), host.clock.now())
    for number in range(3):
        peer = Peer(host)
        peer.identity = identities.parse(f"CN=stranger {number}")
        peer.init()
        read.clear()
        assert kinds(peer.ask(Exchange.IKE_AUTH, peer.auth_payloads(SECRET))) == ["AUTHENTICATION_FAILED"]
    assert len(read) < 50, "known by now, but for the stranger's own and those that are shown"


def test_a_first_message_is_not_kept_at_any_length() -> None:
    host = waiting()
    long = Notify(40_000, bytes(REQUEST_MAX_BYTES))
    peer = Peer(host)
    message = build(Message(peer.header(Exchange.IKE_SA_INIT, 0), (*peer.init_payloads(), long)))
    assert peer.send(message) == []
    assert host.ike.half_open == 0
    assert host.drops == {"malformed": 1}
