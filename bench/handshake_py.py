"""
How many handshakes a second one thread of Python answers: `Interface.receive` and `poll`, with the engine faked.

    python bench/handshake_py.py [--peers 500] [--rounds 5]

Each round, every peer's genuine initiation is made beforehand (not timed), then all are answered in one go, timed: parse,
consume, respond, stamp, and every effect taken from `poll`. The first round also computes the static-static secret of each
peer (one Diffie-Hellman more). The figure is per second of this thread's processor time, since the machine may be
busy; wall time is printed beside it.
"""

from __future__ import annotations

import argparse
import itertools
import time

from ginnel import crypto
from ginnel.units import NS_PER_S, Endpoint, Now
from ginnel.wireguard.effects import SendHandshake, WaitUntil
from ginnel.wireguard.interface import Interface
from ginnel.wireguard.peer import PeerChange


def interface() -> Interface:
    """A machine on counters instead of an engine."""
    handles, indices = itertools.count(1), itertools.count(1)
    return Interface(add_peer=lambda _key: next(handles), reserve_index=lambda _peer: next(indices), entropy=bytes)


def settle(machine: Interface) -> list[object]:
    """Everything the machine puts out."""
    found: list[object] = []
    while not isinstance(output := machine.poll(), WaitUntil):
        found.append(output)
    return found


def main() -> None:
    """Run and print one line a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    now = Now(NS_PER_S, 1_700_000_000 * NS_PER_S)
    hub = interface()
    hub.set_private_key(crypto.generate_private_key(), now)
    hub.up(now)
    callers: list[Interface] = []
    for _ in range(options.peers):
        caller = interface()
        caller.set_private_key(crypto.generate_private_key(), now)
        caller.up(now)
        caller.configure_peer(PeerChange(hub.public_key, endpoint=Endpoint(b"\x7f\0\0\1", 1)), now)
        hub.configure_peer(PeerChange(caller.public_key), now)
        settle(caller)
        callers.append(caller)
    settle(hub)

    for round_ in range(options.rounds):
        now = Now(now.mono_ns + 6 * NS_PER_S, now.unix_ns + 6 * NS_PER_S)
        messages: list[bytes] = []
        for caller in callers:
            caller.down()
            caller.up(now)
            caller.session_needed(1, "packets", now)
            messages += [output.message for output in settle(caller) if isinstance(output, SendHandshake)]
        answered = 0
        started, began = time.thread_time(), time.perf_counter()
        for message in messages:
            hub.receive(message, "source", now)
            while True:
                output = hub.poll()
                kind = type(output)
                if kind is WaitUntil:
                    break
                if kind is SendHandshake:
                    answered += 1
        took, wall = time.thread_time() - started, time.perf_counter() - began
        assert answered == options.peers, (answered, hub.drops)
        each_us, wall_us = took / answered * 1e6, wall / answered * 1e6
        print(f"round {round_}: {1e6 / each_us:8.0f} handshakes/s   {each_us:6.1f} us each   ({wall_us:.1f} us wall)")


if __name__ == "__main__":
    main()
