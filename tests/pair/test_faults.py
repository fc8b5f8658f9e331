"""Two peers on a bad network, under load, across restarts and changes of configuration; the named mistakes of others."""

from __future__ import annotations

import pytest

from ginnel import crypto
from ginnel.crypto import Secret
from ginnel.testing import Datagram, Node, Pair
from ginnel.units import Endpoint, PublicKey
from ginnel.wireguard.effects import ClockBehind, Established, SetEndpoint
from ginnel.wireguard.interface import Drop
from ginnel.wireguard.peer import PeerChange

MS = 1_000_000
SECOND = 1_000 * MS
ELSEWHERE = Endpoint(b"\xc6\x33\x64\x09", 4242)


def works(pair: Pair, *, within_s: float) -> None:
    """Both directions carry a packet within the time; sent again each 100 ms, as people do."""
    expected = {pair.left: b"l %d" % pair.clock.mono_ns, pair.right: b"r %d" % pair.clock.mono_ns}
    waited = 0.0
    while any(payload not in pair.other(node).delivered for node, payload in expected.items()):
        assert waited < within_s, f"nothing got through within {within_s} s"
        for node, payload in expected.items():
            if payload not in pair.other(node).delivered:
                node.send(payload)
        pair.run_for(seconds=0.1)
        waited += 0.1


def of_type(pair: Pair, kind: int, source: Node) -> list[bytes]:
    """Every message of that type that *source* ever sent."""
    return [d.payload for _, d in pair.net.sent if d.payload[0] == kind and d.source == source.address]


# ---------------------------------------------------------------- load and cookies


def test_r4_a_newcomer_gets_through_a_responder_under_load_with_one_retry() -> None:
    pair = Pair()
    pair.right.tunnel.under_load = True
    began = pair.clock.mono_ns
    pair.left.send(b"let me in")
    pair.run_for(seconds=6)
    assert pair.right.delivered == [b"let me in"]
    first, second = of_type(pair, 1, pair.left)
    assert first[-16:] == bytes(16)
    assert second[-16:] != bytes(16)
    assert pair.right.tunnel.cookies_issued == 1
    assert pair.right.peer.handshake_mono_ns - began <= 5_400 * MS


def test_an_initiator_under_load_asks_the_responder_for_a_cookie_too() -> None:
    pair = Pair()
    pair.left.tunnel.under_load = True
    pair.left.send(b"hello")
    pair.run_for(seconds=12)
    assert pair.right.delivered == [b"hello"]
    assert pair.left.tunnel.cookies_issued == 1
    assert of_type(pair, 2, pair.right)[-1][-16:] != bytes(16)


def test_r5_a_cookie_is_worth_nothing_from_another_port() -> None:
    pair = Pair()
    pair.right.tunnel.under_load = True
    pair.left.send(b"one")
    pair.run_for(seconds=6)
    pair.left.address = pair.left.address._replace(port=9)  # a NAT rebinding
    pair.left.command(lambda machine, _now: machine.down())
    pair.left.command(lambda machine, now: machine.up(now))
    pair.left.send(b"two")
    pair.run_for(milliseconds=100)
    assert of_type(pair, 1, pair.left)[-1][-16:] != bytes(16)  # the old cookie was tried
    assert pair.right.tunnel.cookies_issued == 2
    pair.run_for(seconds=6)
    assert pair.right.delivered == [b"one", b"two"]


def test_r5_without_load_no_cookie_is_ever_given_or_used() -> None:
    pair = Pair()
    for number in range(300):
        pair.left.send(b"%d" % number)
        pair.run_for(seconds=125)
    assert len(of_type(pair, 1, pair.left)) == 300
    assert {message[-16:] for message in of_type(pair, 1, pair.left) + of_type(pair, 2, pair.right)} == {bytes(16)}
    assert of_type(pair, 3, pair.right) == []


def test_a_cookie_whose_secret_was_rotated_is_replaced() -> None:
    pair = Pair()
    pair.right.tunnel.under_load = True
    pair.left.send(b"one")
    pair.run_for(seconds=6)
    pair.right.tunnel.rotate_cookie_secret()
    pair.left.command(lambda machine, _now: machine.down())
    pair.left.command(lambda machine, now: machine.up(now))
    pair.left.send(b"two")
    pair.run_for(seconds=6)
    assert pair.right.delivered == [b"one", b"two"]
    assert pair.right.tunnel.cookies_issued == 2


# ---------------------------------------------------------------- roaming


@pytest.mark.parametrize(("kind", "roams"), [(1, True), (2, True), (3, False), (4, True)])
def test_r6_which_messages_move_an_endpoint(kind: int, roams: bool) -> None:
    """Each type of message, genuine and fresh, arriving from a new address."""
    pair = Pair()
    sender, receiver = (pair.left, pair.right) if kind in {1, 4} else (pair.right, pair.left)
    if kind == 4:
        pair.establish()
    pair.right.tunnel.under_load = kind == 3
    sent = len(pair.net.sent)
    pair.left.send(b"x")
    while not (found := [d for _, d in pair.net.sent[sent:] if d.payload[0] == kind and d.source == sender.address]):
        pair.step(pair.clock.mono_ns + SECOND)
    pair.net.drop_in_flight()
    receiver.receive(found[0].payload, ELSEWHERE)
    assert (receiver.tunnel_peer.endpoint == ELSEWHERE) is roams
    if kind == 3:
        assert receiver.drops == []  # it was taken


def test_r6_a_replayed_or_forged_message_moves_nothing() -> None:
    pair = Pair()
    pair.establish()
    home = pair.right.tunnel_peer.endpoint
    for _, datagram in list(pair.net.sent):
        for node in (pair.left, pair.right):
            before = node.tunnel_peer.endpoint
            node.receive(datagram.payload, ELSEWHERE)
            node.receive(datagram.payload[:-1] + bytes([datagram.payload[-1] ^ 1]), ELSEWHERE)
            assert node.tunnel_peer.endpoint == before
    assert pair.right.tunnel_peer.endpoint == home


def test_a_server_learns_where_its_client_is_and_follows_it() -> None:
    pair = Pair(introduced=False)
    assert pair.right.tunnel_peer.endpoint is None
    pair.establish()
    assert pair.right.tunnel_peer.endpoint == pair.left.address
    pair.left.address = ELSEWHERE
    pair.left.send(b"moved")
    pair.run_for(milliseconds=10)
    pair.right.send(b"seen")
    pair.run_for(milliseconds=10)
    assert pair.left.delivered == [b"seen"]


# ---------------------------------------------------------------- keys change


def test_r7_a_preshared_key_changed_live_counts_from_the_next_handshake_on() -> None:
    pair = Pair()
    pair.establish()
    psk = Secret.random()
    for node in (pair.left, pair.right):
        node.configure(PeerChange(PublicKey(node.peer.public_key), preshared_key=psk))
    pair.left.send(b"same session")
    pair.run_for(seconds=1)
    assert pair.right.delivered[-1] == b"same session"
    assert len(of_type(pair, 1, pair.left)) == 1
    pair.run_for(seconds=125)
    works(pair, within_s=2)
    assert len(of_type(pair, 1, pair.left)) == 2


def test_r7_different_preshared_keys_never_make_a_session() -> None:
    pair = Pair(preshared_key=Secret.random())
    pair.left.configure(PeerChange(pair.left.peer.public_key, preshared_key=Secret.random()))
    pair.left.send(b"secret")
    pair.run_for(seconds=30)
    assert pair.right.delivered == []
    assert set(pair.left.drops) == {Drop.BAD_RESPONSE}
    assert pair.left.peer.handshake_unix_ns == 0
    pair.left.configure(PeerChange(pair.left.peer.public_key, preshared_key=pair._preshared_key))
    works(pair, within_s=6)


def test_a_new_private_key_is_used_with_the_next_packet() -> None:
    pair = Pair()
    pair.establish()
    new = crypto.generate_private_key()
    pair.right.configure(PeerChange(crypto.public_key(new)))
    pair.right.configure(PeerChange(pair.right.machine.peers().__iter__().__next__().public_key, remove=True))
    pair.left.command(lambda machine, now: machine.set_private_key(new, now))
    pair.left.send(b"as another")
    pair.run_for(milliseconds=100)
    assert pair.right.delivered[-1] == b"as another"


# ---------------------------------------------------------------- replay


def test_a_full_replay_of_everything_recorded_delivers_nothing() -> None:
    pair = Pair(seed=5)
    for number in range(200):
        pair.left.send(b"l%d" % number)
        pair.right.send(b"r%d" % number)
        pair.run_for(seconds=2)
    recorded = [datagram for _, datagram in pair.net.sent]
    before = [node.delivered.copy() for node in (pair.left, pair.right)]
    installed = len(pair.keys)
    for datagram in recorded:
        for node in (pair.left, pair.right):
            node.receive(datagram.payload, datagram.source)
            node.receive(datagram.payload, ELSEWHERE)
    pair.net.drop_in_flight()
    assert [node.delivered for node in (pair.left, pair.right)] == before
    assert len(pair.keys) == installed
    works(pair, within_s=6)


def test_a_replay_after_the_responder_restarted_delivers_nothing() -> None:
    """It has forgotten the timestamps, so it answers an old initiation once: but nobody holds the keys of that session."""
    pair = Pair()
    pair.left.send(b"once")
    pair.run_for(seconds=1)
    recorded = [datagram for _, datagram in pair.net.sent if datagram.source == pair.left.address]
    pair.restart(pair.right, remembering=False)
    for datagram in recorded * 2:
        pair.right.receive(datagram.payload, datagram.source)
    assert pair.right.delivered == []
    assert pair.right.peer.handshake_unix_ns == 0
    works(pair, within_s=6)


def test_r22_a_response_delivered_many_times_starts_one_session() -> None:
    pair = Pair()
    pair.left.send(b"x")
    while not (responses := of_type(pair, 2, pair.right)):
        pair.step(pair.clock.mono_ns + SECOND)
    for _ in range(3):
        pair.left.receive(responses[0], pair.right.address)
    pair.run_for(seconds=1)
    pair.left.command(lambda machine, now: machine.session_needed(pair.left.peer.handle, "ageing", now))
    pair.left.receive(responses[0], pair.right.address)
    pair.run_for(seconds=130)
    # Node's tunnels assert that no key is installed twice; and there was one session per handshake.
    established = [event for event in pair.left.events if isinstance(event, Established)]
    assert len(established) == len({event.local_index for event in established})
    assert len(pair.keys) == 2 * sum(
        len([event for event in node.events if isinstance(event, Established)]) for node in (pair.left, pair.right)
    )


# ---------------------------------------------------------------- bad networks


@pytest.mark.parametrize("seed", range(20))
def test_a_network_with_every_fault_still_carries(seed: int) -> None:
    pair = Pair(seed=seed)
    pair.net.loss, pair.net.duplicate, pair.net.reorder, pair.net.jitter_ns = 0.3, 0.3, 0.3, 40 * MS
    for _ in range(60):
        pair.left.send(b"l")
        pair.right.send(b"r")
        pair.run_for(seconds=5)
    assert len(pair.left.delivered) > 20
    assert len(pair.right.delivered) > 20
    assert len(pair.left.delivered) <= 60
    pair.net.heal()
    works(pair, within_s=6)


def test_at_30_percent_loss_nineteen_of_twenty_connect_within_eleven_seconds() -> None:
    connected = 0
    for seed in range(400):
        pair = Pair(seed=seed)
        pair.net.loss = 0.3
        pair.left.send(b"x")
        pair.run_for(seconds=11)
        connected += pair.left.peer.handshake_unix_ns != 0
    # Three tries of 0.7 * 0.7 each succeed in 87 of 100; with the answering side idle there are no more in 11 s.
    assert connected / 400 >= 0.83


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("step_s", [-10 * 365 * 86_400, -3600, -1, 1, 3600, 10 * 365 * 86_400])
@pytest.mark.parametrize("node", ["left", "right"])
def test_r13_a_wall_clock_that_jumps_stops_nothing(step_s: int, node: str) -> None:
    pair = Pair()
    pair.establish()
    pair.clock.step_wall(step_s * SECOND)
    pair.run_for(seconds=200)
    speaker = getattr(pair, node)
    speaker.send(b"after the jump")
    pair.run_for(seconds=1)
    assert pair.other(speaker).delivered[-1] == b"after the jump"
    assert any(isinstance(event, ClockBehind) for event in pair.left.events) is (step_s < -200 and node == "left")


def test_r13_a_clock_ten_years_ahead_and_back_needs_no_new_key() -> None:
    pair = Pair()
    pair.clock.step_wall(10 * 365 * 86_400 * SECOND)
    pair.establish()
    pair.clock.step_wall(-10 * 365 * 86_400 * SECOND)
    pair.restart(pair.left, remembering=True)
    works(pair, within_s=6)


def test_r13_a_suspended_machine_handshakes_when_it_wakes() -> None:
    pair = Pair()
    pair.establish()
    # CLOCK_BOOTTIME counts the sleep: everything is due at once.
    pair.clock.advance_to(pair.clock.mono_ns + 8 * 3600 * SECOND)
    works(pair, within_s=1)


# ---------------------------------------------------------------- restarts


def test_a_restarted_side_that_remembers_speaks_first_within_a_second() -> None:
    pair = Pair(introduced=False)
    pair.establish()
    pair.run_for(seconds=60)
    pair.restart(pair.right, remembering=True)
    assert any(isinstance(effect, SetEndpoint) for effect in pair.right.effects)
    began = pair.clock.mono_ns
    pair.left.send(b"lost, as left does not know")
    pair.run_for(milliseconds=100)
    pair.left.send(b"through")
    pair.run_for(milliseconds=100)
    assert pair.right.delivered == [b"through"]
    assert pair.clock.mono_ns - began <= SECOND


def test_a_restarted_side_that_forgot_is_found_by_the_15_s_timer() -> None:
    pair = Pair(introduced=False)
    pair.establish()
    pair.run_for(seconds=60)
    pair.right.crash()
    pair.set_up(pair.right, None)
    pair.left.send(b"one")
    pair.run_for(seconds=15.4)
    pair.left.send(b"two")
    pair.run_for(seconds=1)
    assert b"two" in pair.right.delivered


def test_both_sides_restarted_at_once_find_each_other() -> None:
    pair = Pair(delay_ns=20 * MS)
    pair.establish()
    pair.run_for(seconds=30)
    pair.restart(pair.left, remembering=True)
    pair.restart(pair.right, remembering=True)
    works(pair, within_s=1)


def test_r15_down_and_up_at_any_moment_of_a_handshake() -> None:
    for steps in range(6):
        for node_name in ("left", "right"):
            pair = Pair(seed=steps)
            pair.left.send(b"x")
            for _ in range(steps):
                pair.step(pair.clock.mono_ns + SECOND)
            node = getattr(pair, node_name)
            node.command(lambda machine, _now: machine.down())
            assert node.tunnel.indices == {}
            pair.run_for(milliseconds=5)
            node.command(lambda machine, now: machine.up(now))
            works(pair, within_s=16)


def test_r15_removing_a_peer_at_any_moment_of_a_handshake_leaves_nothing() -> None:
    for steps in range(6):
        for node_name in ("left", "right"):
            pair = Pair(seed=steps)
            pair.left.send(b"x")
            for _ in range(steps):
                pair.step(pair.clock.mono_ns + SECOND)
            node = getattr(pair, node_name)
            node.command(lambda machine, _now: machine.replace_peers())
            assert node.tunnel.indices == {}
            assert node.machine._by_index == {}
            assert node.next_ns() is None
            for datagram in [d for _, d in pair.net.sent]:
                node.receive(datagram.payload, datagram.source)
            assert node.tunnel.indices == {}


def test_a_datagram_for_another_address_is_not_delivered() -> None:
    """Guards the tests: the simulated network does not hand datagrams to whoever may open them."""
    pair = Pair()
    pair.net.inject(Datagram(pair.left.address, ELSEWHERE, b"\x01" * 148), pair.clock.mono_ns)
    pair.run_for(seconds=1)
    assert pair.right.drops == []
    assert pair.right.tunnel.events == type(pair.right.tunnel.events)()
