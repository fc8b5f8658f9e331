"""What two machines agreed on, as time goes: new keys, silence, death and return, closing, changing, what strangers say of it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ginnel.ikev2.drops import Drop
from ginnel.ikev2.effects import ChildDown, ChildUp, IkeDown, IkeUp, Path, PeerDead
from ginnel.testing.ike import LEFT, RIGHT, Host, Net, connection, pair
from ginnel.units import NS_PER_S
from ginnel.wire.ikev2 import Exchange, Header, Message, Notify, NotifyType, build

FROM_RIGHT, FROM_LEFT = Path(LEFT, RIGHT, 500, False), Path(RIGHT, LEFT, 500, False)


def up(
    net: Net, left: dict[str, object] | None = None, right: dict[str, object] | None = None, **both: object
) -> tuple[Host, Host]:
    one, other = pair(net, left, right, **both)
    assert net.run_until(lambda: net.carries(one, other), 5)
    return one, other


def traffic(net: Net, one: Host, other: Host) -> None:
    """From now on a packet each way after every step must arrive."""

    def watch() -> None:
        for sender, receiver in ((one, other), (other, one)):
            assert net.packet(sender, receiver), f"a packet of {sender.name} was lost at {net.clock.mono_ns}"

    net.watch = watch


# ---------------------------------------------------------------- new keys


@pytest.mark.parametrize("loss", [0.0, 0.15])
@pytest.mark.parametrize("seed", range(3))
def test_keys_change_in_time_without_a_packet_lost(seed: int, loss: float) -> None:
    net = Net(seed=seed)
    left, right = up(net, rekey_ns=600 * NS_PER_S, ike_rekey_ns=2000 * NS_PER_S)
    net.rule = lambda _: [] if net.random.random() < loss else [net.random.randrange(1, 40_000_000)]
    traffic(net, left, right)
    net.run(36_000)
    for host in (left, right):
        view = host.view()
        assert view.child_rekeys >= 55
        assert view.ike_rekeys >= 17
        assert len(host.told(IkeUp)) == 1
        assert not host.told(ChildDown)
        assert view.children[0].rekey_in_s is None or view.children[0].rekey_in_s <= 600
    net.rule = None
    net.run(30)
    assert len(left.inbound) <= 2
    assert left.view().ike.spi_i == right.view().ike.spi_i


def test_rekeying_begins_up_to_a_tenth_early_and_the_limit_is_a_tenth_late() -> None:
    for seed in range(8):
        net = Net(seed=seed)
        left, right = up(net, rekey_ns=1000 * NS_PER_S, ike_rekey_ns=0)
        for host in (left, right):
            (child,) = host.view().children
            assert 900 <= child.rekey_in_s <= 1000
            assert 1099 <= child.hard_in_s <= 1100
            assert host.view().ike.rekey_in_s is None


def test_a_soft_limit_of_the_engine_rekeys_and_a_hard_one_makes_another() -> None:
    net = Net()
    left, right = up(net)
    first = left.outbound["t"].spi
    left.do(lambda ike, now: ike.sa_expiring("t", first, False, False, now))
    net.run(1)
    assert left.outbound["t"].spi != first
    assert left.view().child_rekeys == 1
    second = right.outbound["t"].spi
    left.do(lambda ike, now: ike.sa_expiring("t", second, True, True, now))
    assert net.run_until(lambda: net.carries(left, right), 1)
    net.run(10)
    assert right.outbound["t"].spi != second
    assert len(left.inbound) == 1


def test_an_unrekeyed_child_ends_at_its_limit() -> None:
    net = Net()
    left, right = up(net, rekey_ns=100 * NS_PER_S, dpd_ns=0, give_up_ns=3600 * NS_PER_S)
    net.rule = lambda _: []
    assert left.inbound["t", right.outbound["t"].spi].effect.hard_ns <= net.clock.mono_ns + 110 * NS_PER_S
    net.run(111)
    for host in (left, right):
        assert host.view().children[0].hard_in_s < 0, "the engine carries nothing by it any more"


def test_after_a_rekeying_late_packets_are_taken_for_five_seconds() -> None:
    net = Net()
    left, right = up(net)
    old = left.outbound["t"].spi
    left.do(lambda ike, now: ike.rekey_child("t", now))
    net.run(4.9)
    assert ("t", old) in right.inbound
    net.run(0.2)
    assert ("t", old) not in right.inbound


def test_rekeying_keeps_the_prf() -> None:
    from ginnel.ikev2 import proposals

    net = Net()
    offers = proposals.parse_list(("aes256gcm16-prfsha384-prfsha256-x25519", "aes128-sha256-x25519"), "ike")
    left, right = up(net, left={"ike_proposals": offers}, right={"ike_proposals": tuple(reversed(offers))})
    before = left.view().ike.proposal
    for host in (left, right, left):
        host.do(lambda ike, now: ike.rekey_ike("t", now))
        net.run(1)
        assert ("sha256" in left.view().ike.proposal) == ("sha256" in before)
    assert left.view().ike_rekeys == 3


# ---------------------------------------------------------------- silence and death


def test_silence_is_asked_about_and_traffic_is_an_answer() -> None:
    net = Net()
    left, right = up(net)
    net.sent.clear()
    net.run(95)
    asked = [one for one in net.sent if not one.header.response]
    assert {one.header.exchange for one in asked} == {Exchange.INFORMATIONAL}
    assert 3 <= len(asked) <= 7
    net.sent.clear()
    until = net.clock.mono_ns + 120 * NS_PER_S
    while net.clock.mono_ns < until:
        net.run(10)
        assert net.packet(left, right)
        assert net.packet(right, left)
    assert not net.sent, "genuine packets of ESP are signs of life"


@pytest.mark.parametrize("action", ["restart", "trap", "clear"])
def test_a_dead_peer_is_given_up_and_nothing_leaves(action: str) -> None:
    net = Net()
    left, right = up(net, dpd_action=action, give_up_ns=20 * NS_PER_S)
    net.rule = lambda _: []
    assert net.run_until(lambda: bool(left.told(PeerDead)), 120)
    (dead,) = left.told(PeerDead)
    assert 49 <= dead.silent_s <= 54
    assert not left.inbound
    assert not left.outbound
    assert left.told(ChildDown)
    assert left.told(IkeDown)
    net.run(60)
    net.rule = None
    net.sent.clear()
    back = net.run_until(lambda: net.carries(left, right), 120)
    assert back is (action == "restart")
    if action == "trap":
        left.do(lambda ike, now: ike.initiate("t", now))
        assert net.run_until(lambda: net.carries(left, right), 5)


@pytest.mark.parametrize("dead", ["left", "right"])
@pytest.mark.parametrize("sender", ["left", "right", "both"])
@pytest.mark.parametrize("start", ["wait", "trap", "start"])
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_started_again_traffic_is_back_at_once(dead: str, sender: str, start: str, seed: int) -> None:
    net = Net(seed=seed, delay_ns=20_000_000)
    left, right = up(net, right={"start": start})
    net.run(10)
    killed_ns = net.clock.mono_ns
    (left if dead == "left" else right).restart()
    while not net.carries(left, right):
        assert net.clock.mono_ns - killed_ns < 2 * NS_PER_S
        if sender != "right":
            net.packet(left, right)
        if sender != "left":
            net.packet(right, left)
        net.run(0.05)
    net.run(30)
    assert len(left.inbound) == len(right.inbound) == 1
    assert len(left.ike._sas) == len(right.ike._sas) == 1


def test_a_token_of_somebody_else_ends_nothing() -> None:
    net = Net()
    left, right = up(net)
    ike = left.view().ike
    header = Header(ike.spi_i, ike.spi_r, Exchange.INFORMATIONAL, False, True, 3)
    for token in (b"", bytes(16), bytes(32), b"x" * 128):
        told = (Notify(NotifyType.INVALID_IKE_SPI), Notify(NotifyType.QUICK_CRASH_DETECTION, token))
        left.do(lambda one, now, told=told: one.receive(build(Message(header, told)), FROM_RIGHT, now))
    assert left.ike.drops[Drop.TOKEN] == 4
    net.run(5)
    assert net.carries(left, right)
    assert not left.told(IkeDown)


def test_no_token_is_given_for_what_stands() -> None:
    net = Net()
    left, right = up(net)
    ike = right.view().ike
    sealed = next(one.data for one in net.sent if one.sender == "left" and one.header.exchange == Exchange.IKE_AUTH)
    net.sent.clear()
    for spi_i, spi_r in ((bytes(7) + b"x", ike.spi_r), (ike.spi_i, bytes(7) + b"x"), (ike.spi_r, ike.spi_i)):
        data = spi_i + spi_r + sealed[16:]
        right.do(lambda one, now, data=data: one.receive(data, FROM_LEFT, now))
    answered = [one.header for one in net.sent]
    assert all(one.spi_r != ike.spi_r for one in answered)
    assert net.carries(left, right)


@pytest.mark.parametrize(
    "kind",
    [
        NotifyType.INVALID_IKE_SPI,
        NotifyType.INVALID_SPI,
        NotifyType.AUTHENTICATION_FAILED,
        NotifyType.INVALID_SYNTAX,
        NotifyType.NO_PROPOSAL_CHOSEN,
        NotifyType.INVALID_MAJOR_VERSION,
    ],
)
@pytest.mark.parametrize("response", [True, False])
def test_unprotected_words_lead_to_one_question_and_no_more(kind: NotifyType, response: bool) -> None:
    net = Net()
    left, right = up(net)
    ike = left.view().ike
    net.sent.clear()
    header = Header(ike.spi_i, ike.spi_r, Exchange.INFORMATIONAL, False, response, 7)
    forged = build(Message(header, (Notify(kind),)))
    for _ in range(100):
        left.do(lambda one, now: one.receive(forged, FROM_RIGHT, now))
    net.run(1)
    assert sum(1 for one in net.sent if one.sender == "left") == 1, "one question, and none while it is fresh"
    assert left.ike.drops[Drop.HINT] == 100
    assert net.carries(left, right)


def test_unprotected_delete_and_garbage_are_dropped() -> None:
    from ginnel.wire.ikev2 import Delete, ProtocolId

    net = Net()
    left, right = up(net)
    ike = left.view().ike
    net.sent.clear()
    header = Header(ike.spi_i, ike.spi_r, Exchange.INFORMATIONAL, False, False, 0)
    forged = build(Message(header, (Delete(ProtocolId.IKE),)))
    for data in (forged, forged[:-1], b"", bytes(28), bytes(100), forged + b"x"):
        left.do(lambda one, now, data=data: one.receive(data, FROM_RIGHT, now))
    assert not net.sent
    assert left.ike.drops[Drop.UNPROTECTED] == 1
    assert net.carries(left, right)


def test_replayed_and_altered_messages_change_nothing() -> None:
    net = Net()
    left, right = up(net)
    right.do(lambda ike, now: ike.rekey_child("t", now))
    net.run(1)
    old = list(net.sent)
    net.run(10)
    net.sent.clear()
    state = (dict(left.outbound), dict(right.outbound), set(left.inbound), set(right.inbound))
    for datagram in old:
        for data in (datagram.data, datagram.data[:-1] + bytes((datagram.data[-1] ^ 1,))):
            host, path = (right, FROM_LEFT) if datagram.sender == "left" else (left, FROM_RIGHT)
            host.do(lambda one, now, data=data, path=path: one.receive(data, path, now))
    assert (dict(left.outbound), dict(right.outbound), set(left.inbound), set(right.inbound)) == state
    net.run(60)
    assert net.carries(left, right)
    assert len(left.ike._sas) == len(right.ike._sas) == 1


# ---------------------------------------------------------------- closing and changing


def test_terminate_closes_both_ends_and_initiate_brings_it_back() -> None:
    net = Net()
    left, right = up(net)
    left.do(lambda ike, now: ike.terminate("t", now))
    assert not left.outbound, "at once"
    net.run(60)
    for host in (left, right):
        assert not host.inbound
        assert not host.outbound
        assert host.view().ike is None
    assert left.view().state == "down"
    left.do(lambda ike, now: ike.initiate("t", now))
    assert net.run_until(lambda: net.carries(left, right), 1)


def test_who_wants_to_be_up_begins_again_after_the_peer_closed() -> None:
    net = Net()
    left, right = up(net)
    right.do(lambda ike, now: ike.terminate("t", now))
    net.run(0.5)
    assert not net.carries(left, right)
    assert net.run_until(lambda: net.carries(left, right), 3)


def test_remove_tells_the_peer_once_and_leaves_nothing() -> None:
    net = Net()
    left, right = up(net)
    net.sent.clear()
    left.do(lambda ike, now: ike.remove("t", now))
    assert len(net.sent) == 1
    assert not left.inbound
    assert not left.outbound
    assert not left.reserved
    net.run(1)
    assert not right.inbound
    assert not right.outbound
    net.run(100)
    assert left.poll() is None, "no deadline is left"
    assert left.ike.names() == ()


def test_change_of_times_keeps_what_stands_and_another_address_begins_anew() -> None:
    net = Net()
    left, right = up(net)
    before = left.outbound["t"].spi
    kept = left.connections["t"]
    from dataclasses import replace

    left.do(lambda ike, now: ike.change(replace(kept, rekey_ns=77 * NS_PER_S, dpd_ns=5 * NS_PER_S), now))
    assert left.outbound["t"].spi == before
    assert left.view().state == "up"
    third = net.host("third", bytes((192, 0, 2, 3)))
    third.add(connection(third.address, LEFT, start="wait"))
    left.do(lambda ike, now: ike.change(connection(LEFT, third.address), now))
    assert net.run_until(lambda: net.carries(left, third), 2)
    assert not right.inbound


def test_a_second_connection_of_a_name_is_an_error_and_an_unknown_one_too() -> None:
    net = Net()
    left, _ = up(net)
    with pytest.raises(ValueError, match="found a second 't'"):
        left.add(connection(LEFT, RIGHT))
    for act in ("remove", "initiate", "terminate", "rekey_child", "rekey_ike", "view"):
        with pytest.raises(KeyError):
            left.do(lambda ike, now, act=act: getattr(ike, act)("nobody", now))


def test_who_waits_for_traffic_says_nothing_before() -> None:
    net = Net()
    left, right = pair(net, left={"start": "trap"})
    net.run(100)
    assert not [one for one in net.sent if one.sender == "left"]
    assert left.view().state == "waiting"
    net.packet(left, right)
    assert net.run_until(lambda: net.carries(left, right), 1)


def test_nobody_can_be_called_without_an_address() -> None:
    net = Net()
    left = net.host("left", LEFT)
    left.add(connection(LEFT, None, start="wait"))
    left.do(lambda ike, now: ike.initiate("t", now))
    assert not net.sent
    assert "only the peer can begin" in left.view().refused_lines[0]


def test_many_connections_of_one_address_come_up_and_are_rekeyed() -> None:
    """One responder, and as many initiators at one address: more than the half-open table takes at once."""
    from ginnel.wire.ikev2 import Id, IdType

    count = 150
    net = Net(delay_ns=5_000_000)
    right, left = net.host("right", RIGHT), net.host("left", LEFT)
    server = Id(IdType.FQDN, b"server")
    for number in range(count):
        client = Id(IdType.FQDN, f"client{number}".encode())
        right.add(
            connection(RIGHT, None, f"t{number}", start="wait", local_id=server, remote_id=client, childless=False, dpd_ns=0)
        )
        left.add(connection(LEFT, RIGHT, f"t{number}", local_id=client, remote_id=server, childless=False, dpd_ns=0))
    net.run(20)
    names = [f"t{number}" for number in range(count)]
    assert all(net.packet(left, right, name, name) and net.packet(right, left, name, name) for name in names)
    assert right.ike.half_open == 0
    assert len(right.told(ChildUp)) == count
    net.run(3700)
    assert all(net.packet(left, right, name, name, use=False) for name in names)
    assert all(right.view(name).child_rekeys >= 1 for name in names)


# ---------------------------------------------------------------- proving oneself anew


def responder_says(net: Net, right: Host, kind: NotifyType, data: bytes, exchange: Exchange) -> None:
    """From now on the right one's answers of *exchange* carry that notify as well."""
    answer = right.ike.answer

    def more(sa: object, which: int, content: object, now: object) -> tuple[object, ...]:
        payloads = answer(sa, which, content, now)  # type: ignore[arg-type]
        return (*payloads, Notify(kind, data)) if which == exchange else payloads

    right.ike.answer = more  # type: ignore[assignment,method-assign]


def test_auth_lifetime_is_obeyed_without_a_packet_lost() -> None:
    net = Net()
    left, right = net.host("left", LEFT), net.host("right", RIGHT)
    right.add(connection(RIGHT, LEFT, start="wait"))
    responder_says(net, right, NotifyType.AUTH_LIFETIME, (600).to_bytes(4, "big"), Exchange.IKE_AUTH)
    left.add(connection(LEFT, RIGHT))
    assert net.run_until(lambda: net.carries(left, right), 1)
    traffic(net, left, right)
    net.run(6000)
    assert 10 <= len(left.told(IkeUp)) <= 14
    assert len(left.ike._sas) == len(right.ike._sas) == 1
    assert not left.told(ChildDown)


def test_a_peer_that_takes_no_second_child_gets_a_new_ike_sa() -> None:
    net = Net()
    left, right = up(net)
    traffic(net, left, right)
    answer = right.ike.answer

    def stingy(sa: object, which: int, content: object, now: object) -> tuple[object, ...]:
        if which == Exchange.CREATE_CHILD_SA and NotifyType.REKEY_SA in content.notifies:  # type: ignore[attr-defined]
            return (Notify(NotifyType.NO_ADDITIONAL_SAS),)
        return answer(sa, which, content, now)  # type: ignore[arg-type]

    right.ike.answer = stingy  # type: ignore[assignment,method-assign]
    before = left.outbound["t"].spi
    left.do(lambda ike, now: ike.rekey_child("t", now))
    net.run(30)
    assert left.outbound["t"].spi != before
    assert len(left.ike._sas) == len(right.ike._sas) == 1
    assert len(left.told(IkeUp)) == 2


@pytest.mark.parametrize("what", ["child", "ike"])
def test_temporary_failure_is_tried_again(what: str) -> None:
    net = Net()
    left, right = up(net)
    answer = right.ike.answer
    refused: list[int] = []

    def busy(sa: object, which: int, content: object, now: object) -> tuple[object, ...]:
        if which == Exchange.CREATE_CHILD_SA and len(refused) < 3:
            refused.append(net.clock.mono_ns)
            return (Notify(NotifyType.TEMPORARY_FAILURE),)
        return answer(sa, which, content, now)  # type: ignore[arg-type]

    right.ike.answer = busy  # type: ignore[assignment,method-assign]
    if what == "child":
        left.do(lambda ike, now: ike.rekey_child("t", now))
    else:
        left.do(lambda ike, now: ike.rekey_ike("t", now))
    net.run(15)
    assert len(refused) == 3
    assert all(NS_PER_S <= later - one <= 3.1 * NS_PER_S for one, later in pairwise(refused))
    view = left.view()
    assert (view.child_rekeys, view.ike_rekeys) == ((1, 0) if what == "child" else (0, 1))
