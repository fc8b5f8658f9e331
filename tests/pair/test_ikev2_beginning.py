"""How two machines come together: rounds, cookies, groups, fragments, NATs, both at once; and each way it can fail, in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from ginnel.ikev2 import proposals
from ginnel.ikev2.cookies import COOKIES_FROM
from ginnel.ikev2.effects import ChildUp, IkeUp, KeysMade, Path, Refused, SetOutbound
from ginnel.testing.ike import LEFT, RIGHT, Datagram, Host, Net, connection, pair
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Exchange, Id, IdType, Ke, Notify, NotifyType, parse

INIT, AUTH, CREATE = Exchange.IKE_SA_INIT, Exchange.IKE_AUTH, Exchange.CREATE_CHILD_SA


def esp(*words: str) -> tuple[proposals.Proposal, ...]:
    return proposals.parse_list(words, "esp")


def ike(*words: str) -> tuple[proposals.Proposal, ...]:
    return proposals.parse_list(words, "ike")


def exchanges(net: Net) -> list[tuple[str, int, bool]]:
    """(sender, exchange, whether a response) of all that was sent, without the hint of a waiting host."""
    headers = [(one.sender, one.header) for one in net.sent]
    return [(sender, one.exchange, one.response) for sender, one in headers if one.exchange != Exchange.INFORMATIONAL]


def settled(one: Host, other: Host) -> bool:
    """One receiving SA at each end, which the other sends with."""
    return len(one.inbound) == len(other.inbound) == 1 and one.net.carries(one, other)


def init_payloads(net: Net, sender: str) -> list[list[object]]:
    """The payloads of the sender's IKE_SA_INIT messages."""
    return [list(parse(one.data).payloads) for one in net.sent if one.sender == sender and one.header.exchange == INIT]


def notifies(payloads: list[object]) -> list[int]:
    return [one.kind for one in payloads if isinstance(one, Notify)]


def test_with_pfs_the_child_comes_by_its_own_exchange_at_once() -> None:
    net = Net()
    left, right = pair(net)
    assert net.run_until(lambda: net.carries(left, right), 1)
    expected = [("left", INIT), ("right", INIT), ("left", AUTH), ("right", AUTH), ("left", CREATE), ("right", CREATE)]
    assert exchanges(net) == [(sender, kind, sender == "right") for sender, kind in expected]
    assert left.view().children[0].proposal == "aes256gcm16-x25519"
    assert settled(left, right)


@pytest.mark.parametrize("who", ["left", "right", "both"])
def test_without_childless_the_child_comes_with_auth(who: str) -> None:
    net = Net()
    never = {"childless": False}
    left, right = pair(net, left=never if who != "right" else {}, right=never if who != "left" else {})
    assert net.run_until(lambda: net.carries(left, right), 1)
    assert [kind for _, kind, _ in exchanges(net)] == [INIT, INIT, AUTH, AUTH]
    assert left.view().children[0].proposal == "aes256gcm16"


def test_without_pfs_the_child_comes_with_auth() -> None:
    net = Net()
    left, right = pair(net, child_proposals=esp("aes128gcm16-esn"))
    assert net.run_until(lambda: net.carries(left, right), 1)
    assert [kind for _, kind, _ in exchanges(net)] == [INIT, INIT, AUTH, AUTH]
    assert left.view().children[0].esn
    assert right.view().children[0].esn


@pytest.mark.parametrize("transport", [True, False])
@pytest.mark.parametrize("family", [4, 16])
def test_modes_and_families(transport: bool, family: int) -> None:
    net = Net()
    one, other = bytes((32, 1, *range(2, family), 1))[-family:], bytes((32, 1, *range(2, family), 2))[-family:]
    left, right = net.host("left", one), net.host("right", other)
    right.add(connection(other, one, start="wait", transport=transport))
    left.add(connection(one, other, transport=transport))
    assert net.run_until(lambda: net.carries(left, right), 1)
    out: SetOutbound = left.outbound["t"]
    assert out.transport is transport
    assert (out.source[0].first, out.destination[0].first, out.source[0].protocol) == (one, other, 47)
    assert not out.udp
    assert right.inbound["t", out.spi].effect.source == out.source


@pytest.mark.parametrize("suite", ["aes256-sha512", "aes128-sha256", "chacha20poly1305", "aes256-sha384", "aes128-sha1"])
@pytest.mark.parametrize("group", ["x25519", "ecp256", "ecp384", "modp2048"])
def test_suites_and_groups(suite: str, group: str) -> None:
    net = Net()
    words = f"{suite}-prfsha512-{group}" if suite == "chacha20poly1305" else f"{suite}-{group}"
    left, right = pair(net, ike_proposals=ike(words), child_proposals=esp(f"{suite}-{group}"))
    assert net.run_until(lambda: net.carries(left, right), 1)
    assert left.view().ike.proposal == right.view().ike.proposal
    assert suite in left.view().ike.proposal
    assert left.outbound["t"].suite == suite


# ---------------------------------------------------------------- rounds


def test_another_group_is_asked_for_once_with_the_same_proposals() -> None:
    net = Net()
    left, right = pair(
        net,
        left={"ike_proposals": ike("aes256gcm16-prfsha256-ecp256-x25519")},
        right={"ike_proposals": ike("aes256gcm16-prfsha256-x25519")},
    )
    assert net.run_until(lambda: net.carries(left, right), 1)
    first, second = init_payloads(net, "left")
    groups = [next(one.group for one in payloads if isinstance(one, Ke)) for payloads in (first, second)]
    assert groups == [19, 31]
    assert first[0] == second[0], "the same proposals"
    assert first[2] == second[2], "the same nonce"
    assert notifies(init_payloads(net, "right")[0]) == [NotifyType.INVALID_KE_PAYLOAD]


def test_the_group_that_was_taken_is_the_first_the_next_time() -> None:
    net = Net()
    left, right = pair(
        net,
        left={"ike_proposals": ike("aes256gcm16-prfsha256-ecp256-x25519")},
        right={"ike_proposals": ike("aes256gcm16-prfsha256-x25519")},
    )
    assert net.run_until(lambda: net.carries(left, right), 1)
    left.do(lambda one, now: one.terminate("t", now))
    net.run(1)
    net.sent.clear()
    left.do(lambda one, now: one.initiate("t", now))
    assert net.run_until(lambda: net.carries(left, right), 1)
    assert len(init_payloads(net, "left")) == 1


def flood(net: Net, target: Host, count: int, *, sources: int) -> list[bytes]:
    """IKE_SA_INIT requests from addresses that never go on; the first one's bytes are the pattern."""
    pattern = Net(seed=99)
    attacker = pattern.host("attacker", LEFT)
    attacker.add(connection(LEFT, RIGHT))
    pattern.run(0)
    data = pattern.sent[0].data
    sent: list[bytes] = []
    for number in range(count):
        forged = (number + 1).to_bytes(8, "big") + data[8:]
        address = bytes((10, 0, number % sources >> 8, number % sources & 255))
        path = Path(target.address, address, 500, False)
        target.do(lambda one, now, forged=forged, path=path: one.receive(forged, path, now))
        sent.append(forged)
    return sent


def test_cookies_are_asked_for_when_many_are_half_open_and_a_group_may_be_wrong_too() -> None:
    net = Net()
    right = net.host("right", RIGHT)
    right.add(connection(RIGHT, None, start="wait", ike_proposals=ike("aes256gcm16-prfsha256-x25519")))
    flood(net, right, COOKIES_FROM, sources=COOKIES_FROM)
    assert right.ike.half_open == COOKIES_FROM
    net.sent.clear()
    left = net.host("left", LEFT)
    left.add(connection(LEFT, RIGHT, ike_proposals=ike("aes256gcm16-prfsha256-ecp256-x25519")))
    assert net.run_until(lambda: net.carries(left, right), 1)
    asked = init_payloads(net, "left")
    assert len(asked) == 3, "cookie, group, success"
    assert [NotifyType.COOKIE in notifies(payloads) for payloads in asked] == [False, True, True]
    assert asked[1][0] == asked[2][0], "the cookie is for the nonce and the SPI, which stay"
    first, second = init_payloads(net, "right")[:2]
    assert notifies(first) == [NotifyType.COOKIE]
    assert notifies(second) == [NotifyType.INVALID_KE_PAYLOAD]


def test_a_responder_that_asks_for_ever_is_given_up() -> None:
    net = Net()
    left = net.host("left", LEFT)
    left.add(connection(LEFT, RIGHT))
    net.run(0)
    for number in range(20):
        request = net.sent[-1]
        answer = replace_message(request.data, Notify(NotifyType.COOKIE, bytes([number]) * 8))
        left.do(lambda one, now, answer=answer: one.receive(answer, Path(LEFT, RIGHT, 500, False), now))
    assert len(net.sent) == 8
    assert left.told(Refused)[0].lines == ("the peer asks for another round for the 9th time",)


def replace_message(request: bytes, *payloads: Notify) -> bytes:
    """An open answer to *request*."""
    from ginnel.wire.ikev2 import Message, build

    header = replace(parse(request).header, initiator=False, response=True, spi_r=bytes(8))
    return build(Message(header, payloads))


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        (Notify(NotifyType.NO_PROPOSAL_CHOSEN), "proposal", "takes none of our proposals"),
        (Notify(NotifyType.INVALID_KE_PAYLOAD, bytes((0, 14))), "proposal", "wants the group modp2048"),
        (Notify(NotifyType.INVALID_KE_PAYLOAD, bytes((0, 31))), "proposal", "wants the group x25519"),
        (Notify(NotifyType.REDIRECT, b"x"), "unsupported", "another gateway"),
        (Notify(NotifyType.INVALID_SYNTAX), "other", "INVALID_SYNTAX"),
        (Notify(NotifyType.COOKIE, b""), "other", "a cookie that is none"),
        (Notify(NotifyType.COOKIE, bytes(65)), "other", "a cookie that is none"),
        (Notify(9999), "other", "refused with notify 9999"),
    ],
)
def test_refusals_of_the_first_exchange_are_explained(payload: Notify, reason: str, words: str) -> None:
    net = Net()
    left = net.host("left", LEFT)
    left.add(connection(LEFT, RIGHT))
    net.run(0)
    answer = replace_message(net.sent[0].data, payload)
    left.do(lambda one, now: one.receive(answer, Path(LEFT, RIGHT, 500, False), now))
    (refused,) = left.told(Refused)
    assert refused.reason == reason
    assert words in refused.lines[0]
    assert left.view().refused_lines == refused.lines
    net.run(3)
    assert len({one.header.spi_i for one in net.sent}) == 2, "tried again"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"ike_proposals": ike("aes128-sha256-ecp256")}, "the peer offers: "),
        ({"psk": b"another secret of the other end"}, "looked up: "),
        ({"child_proposals": esp("aes128-sha256-x25519")}, "the peer offers: "),
    ],
)
def test_where_both_call_what_we_know_is_not_hidden_by_the_peers_word(other: dict[str, Any], words: str) -> None:
    """Each refuses the other in turn, whoever was last."""
    net = Net()
    for host in pair(net, {"start": "start"}, {"start": "start"} | other):
        assert net.run_until(lambda host=host: [one.by for one in host.told(Refused)][-2:] == ["us", "peer"], 60)
        seen = host.view()
        assert seen.refused_by == "us"
        assert any(line.startswith(words) for line in seen.refused_lines)
        assert seen.refused_lines[-1].startswith("the peer refuses us as well: ")


def test_what_the_peer_refuses_after_we_found_nothing_wrong_for_long_stands_alone() -> None:
    net = Net()
    left, right = pair(net, {"start": "wait"}, {"start": "start", "ike_proposals": ike("aes128-sha256-ecp256")})
    assert net.run_until(lambda: bool(left.told(Refused)), 10)
    assert left.view().refused_by == "us"
    right.do(lambda one, now: one.terminate("t", now))
    net.run(200)
    left.do(lambda one, now: one.initiate("t", now))
    assert net.run_until(lambda: left.told(Refused)[-1].by == "peer", 10)
    assert left.view().refused_lines == left.told(Refused)[-1].lines


# ---------------------------------------------------------------- loss and size


@pytest.mark.parametrize("exchange", [INIT, AUTH, CREATE])
@pytest.mark.parametrize("response", [False, True])
def test_each_message_may_be_lost(exchange: Exchange, response: bool) -> None:
    net = Net()
    lost: list[Datagram] = []

    def rule(one: Datagram) -> list[int]:
        if not lost and one.is_("right" if response else "left", exchange, response=response):
            lost.append(one)
            return []
        return [net.delay_ns]

    net.rule = rule
    left, right = pair(net)
    assert net.run_until(lambda: net.carries(left, right), 3)
    request = next(one for one in net.sent if one.is_("left", exchange, response=False))
    again = [one for one in net.sent if one.data == request.data]
    assert len(again) == 2, "the same bytes"
    assert 1.8 * NS_PER_S <= again[1].sent_ns - again[0].sent_ns <= 2 * NS_PER_S
    assert settled(left, right)


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_network(seed: int) -> None:
    net = Net(seed=seed)
    net.rule = lambda _: [net.random.randrange(200_000_000) for _ in range(net.random.choice((0, 1, 1, 1, 2)))]
    left, right = pair(net)
    assert net.run_until(lambda: net.carries(left, right), 60)
    net.rule = None
    net.run(30)
    assert settled(left, right)


def test_nothing_answers() -> None:
    net = Net()
    left = net.host("left", LEFT)
    left.add(connection(LEFT, RIGHT, give_up_ns=20 * NS_PER_S))
    net.run(19)
    assert not left.told(Refused)
    waits = [later.sent_ns - one.sent_ns for one, later in zip(net.sent, net.sent[1:], strict=False)]
    expected = [2.0, 3.6, 6.48]
    assert len(waits) == len(expected)
    assert all(0.9 * wait <= found / NS_PER_S <= wait for found, wait in zip(waits, expected, strict=True))
    net.run(2)
    (refused,) = left.told(Refused)
    assert refused.reason == "timeout"
    assert "192.0.2.2, UDP port 500" in refused.lines[0]
    view = left.view()
    assert (view.state, view.attempts_failed) == ("waiting", 1)
    net.run(3600)
    begun = Counter(one.header.spi_i for one in net.sent)
    assert 40 <= len(begun) <= 60, "20 s each, and a minute between them in the end"


def test_large_messages_travel_in_fragments_in_any_order() -> None:
    net = Net()
    net.rule = lambda _: [net.random.randrange(20_000_000) for _ in range(net.random.choice((1, 2)))]
    mine, yours = Id(IdType.KEY_ID, b"l" * 1000), Id(IdType.KEY_ID, b"r" * 1000)
    words = [f"aes{bits}-sha{size}-modp{modp}" for bits in (128, 256) for size in (256, 384, 512) for modp in (2048, 3072, 4096)]
    many = esp(*words, "aes256gcm16-modp4096")
    left, right = pair(net, {"local_id": mine, "remote_id": yours}, {"local_id": yours, "remote_id": mine}, child_proposals=many)
    assert net.run_until(lambda: net.carries(left, right), 5)
    protected = [one for one in net.sent if one.header.exchange in {AUTH, CREATE}]
    assert all(len(one.data) <= 1280 - 28 for one in protected)
    for exchange in (AUTH, CREATE):
        whole = {one.data for one in protected if one.is_("left", exchange, response=False)}
        assert len(whole) >= 2, exchange.name


def test_without_fragmentation_at_one_end_messages_are_whole() -> None:
    net = Net()
    mine = Id(IdType.KEY_ID, b"l" * 1000)
    many = esp(*(f"aes{bits}-sha{size}-x25519" for bits in (128, 192, 256) for size in (256, 384, 512)))
    left, right = pair(
        net, {"local_id": mine}, {"remote_id": mine, "fragmentation": False}, child_proposals=many, childless=False
    )
    assert net.run_until(lambda: net.carries(left, right), 5)
    assert max(len(one.data) for one in net.sent) > 1280
    assert not left.view().ike.fragmentation


# ---------------------------------------------------------------- both at once


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_both_begin_at_once_and_one_stays_without_loss_on_the_way(seed: int, loss: float) -> None:
    net = Net(seed=seed)
    net.rule = lambda _: [] if net.random.random() < loss else [net.random.randrange(1, 30_000_000)]
    left, right = pair(net, right={"start": "start"})
    up = False

    def watch() -> None:
        nonlocal up
        up = up or net.carries(left, right)
        for one, other in ((left, right), (right, left)):
            if up:
                assert net.packet(one, other), f"lost at {net.clock.mono_ns}"

    net.watch = watch
    net.run(90)
    assert up
    assert settled(left, right)
    assert left.view().ike.spi_i == right.view().ike.spi_i
    assert len(left.ike._sas) == len(right.ike._sas) == 1


# ---------------------------------------------------------------- NAT

OUTSIDE = bytes((203, 0, 113, 7))


def behind_nat(net: Net, **both: object) -> tuple[Host, Host]:
    """The left one behind a NAT."""
    net.nats["left"] = (OUTSIDE, 10_000)
    mine, yours = Id(IdType.FQDN, b"left"), Id(IdType.FQDN, b"right")
    right, left = net.host("right", RIGHT), net.host("left", LEFT)
    right.add(connection(RIGHT, None, start="wait", local_id=yours, remote_id=mine, **both))
    left.add(connection(LEFT, RIGHT, local_id=mine, remote_id=yours, **both))
    return left, right


@pytest.mark.parametrize("transport", [True, False])
def test_through_a_nat_by_udp(transport: bool) -> None:
    net = Net()
    left, right = behind_nat(net, transport=transport, **({} if transport else {"local_ts": None}))
    if transport:
        assert net.run_until(lambda: net.carries(left, right), 2)
        assert left.outbound["t"].source[0].first == LEFT
        assert right.inbound["t", left.outbound["t"].spi].effect.source[0].first == OUTSIDE, "as it is seen on arrival"
    else:
        # Tunnel mode has no substitution: selectors by address differ, and that is said.
        net.run(2)
        assert any("selectors" in line for one in left.told(Refused) for line in one.lines)
        return
    assert left.outbound["t"].udp
    assert (left.view().ike.nat, right.view().ike.nat) == ("us", "peer")
    assert right.outbound["t"].path == Path(RIGHT, OUTSIDE, 14_500, True)
    floated = [one for one in net.sent if one.header.exchange in {AUTH, CREATE}]
    assert all(one.path.natt for one in floated)
    net.run(100)
    assert 4 <= left.keepalives <= 5
    assert right.keepalives == 0


def test_the_nat_forgets_and_the_peer_is_followed() -> None:
    net = Net()
    left, right = behind_nat(net)
    assert net.run_until(lambda: net.packet(left, right) and net.packet(right, left), 2)
    net.nats["left"] = (OUTSIDE, 20_000)
    assert not net.packet(right, left)
    assert net.packet(left, right)
    assert right.outbound["t"].path == Path(RIGHT, OUTSIDE, 24_500, True), "after a genuine ESP packet"
    assert net.packet(right, left)
    net.nats["left"] = (bytes((203, 0, 113, 8)), 30_000)
    left.do(lambda one, now: one.rekey_child("t", now))
    net.run(1)
    assert right.outbound["t"].path.remote_port == 34_500, "after a genuine IKE message"
    assert net.carries(left, right)


def test_who_is_behind_a_nat_itself_does_not_follow() -> None:
    net = Net()
    left, right = behind_nat(net)
    assert net.run_until(lambda: net.carries(left, right), 2)
    path = left.outbound["t"].path
    spi = right.outbound["t"].spi
    left.do(lambda one, now: one.sa_moved("t", spi, bytes((203, 0, 113, 9)), 4500, now))
    assert left.outbound["t"].path == path


def test_encapsulation_udp_is_had_without_a_nat() -> None:
    net = Net()
    left, right = pair(net, left={"encapsulation": "udp"})
    assert net.run_until(lambda: net.carries(left, right), 2)
    assert left.outbound["t"].udp
    assert right.outbound["t"].udp
    assert (left.view().ike.nat, right.view().ike.nat) == ("none", "peer")
    assert right.outbound["t"].path == Path(RIGHT, LEFT, 4500, True)


@pytest.mark.parametrize("who", ["left", "right"])
def test_encapsulation_raw_and_a_nat_are_refused(who: str) -> None:
    net = Net()
    net.nats["left"] = (OUTSIDE, 10_000)
    mine, yours = Id(IdType.FQDN, b"left"), Id(IdType.FQDN, b"right")
    right, left = net.host("right", RIGHT), net.host("left", LEFT)
    raw = {"encapsulation": "raw"}
    right.add(connection(RIGHT, None, start="wait", local_id=yours, remote_id=mine, **(raw if who == "right" else {})))
    left.add(connection(LEFT, RIGHT, local_id=mine, remote_id=yours, **(raw if who == "left" else {})))
    net.run(2)
    host = left if who == "left" else right
    assert host.told(Refused)[0].reason == "nat"
    assert not left.inbound
    assert not right.inbound


# ---------------------------------------------------------------- what fails, in words


def failing(left: dict[str, object], right: dict[str, object], seconds: float = 1) -> tuple[Host, Host]:
    net = Net()
    one, other = pair(net, left, right)
    net.run(seconds)
    assert not net.carries(one, other)
    return one, other


def said(host: Host, by: str, reason: str) -> str:
    found = [one for one in host.told(Refused) if (one.by, one.reason) == (by, reason)]
    assert found, host.told(Refused)
    return "\n".join(found[0].lines)


def test_wrong_secrets_name_who_was_looked_up_and_who_came() -> None:
    left, right = failing({"psk": b"one"}, {"psk": b"another"})
    assert "wrong pre-shared secret: looked up for the identity 192.0.2.1" in said(right, "us", "authentication")
    assert "did not accept who we are" in said(left, "peer", "authentication")
    for host in (left, right):
        assert not host.told(IkeUp)
        assert not host.inbound
        assert not host.outbound


def test_an_unknown_identity_is_named() -> None:
    _, right = failing({"local_id": Id(IdType.FQDN, b"moon")}, {})
    assert "calls itself moon" in said(right, "us", "identity")


def test_an_initiator_that_expects_another_says_so_and_the_responder_learns_it() -> None:
    left, right = failing({"remote_id": Id(IdType.FQDN, b"sun")}, {})
    text = said(right, "us", "identity")
    assert "sun" in text
    assert not left.told(ChildUp)


def test_a_responder_that_proves_to_be_another_is_let_go() -> None:
    net = Net()
    left, right = net.host("left", LEFT), net.host("right", RIGHT)
    right.add(connection(RIGHT, None, start="wait", remote_id=None, psk=b"theirs"))
    left.add(connection(LEFT, RIGHT, psk=b"theirs", remote_id=None))
    assert net.run_until(lambda: net.carries(left, right), 1)


def test_proposals_with_nothing_in_common() -> None:
    left, right = failing(
        {"ike_proposals": ike("aes128-sha256-modp2048")}, {"ike_proposals": ike("aes256gcm16-prfsha384-ecp384")}
    )
    text = said(right, "us", "proposal")
    assert "aes128-sha256-modp2048" in text
    assert "aes256gcm16-prfsha384-ecp384" in text
    assert "takes none of our proposals" in said(left, "peer", "proposal")


@pytest.mark.parametrize("childless", [True, False])
def test_a_child_that_cannot_be_leaves_the_ike_sa(childless: bool) -> None:
    left, right = failing(
        {"child_proposals": esp("aes128-sha256-x25519"), "childless": childless}, {"child_proposals": esp("aes256gcm16-x25519")}
    )
    assert "aes256gcm16" in said(right, "us", "proposal")
    assert "takes none of our proposals for the child SA" in said(left, "peer", "proposal")
    assert (left.view().state, right.view().state) == ("no-child", "no-child")
    assert left.told(IkeUp)


def test_a_mismatch_of_pfs_shows_at_once() -> None:
    left, right = failing({"child_proposals": esp("aes256gcm16-x25519")}, {"child_proposals": esp("aes256gcm16-modp2048")})
    assert "PFS" in said(right, "us", "proposal")
    assert left.view().state == "no-child"


def test_selectors_with_nothing_in_common() -> None:
    left, right = failing({"dynamic_protocol": 4}, {"dynamic_protocol": 47})
    assert "nothing in common" in said(right, "us", "selectors")
    assert "takes none of our traffic selectors" in said(left, "peer", "selectors")


@pytest.mark.parametrize("ours", [True, False])
def test_modes_that_differ(ours: bool) -> None:
    left, right = failing({"transport": ours}, {"transport": not ours})
    text = said(left if ours else right, "us", "mode")
    assert "the modes differ" in text


def test_a_missing_child_is_asked_for_again_and_found_when_mended() -> None:
    net = Net()
    left, right = pair(net, right={"dynamic_protocol": 4})
    net.run(5)
    assert left.view().state == "no-child"
    right.do(lambda one, now: one.change(connection(RIGHT, LEFT, start="wait"), now))
    assert net.run_until(lambda: net.carries(left, right), 90)
    assert settled(left, right)


# ---------------------------------------------------------------- what is shown and written


def test_keys_are_told_in_the_debug_mode_alone() -> None:
    net = Net()
    quiet, loud = net.host("left", LEFT), net.host("right", RIGHT, debug_keys=True)
    loud.add(connection(RIGHT, LEFT, start="wait"))
    quiet.add(connection(LEFT, RIGHT))
    assert net.run_until(lambda: net.carries(quiet, loud), 1)
    assert not quiet.told(KeysMade)
    tables = Counter(one.table for one in loud.told(KeysMade))
    assert tables == {"ikev2_decryption_table": 1, "esp_sa": 2}
    line = next(one.line for one in loud.told(KeysMade) if one.table == "ikev2_decryption_table")
    assert '"AES-GCM-256 with 16 octet ICV [RFC5282]"' in line
    assert '"NONE [RFC4306]"' in line
    spi = f"0x{quiet.outbound['t'].spi:08x}"
    assert any(spi in one.line and '"192.0.2.1","192.0.2.2"' in one.line for one in loud.told(KeysMade))


def test_secrets_are_nowhere_in_what_is_told() -> None:
    left, right = failing({"psk": b"one secret"}, {"psk": b"another secret"}, 10)
    for host in (left, right):
        text = repr(host.events) + repr(host.view())
        assert "one secret" not in text
        assert "another secret" not in text
