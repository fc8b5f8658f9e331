"""
The kernel's own WireGuard, over generic netlink (pyroute2), behind the same words as a user-space one.

Everything speaks UAPI lines to a device; here they are read back into netlink attributes, and a dump into `uapi.Device`. So `up`,
`set`, `show` and `save` have one way each, whoever carries the packets.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from ginnel.errors import GinnelError, KernelError
from ginnel.linux.host import Kernel
from ginnel.linux.record import Process
from ginnel.linux.uapi import NO_KEY, Device, DevicePeer
from ginnel.units import Endpoint


class KernelBackend:
    """`backend.Backend`: `ip link add NAME type wireguard`, no process."""

    name = "kernel"
    words = "ip link add %i type wireguard"

    def start(self, interface: str, config: str) -> Process:  # noqa: ARG002 - nothing happens before netlink is open
        """See `backend.Backend`."""
        return Process()

    def wait(self, interface: str, kernel: Kernel) -> None:
        """See `backend.Backend`."""
        try:
            kernel.add_wireguard_link(interface)
        except KernelError as error:
            if error.errno in {errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL}:
                hint = "this kernel has no WireGuard: `modprobe wireguard`, or leave out --backend kernel"
                raise KernelError(error.attempted, error.errno, hint) from None
            raise

    def configure(self, interface: str, lines: str) -> None:
        """See `backend.Backend`."""
        write_device(interface, lines)

    def read(self, interface: str) -> Device:
        """See `backend.Backend`."""
        return read_device(interface)


@contextlib.contextmanager
def _open(words: str) -> Iterator[Any]:
    """A generic netlink socket; what the kernel refuses on it is a KernelError."""
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic.wireguard import WireGuard

    try:
        with WireGuard() as wireguard:  # type: ignore[no-untyped-call]
            yield wireguard
    except NetlinkError as error:
        raise KernelError(words, error.code, "this needs root" if error.code == errno.EPERM else "") from None


def write_device(name: str, lines: str) -> None:
    """
    UAPI lines to the kernel: the interface first, then each peer in a message of its own.

    Raises:
        KernelError: the kernel refused one of them; those before it have been applied.
    """
    interface, peers = requests(lines)
    changes = ([interface] if interface else []) + [{"peer": peer} for peer in peers]
    with _open(f"wg set {name}") as wireguard:
        for change in changes:
            wireguard.set(name, **change)


def requests(lines: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The arguments for pyroute2: of the interface, and of each peer."""
    interface: dict[str, Any] = {}
    peers: list[dict[str, Any]] = []
    for line in lines.splitlines():
        key, _, value = line.partition("=")
        peer = peers[-1] if peers else None
        match key:
            case "private_key":
                interface["private_key"] = _base64(value)
            case "listen_port":
                interface["listen_port"] = int(value)
            case "fwmark":
                interface["fwmark"] = int(value)
            case "public_key":
                peers.append({"public_key": _base64(value)})
            case "preshared_key" if peer is not None:
                peer["preshared_key"] = _base64(value)
            case "endpoint" if peer is not None:
                where = Endpoint.parse(value)
                peer["endpoint_addr"], peer["endpoint_port"] = where.host, where.port
            case "persistent_keepalive_interval" if peer is not None:
                peer["persistent_keepalive"] = int(value)
            case "replace_allowed_ips" if peer is not None:
                peer["replace_allowed_ips"] = True
            case "remove" if peer is not None:
                peer["remove"] = True
            case "allowed_ip" if peer is not None and not value.startswith("-"):
                peer.setdefault("allowed_ips", []).append(value)
            case _:
                raise GinnelError(f"the kernel's WireGuard cannot be told {key} in this form from here; use `wg set`")
    return interface, peers


def _base64(key: str) -> str:
    return binascii.b2a_base64(bytes.fromhex(key), newline=False).decode("ascii")


def read_device(name: str) -> Device:
    """
    The kernel's device as it is.

    Raises:
        KernelError: it cannot be read.
    """
    device = Device(name)
    by_key: dict[str, DevicePeer] = {}
    with _open(f"wg show {name}") as wireguard:
        messages = list(wireguard.info(name))
    for message in messages:
        if key := message.get_attr("WGDEVICE_A_PRIVATE_KEY"):
            device.private_key = _hex(key)
        device.listen_port = message.get_attr("WGDEVICE_A_LISTEN_PORT") or device.listen_port
        device.fwmark = message.get_attr("WGDEVICE_A_FWMARK") or device.fwmark
        for entry in message.get_attr("WGDEVICE_A_PEERS") or []:
            public_key = _hex(entry.get_attr("WGPEER_A_PUBLIC_KEY"))
            peer = by_key.get(public_key)
            if peer is None:  # else: the same peer goes on in the next message, with more prefixes
                peer = by_key[public_key] = DevicePeer(public_key)
                device.peers.append(peer)
                _fill(peer, entry)
            peer.allowed_ips += [str(prefix["addr"]) for prefix in entry.get_attr("WGPEER_A_ALLOWEDIPS") or []]
    return device


def _fill(peer: DevicePeer, entry: Any) -> None:
    preshared = _hex(entry.get_attr("WGPEER_A_PRESHARED_KEY") or b"")
    peer.preshared_key = "" if preshared == NO_KEY else preshared
    if endpoint := entry.get_attr("WGPEER_A_ENDPOINT"):
        address = str(endpoint["addr"])
        peer.endpoint = f"[{address}]:{endpoint['port']}" if ":" in address else f"{address}:{endpoint['port']}"
    when = entry.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME") or {}
    peer.handshake_sec, peer.handshake_nsec = int(when.get("tv_sec", 0)), int(when.get("tv_nsec", 0))
    peer.rx_bytes = entry.get_attr("WGPEER_A_RX_BYTES") or 0
    peer.tx_bytes = entry.get_attr("WGPEER_A_TX_BYTES") or 0
    peer.keepalive_s = entry.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") or 0


def _hex(key: bytes | str) -> str:
    """pyroute2 gives keys as base64 text."""
    raw = binascii.a2b_base64(key) if isinstance(key, str) or len(key) == 44 else key
    return bytes(raw).hex()
