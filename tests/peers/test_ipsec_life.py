"""
The life of tunnels to strongSwan: rekeyed under traffic from either side and both, peers that die, floods and cookies.

Timers are short and the machine may be busy: what is bounded is bounded generously; what must not happen is asked exactly.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ginnel.wire import ikev2
from namespaces import Namespace, Net, wait_until
from native.rig import inside
from peers.ipsec_world import Peering, World
from peers.strongswan import Value

#: Of strongSwan: quick to find a peer dead.
HASTY: Mapping[str, Value] = {"retransmit_timeout": "0.5", "retransmit_tries": "3", "retransmit_base": "1.2"}
#: Of ours: the same.
OUR_HASTE = {"dpd_s": 1, "retransmit_s": 0.3, "give_up_s": 2.0}
#: Seconds of traffic, and pings a second, while both kinds of SA are rekeyed.
TRAFFIC_S = 16
RATE = 200


@contextmanager
def running(
    directory: Path, peerings: Sequence[Peering], name: str, options: Mapping[str, Value] | None = None
) -> Iterator[World]:
    """Both ends with these connections."""
    with Net.create() as net:
        world = World.start(net, directory, peerings, name=name, options=options)
        try:
            yield world
        finally:
            world.stop()


def test_rekeyed_every_few_seconds_under_traffic_from_either_side_and_both(tmp_path: Path) -> None:
    """Rekeyed by strongSwan, by us, by both at once, and authenticated anew (make-before-break); not one ping is lost."""
    fast: Mapping[str, Value] = {"rekey_time": "3s", "life_time": "30s", "rand_time": "1s"}
    fast_ike: Mapping[str, Value] = {"rekey_time": "5s", "over_time": "30s", "rand_time": "1s"}
    ours = {"rekey_s": 3, "ike_rekey_s": 5}
    peerings = [
        Peering(1, "by-strongswan", theirs_child=fast, theirs=fast_ike),
        Peering(2, "by-us", ours=ours),
        Peering(3, "by-both", esp="aes128gcm16-x25519", ours=ours, theirs_child=fast, theirs=fast_ike),
        Peering(4, "reauthenticated", theirs={"reauth_time": "4s", "over_time": "30s", "rand_time": "0s"}),
    ]
    with running(tmp_path, peerings, "rekeyed", {"make_before_break": True}) as world:
        pings = []
        for peering in peerings:
            assert "established" in world.charon.initiate(peering.name, check=False), world.why(peering)
            argv = ["ping", "-n", "-q", "-i", str(1 / RATE), "-w", str(TRAFFIC_S), "-I", peering.inside_node, peering.inside_swan]
            pings.append(world.node_space.popen(*argv, stdout=subprocess.PIPE, text=True))
        for peering, ping in zip(peerings, pings, strict=True):
            said, _ = ping.communicate(timeout=TRAFFIC_S + 20)
            sent, received = (int(word.split()[0]) for word in said.splitlines()[-2].split(", ")[:2])
            assert sent > TRAFFIC_S * RATE // 3
            assert sent - received <= 1, f"{peering}: {said} {world.why(peering)}"  # the last may be under way when time is up
            shown = world.node.show(peering.device)["ipsec"]
            if peering.label == "reauthenticated":
                assert world.node.said().count(f"ike_up interface={peering.device}") >= 3, world.why(peering)
            else:
                assert shown["rekeyings"] >= 3, f"{peering} {world.why(peering)}"
                assert shown["ike_rekeyings"] >= 1, f"{peering} {world.why(peering)}"
            assert len([one for one in world.charon.associations() if one["name"] == peering.name]) == 1


def left(world: World, peering: Peering) -> tuple[list[str], int, int]:
    """strongSwan's IKE SAs by their states, its children but those it has deleted itself, and our ESP SAs."""
    found = [one for one in world.charon.associations() if one["name"] == peering.name]
    ours = world.node.show(peering.device)["ipsec"]["associations"]
    children = [child for one in found for child in one["children"] if child["state"] != "DELETED"]
    return [one["state"] for one in found], len(children), len(ours)


def test_rekeyings_that_meet_lose_nothing(tmp_path: Path) -> None:
    """Children and IKE SAs, by both ends within milliseconds, over and over; one of each is left, and not one ping is lost."""
    peerings = [Peering(1, "with-pfs", esp="aes128gcm16-x25519"), Peering(2, "without")]
    chance = random.Random(8)
    with running(tmp_path, peerings, "meeting") as world:
        pings = []
        for peering in peerings:
            assert "established" in world.charon.initiate(peering.name, check=False), world.why(peering)
            argv = ["ping", "-n", "-q", "-i", "0.01", "-c", "500", "-W", "5", "-I", peering.inside_node, peering.inside_swan]
            pings.append(world.node_space.popen(*argv, stdout=subprocess.PIPE, text=True))
        while any(ping.poll() is None for ping in pings):
            peering = chance.choice(peerings)
            for what in chance.sample(("child", "ike", "rekey", "rekey-ike"), 2):
                if what in {"child", "ike"}:
                    # May be refused while another is under way.
                    world.charon.ask("--rekey", f"--{what}", peering.name, check=False)
                else:
                    world.node.ask(op=what, tunnel=peering.device)
        for peering, ping in zip(peerings, pings, strict=True):
            said, _ = ping.communicate(timeout=20)
            assert "500 packets transmitted, 500 received" in said, f"{said} {world.why(peering)}"

            try:
                wait_until(lambda one=peering: left(world, one) == (["ESTABLISHED"], 1, 2), 30, "one of each")
            except AssertionError:
                raise AssertionError(f"{left(world, peering)} {world.why(peering)}") from None
            shown = world.node.show(peering.device)["ipsec"]
            assert shown["rekeyings"] >= 5, world.why(peering)
            assert shown["ike_rekeyings"] >= 5, world.why(peering)
            world.carries(peering)


def test_strongswan_is_killed_and_comes_back(tmp_path: Path) -> None:
    """We find it dead, send nothing in clear, and establish anew when it is there again."""
    peering = Peering(1, "killed", ours={**OUR_HASTE, "start": "start", "dpd_action": "restart"})
    with running(tmp_path, [peering], "bereft", HASTY) as world:
        world.up(peering)
        world.carries(peering)
        world.charon.kill()
        wait_until(lambda: world.node.show(peering.device)["ipsec"]["child"] is None, 15, "its death to be noticed")
        before = world.node.show(peering.device)["drops"].get("no_sa", 0)
        assert not world.node_space.ping(peering.inside_swan, count=2, within_s=0.3)
        assert world.node.show(peering.device)["drops"]["no_sa"] >= before + 2
        world.charon.again()
        world.load()
        world.up(peering, 30)
        world.carries(peering)


def test_we_are_killed_and_come_back(tmp_path: Path) -> None:
    """strongSwan finds us dead; and when we are back before it could, our INITIAL_CONTACT leaves one IKE SA."""
    peering = Peering(1, "killed", ours={**OUR_HASTE, "start": "start"}, theirs={"dpd_delay": "1s"})
    with running(tmp_path, [peering], "killed", HASTY) as world:
        for again in ("at once", "late"):
            world.up(peering)
            world.carries(peering)
            world.node.process.send_signal(signal.SIGKILL)
            world.node.process.wait(timeout=10)
            if again == "late":
                world.gone(peering, 20)
            world.revive()
            wait_until(lambda: world.node.show(peering.device)["ipsec"]["child"], 20, "a child here")
            assert len(world.charon.associations()) == 1, world.why(peering)
            world.carries(peering)


def forged(number: int) -> bytes:
    """The first message of somebody who will not go on."""
    proposal = ikev2.Proposal(
        1, ikev2.ProtocolId.IKE, b"",
        (
            ikev2.Transform(ikev2.TransformType.ENCR, 20, 256), ikev2.Transform(ikev2.TransformType.PRF, 5),
            ikev2.Transform(ikev2.TransformType.KE, 31),
        ),
    )  # fmt: skip
    header = ikev2.Header(number.to_bytes(8, "big"), bytes(8), ikev2.Exchange.IKE_SA_INIT, True, False, 0)
    payloads = (ikev2.Sa((proposal,)), ikev2.Ke(31, os.urandom(32)), ikev2.Nonce(os.urandom(32)))
    return ikev2.build(ikev2.Message(header, payloads))


@contextmanager
def stranger(space: Namespace, address: str) -> Iterator[socket.socket]:
    """A socket there that is no IKE daemon's."""
    with inside(space), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((address, 0))
        made.settimeout(5)
        yield made


def test_cookies_are_asked_for_and_given(tmp_path: Path) -> None:
    """strongSwan asks for a cookie when one connection is half open; so do we when many are. Both get in."""
    peerings = [Peering(number, "cookies") for number in range(1, 5)]
    peering = peerings[0]
    with running(tmp_path, peerings, "cookies", {"cookie_threshold": 1, "block_threshold": 0, "half_open_timeout": 60}) as world:
        with stranger(world.node_space, peering.node) as asking:
            asking.sendto(forged(1), (peering.swan, 500))
            asking.recv(4096)
        world.ours_up(peering)
        assert "COOKIE" in world.charon.said()
        world.carries(peering)
        world.charon.terminate(peering.name)
        for one in peerings:
            with stranger(world.swan_space, one.swan) as asking:
                for turn in range(12):
                    asking.sendto(forged(100 * one.number + turn), (one.node, 500))
                    asking.recv(4096)
        said = world.charon.initiate(peering.name, check=False)
        assert "N(COOKIE)" in said, said
        assert "established" in said, world.why(peering)
        world.carries(peering)
