"""Strangers: floods of half-open SAs, cookies, messages for SAs that are not there; what is bounded, what goes on meanwhile."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from ginnel.ikev2.cookies import COOKIES_FROM
from ginnel.ikev2.drops import Drop
from ginnel.ikev2.effects import ChildUp, IkeUp, Path, Refused
from ginnel.ikev2.strangers import (
    COOKIES_FROM_SOURCE,
    HALF_OPEN_MAX,
    HALF_OPEN_NS,
    HALF_OPEN_PER_SOURCE,
    STRANGERS_BURST,
    TOLD_BURST,
)
from ginnel.testing.ike import LEFT, RIGHT, Host, Net, connection, pair
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Exchange, Header, Message, Nonce, Notify, NotifyType, Unknown, build, parse


def request(seed: int = 99) -> bytes:
    """An IKE_SA_INIT request that the other end would take."""
    net = Net(seed=seed)
    net.host("someone", LEFT).add(connection(LEFT, RIGHT))
    net.run(0)
    return net.sent[0].data


def responder(net: Net, remote: bytes | None = None) -> Host:
    host = net.host("right", RIGHT)
    host.add(connection(RIGHT, remote, start="wait"))
    net.sent.clear()
    return host


def source(number: int, port: int = 500) -> Path:
    return Path(RIGHT, bytes((10, *number.to_bytes(3, "big"))), port, False)


def give(host: Host, data: bytes, path: Path) -> list[bytes]:
    """What is answered."""
    net = host.net
    before = len(net.sent)
    host.do(lambda ike, now: ike.receive(data, path, now))
    return [one.data for one in net.sent[before:]]


def spi(data: bytes, number: int) -> bytes:
    return number.to_bytes(8, "big") + data[8:]


def with_cookie(data: bytes, answer: bytes) -> bytes:
    """The request again, with the cookie that was asked for."""
    (cookie,) = parse(answer).payloads
    message = parse(data)
    return build(Message(message.header, (cookie, *message.payloads)))


def asks_for_a_cookie(answers: list[bytes]) -> bool:
    return len(answers) == 1 and [one.kind for one in parse(answers[0]).payloads if isinstance(one, Notify)] == [
        NotifyType.COOKIE
    ]


def test_beyond_the_threshold_nothing_is_kept_without_a_cookie() -> None:
    net = Net()
    host = responder(net)
    data = request()
    for number in range(1, 3001):
        answers = give(host, spi(data, number), source(number))
        assert asks_for_a_cookie(answers) == (number > COOKIES_FROM)
        assert sum(map(len, answers)) <= len(data) + 60, "no amplification"
    assert host.ike.half_open == COOKIES_FROM
    assert host.ike.drops[Drop.COOKIE] == 3000 - COOKIES_FROM
    net.run(HALF_OPEN_NS / NS_PER_S + 1)
    assert host.ike.half_open == 0
    assert not host.ike._sas


def test_under_pressure_nobody_is_answered_who_shows_no_nonce() -> None:
    net = Net()
    host = responder(net)
    data = request()
    for number in range(1, COOKIES_FROM + 1):
        give(host, spi(data, number), source(number))
    whole = parse(spi(data, 1000))
    without = build(Message(whole.header, tuple(one for one in whole.payloads if not isinstance(one, Nonce))))
    assert give(host, without, source(1000)) == []
    assert host.ike.drops[Drop.MALFORMED] == 1
    assert asks_for_a_cookie(give(host, spi(data, 1000), source(1000)))


def test_with_cookies_the_table_is_bounded_and_so_is_a_sources_share() -> None:
    net = Net()
    host = responder(net)
    data = request()
    for number in range(1, 400):
        one, path = spi(data, number), source(7, number)
        answers = give(host, one, path)
        assert asks_for_a_cookie(answers) == (number > COOKIES_FROM_SOURCE)
        if asks_for_a_cookie(answers):
            give(host, with_cookie(one, answers[0]), path)
    assert host.ike.half_open == HALF_OPEN_PER_SOURCE
    assert host.ike.drops[Drop.HALF_OPEN_LIMIT] == 399 - HALF_OPEN_PER_SOURCE
    number = 1000
    while host.ike.half_open < HALF_OPEN_MAX:
        number += 1
        one, path = spi(data, number), source(number)
        give(host, with_cookie(one, give(host, one, path)[0]), path)
    one, path = spi(data, 9999), source(9999)
    assert give(host, with_cookie(one, give(host, one, path)[0]), path) == []
    net.run(31)
    assert host.ike.half_open == 0


def test_a_flood_takes_no_memory_that_stays_and_established_tunnels_go_on() -> None:
    net = Net()
    left, right = pair(net)
    right.add(connection(RIGHT, None, "anybody", start="wait"))
    assert net.run_until(lambda: net.carries(left, right), 1)
    data = request()
    for number in range(1, 500):
        give(right, spi(data, number), source(number))
    net.run(31)
    right.events.clear()
    net.sent.clear()
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for number in range(1000, 6000):
        give(right, spi(data, number), source(number))
        right.events.clear()
        net.sent.clear()
    net.run(31)
    right.events.clear()
    net.sent.clear()
    grown = sum(one.size_diff for one in tracemalloc.take_snapshot().compare_to(before, "filename"))
    tracemalloc.stop()
    assert grown < 100_000
    left.do(lambda ike, now: ike.rekey_child("t", now))
    left.do(lambda ike, now: ike.rekey_ike("t", now))
    net.run(1)
    assert net.carries(left, right)
    assert left.view().child_rekeys == left.view().ike_rekeys == 1


def test_a_configured_peer_comes_in_although_the_table_is_full() -> None:
    net = Net()
    right = net.host("right", RIGHT)
    right.add(connection(RIGHT, LEFT, start="wait"))
    right.add(connection(RIGHT, None, "anybody", start="wait"))
    data = request()
    number = 0
    while right.ike.half_open < HALF_OPEN_MAX:
        number += 1
        one, path = spi(data, number), source(number)
        answers = give(right, one, path)
        if asks_for_a_cookie(answers):
            give(right, with_cookie(one, answers[0]), path)
    left = net.host("left", LEFT)
    left.add(connection(LEFT, RIGHT))
    assert net.run_until(lambda: net.carries(left, right), 1)


def test_who_is_configured_has_its_time_although_strangers_press() -> None:
    net = Net()
    right = net.host("right", RIGHT)
    right.add(connection(RIGHT, None, "anybody", start="wait"))
    right.add(connection(RIGHT, LEFT, start="wait"))
    data = request()
    net.sent.clear()
    number = 0
    while right.ike.half_open < HALF_OPEN_MAX // 2 + 20:
        number += 1
        one, path = spi(data, number), source(number)
        answers = give(right, one, path)
        if right.ike.half_open < number:
            give(right, with_cookie(one, answers[0]), path)
    # The proof comes late: there is much to do at either end.
    net.rule = lambda one: [8 * NS_PER_S if one.is_("left", Exchange.IKE_AUTH, response=False) else net.delay_ns]
    net.host("left", LEFT).add(connection(LEFT, RIGHT))
    assert net.run_until(lambda: net.carries(net.hosts["left"], right), 10)
    begun = {one.header.spi_i for one in net.sent if one.sender == "left"}
    assert len(begun) == 1


def test_a_cookie_is_good_for_its_request_alone_and_not_for_long() -> None:
    net = Net()
    host = responder(net)
    data = request()
    for number in range(1, COOKIES_FROM + 1):
        give(host, spi(data, number), source(number))
    one, path = spi(data, 5000), source(5000)
    answer = give(host, one, path)[0]
    good = with_cookie(one, answer)
    assert asks_for_a_cookie(give(host, good, source(5001))), "another address"
    assert asks_for_a_cookie(give(host, good, source(5000, 501))), "another port"
    assert asks_for_a_cookie(give(host, spi(good, 5002), path)), "another SPI"
    other = with_cookie(spi(request(98), 5000), answer)
    assert asks_for_a_cookie(give(host, other, path)), "another nonce"
    message = parse(good)
    cookie = message.payloads[0]
    assert isinstance(cookie, Notify)
    for wrong in (b"", cookie.data[:-1], cookie.data + b"x", bytes(17), cookie.data[:1] + bytes(16)):
        forged = build(Message(message.header, (replace(cookie, data=wrong), *message.payloads[1:])))
        assert asks_for_a_cookie(give(host, forged, path))
    half_open = host.ike.half_open
    assert not asks_for_a_cookie(give(host, good, path))
    assert host.ike.half_open == half_open + 1
    net.run(500)
    for number in range(1, COOKIES_FROM + 1):
        give(host, spi(data, number), source(number))
    assert asks_for_a_cookie(give(host, good, path)), "the secret has changed twice"


def test_a_repeated_request_gets_the_same_answer_and_costs_nothing() -> None:
    net = Net()
    host = responder(net)
    data = request()
    (first,) = give(host, data, source(1))
    for _ in range(50):
        assert give(host, data, source(1)) == [first]
    assert host.ike.half_open == 1
    assert host.ike.drops[Drop.REPEATED] == 50
    changed = data[:-1] + bytes((data[-1] ^ 1,))
    assert give(host, changed, source(1)) == []
    assert host.ike.half_open == 1


def test_nobody_is_answered_from_an_address_that_nothing_is_configured_for_but_to_say_so() -> None:
    net = Net()
    host = responder(net, LEFT)
    (answer,) = give(host, request(), source(1))
    assert [one.kind for one in parse(answer).payloads if isinstance(one, Notify)] == [NotifyType.NO_PROPOSAL_CHOSEN]
    assert host.ike.half_open == 0
    assert host.ike.drops[Drop.UNKNOWN_PEER] == 1


@pytest.mark.parametrize("number", [1, 3])
def test_what_is_said_to_strangers_is_bounded(number: int) -> None:
    net = Net()
    host = responder(net)
    header = Header(b"12345678", b"abcdefgh", Exchange.INFORMATIONAL, True, False, 0)
    sealed = bytearray(build(Message(header, (Unknown(46, False, bytes(40)),))))
    answered = 0
    for each in range(1000):
        sealed[8:16] = each.to_bytes(8, "big")
        answered += len(give(host, bytes(sealed), source(each % number)))
    assert answered <= STRANGERS_BURST + 1
    assert host.ike.drops[Drop.RATE_LIMIT] >= 1000 - STRANGERS_BURST - 1
    net.run(1)
    assert give(host, bytes(sealed), source(1))


def test_refusals_of_strangers_do_not_fill_the_log() -> None:
    net = Net()
    host = responder(net)
    broken = bytearray(request())
    # Encryption 20 (AES-GCM) becomes 11 (NULL), which nobody takes: the first transform's number.
    at = bytes(broken).index(bytes((1, 0, 0, 20)))
    broken[at + 3] = 11
    for number in range(1, 500):
        give(host, spi(bytes(broken), number), source(number))
    assert 1 <= len(host.told(Refused)) <= TOLD_BURST
    assert host.ike.half_open == 0


def test_other_versions_are_answered_as_the_rfc_says() -> None:
    net = Net()
    host = responder(net, LEFT)
    data = bytearray(request())
    data[17] = 0x30
    path = Path(RIGHT, LEFT, 500, False)
    (answer,) = give(host, bytes(data), path)
    assert parse(answer).header.major == 2
    assert [one.kind for one in parse(answer).payloads if isinstance(one, Notify)] == [NotifyType.INVALID_MAJOR_VERSION]
    data[17] = 0x10
    assert give(host, bytes(data), path) == []
    (refused,) = host.told(Refused)
    assert refused.reason == "unsupported"
    assert "IKEv1" in refused.lines[0]


def test_a_critical_payload_and_bad_syntax_in_the_first_message() -> None:
    net = Net()
    host = responder(net)
    message = parse(request())
    strange = build(Message(message.header, (*message.payloads, Unknown(99, True, b"?"))))
    (answer,) = give(host, strange, source(1))
    assert parse(answer).payloads == (Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((99,))),)
    twice = build(Message(message.header, (*message.payloads, message.payloads[0])))
    (answer,) = give(host, twice, source(1))
    assert parse(answer).payloads == (Notify(NotifyType.INVALID_SYNTAX),)
    passed = build(Message(message.header, (*message.payloads, Unknown(99, False, b"?"))))
    (answer,) = give(host, passed, source(1))
    assert len(parse(answer).payloads) > 3
    assert host.ike.half_open == 1


def test_nothing_of_the_half_open_is_ever_installed() -> None:
    net = Net()
    host = responder(net)
    data = request()
    for number in range(1, COOKIES_FROM):
        give(host, spi(data, number), source(number))
    net.run(100)
    assert not host.inbound
    assert not host.told(IkeUp)
    assert not host.told(ChildUp)
    assert not host.reserved
