"""
What a plan is made of: steps, each with what it does to sessions and the words that do it.

The words are those of `wg`, `ip`, `nft` and `ginnel`, one list of arguments a command; a secret is never among them, only the
file that holds it. They are for people (and for scripts that know what they do): what applies a plan looks at the hosts anew.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Literal

#: kept: nothing notices. renewed: a new handshake, without a gap. broken: until the other side has its step as well. new, ended:
#: there was none before; there is none after.
Sessions = Literal["kept", "renewed", "broken", "new", "ended"]
Status = Literal["new", "gone", "changed", "same"]


@dataclass(frozen=True, slots=True)
class Step:
    """
    One thing to do on one host.

    action: a word for programs, such as "peer-add". device: the interface. peer: whom it concerns, "" for the interface itself.
    text: for people. commands: lists of words, in order.
    """

    action: str
    device: str
    peer: str
    text: str
    sessions: Sessions = "kept"
    commands: tuple[tuple[str, ...], ...] = ()

    def lines(self) -> tuple[str, ...]:
        """The commands as a shell takes them."""
        return tuple(shlex.join(command) for command in self.commands)

    def json(self) -> dict[str, Any]:
        """For `ginnel.network-plan/1`."""
        return {
            "action": self.action,
            "device": self.device,
            "peer": self.peer,
            "text": self.text,
            "sessions": self.sessions,
            "commands": [list(command) for command in self.commands],
        }


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What is to be done on one host, in order."""

    name: str
    status: Status
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All hosts that change, in the order of what is to be; then those that go. *unchanged*: how many stay as they are."""

    hosts: tuple[HostPlan, ...]
    unchanged: int = 0

    @property
    def empty(self) -> bool:
        """Nothing is to be done anywhere."""
        return not self.hosts

    def host(self, name: str) -> HostPlan:
        """The plan of one host; KeyError when nothing changes there."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def counted(self) -> dict[Status, int]:
        """How many hosts are new, gone, changed, the same."""
        found: dict[Status, int] = {"new": 0, "gone": 0, "changed": 0, "same": self.unchanged}
        for host in self.hosts:
            found[host.status] += 1
        return found

    def json(self) -> dict[str, Any]:
        """`ginnel.network-plan/1`."""
        return {
            "schema": "ginnel.network-plan/1",
            "empty": self.empty,
            "count": self.counted(),
            "hosts": [
                {"name": host.name, "status": host.status, "steps": [step.json() for step in host.steps]} for host in self.hosts
            ],
        }
