"""
The names of log events: one table, so that an operator can search for them and a test can compare.

A line is `event key=value ...`; the event says what happened, the fields with whom and why. Levels: DEBUG per state change of a
peer, INFO what an operator would tell a colleague, WARN what is worth waking for, ERROR we stop. Fields never hold a secret;
addresses of WireGuard's peers, who roam, appear at DEBUG only; the ends of plain tunnels are what the operator wrote, and what
ICMP says of the way to them names routers.

`render` is pure; where lines go is the runtime's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Level(IntEnum):
    """How much a line matters; the numbers are those of `logging`."""

    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    SILENT = 100


#: LOG_LEVEL as wireguard-go understands it, and the names people try.
LEVELS: Mapping[str, Level] = {
    "verbose": Level.DEBUG,
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "warn": Level.WARN,
    "warning": Level.WARN,
    "error": Level.ERROR,
    "silent": Level.SILENT,
}

#: Every event that the process may log, and what it tells.
EVENTS: Mapping[str, tuple[Level, str]] = {
    "started": (Level.INFO, "the device and both sockets are usable"),
    "stopping": (Level.INFO, "the process ends; reason tells why"),
    "start_failed": (Level.ERROR, "the process could not start; error tells why and how to mend it"),
    "failed": (Level.ERROR, "a mistake in the program; what it was doing is lost, the tunnel goes on"),
    "worker_ended": (Level.ERROR, "a thread of the engine ended while the device is there; the process ends"),
    "link_up": (Level.INFO, "the interface was set up: sockets are open"),
    "link_down": (Level.INFO, "the interface was set down: sockets closed, sessions zeroed"),
    "link_up_failed": (Level.ERROR, "the sockets could not be opened, e.g. the port is taken"),
    "link_moved": (Level.INFO, "the device now lives in another namespace; the sockets stayed"),
    "link_lost_sight": (Level.WARN, "the device moved where it cannot be watched; up, down and MTU are no longer followed"),
    "link_mtu": (Level.INFO, "the MTU of the interface changed"),
    "host_changed": (Level.DEBUG, "routes or addresses of the host changed: source addresses forgotten"),
    "peer_added": (Level.DEBUG, "a peer was configured"),
    "peer_removed": (Level.DEBUG, "a peer was removed"),
    "session_started": (Level.DEBUG, "a handshake completed"),
    "handshake_gave_up": (Level.INFO, "a peer did not answer for 90 s"),
    "handshake_refused": (Level.DEBUG, "a handshake message was refused; reason tells why"),
    "endpoint_changed": (Level.DEBUG, "a peer speaks from a new address"),
    "endpoint_resolved": (Level.INFO, "a host name gave another address than the one in use"),
    "endpoint_unresolved": (Level.WARN, "a host name could not be resolved; it is tried again"),
    "clock_set_back": (Level.WARN, "the wall clock is before what was already told to peers; handshakes go on from there"),
    "remembered": (Level.INFO, "state of a process that died was found: peers are spoken to first"),
    "state_unwritable": (Level.WARN, "the state file could not be written; a crash would be noticed by peers"),
    "state_unreadable": (Level.WARN, "the state file could not be read and is ignored"),
    "uapi_refused": (Level.WARN, "an operation on the UAPI socket failed"),
    "control_refused": (Level.WARN, "a connection or a request on the control socket was refused"),
    "peer_alive": (Level.INFO, "a keepalive of the tunnel came back, the first or the first after it was dead"),
    "peer_dead": (Level.WARN, "as many keepalives in a row as are configured did not come back"),
    "control_unsent": (Level.DEBUG, "a keepalive or an answer to one could not be sent"),
    "path_mtu": (Level.INFO, "the path was found to take smaller packets, or what was known of it was too old (mtu 0)"),
    "path_probed": (Level.WARN, "packets larger than mtu vanish on the path without ICMP, probes found (mtu 0: all pass again)"),
    "path_mtu_refused": (Level.WARN, "an ICMP error named an MTU below every honest link's; the floor is taken"),
    "path_refused": (Level.WARN, "an ICMP error says that packets of the tunnel do not arrive; why tells which"),
    "path_filtered": (Level.WARN, "the remote answers pings, and nothing comes out of the tunnel: its protocol seems filtered"),
    "routing_loop": (Level.WARN, "the path MTU falls by the tunnel's overhead again and again: its packets come round again"),
    "held": (Level.WARN, "the route to the remote leads back into the tunnel: nothing is sent"),
    "released": (Level.INFO, "the route to the remote is good again, and has been for long enough"),
    "mismatch": (Level.WARN, "packets of the peer's are dropped because the two ends are configured differently"),
    "remote_changed": (Level.INFO, "the remote's name now has another address"),
    "remote_unresolved": (Level.WARN, "the remote's name could not be resolved; it is tried again"),
    "device_gone": (Level.INFO, "the device of one tunnel was deleted; the others go on"),
    "ike_up": (Level.INFO, "the peer has proven who it is: an IKE SA was agreed on"),
    "ike_down": (Level.INFO, "an IKE SA has ended, and with it what it protected; why tells"),
    "child_up": (Level.INFO, "a pair of ESP SAs is in use: the tunnel carries"),
    "child_rekeyed": (Level.INFO, "a pair of ESP SAs has taken the place of another"),
    "child_down": (Level.INFO, "no ESP SA is left: the tunnel carries nothing until there is one"),
    "negotiation_failed": (Level.WARN, "the peer and we could not agree; why says what failed, lines of `explained` the rest"),
    "negotiation_failed_again": (Level.DEBUG, "the same failure as was explained in the last ten minutes"),
    "explained": (Level.WARN, "one line about the failure before: both sides, the nearest difference, how to mend it"),
    "ike_dropped": (Level.DEBUG, "an IKE message was refused without an answer; reason tells why"),
    "ike_unsent": (Level.DEBUG, "an IKE message could not be sent; it is repeated in time"),
    "ike_peer_dead": (Level.WARN, "the peer of an IKE SA did not answer; what follows is the tunnel's dpd_action"),
    "path_moved": (Level.INFO, "the peer of a protected tunnel speaks from another address or port: ours go there now"),
    "sa_refused": (Level.ERROR, "the engine refused an SA: a mistake in the program; the tunnel stays closed"),
    "keys_written": (Level.WARN, "debug mode: the keys of all IPsec SAs are written to a directory"),
    "weak_algorithm": (Level.WARN, "a proposal names an algorithm that is no longer safe"),
    "socket_removed": (Level.INFO, "the UAPI socket file was removed: the process ends"),
}


def quote(value: object) -> str:
    """A value as one word: quoted when it holds a space, a quote, an equals sign or a control character, or is empty."""
    text = str(value)
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text.replace("\\", "\\\\"))
    return '"' + escaped.replace('"', '\\"') + '"'


def render(event: str, fields: Mapping[str, object]) -> str:
    """`event key=value ...`; a KeyError when *event* is not in the table."""
    if event not in EVENTS:
        raise KeyError(event)
    return " ".join([event, *(f"{key}={quote(value)}" for key, value in fields.items())])
