"""
Turn the offloads of an interface off, so that what crosses it looks as it would on a wire.

A veth pair passes super-packets of 64 KiB and unfinished checksums from one end to the other. A relay that loses, delays and
forwards *frames* must see frames: at most the MTU, checksums done. The ioctl is what `ethtool -K IF tx off tso off gso off`
does, without asking for ethtool.

Source: linux/ethtool.h, linux/sockios.h.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct

from ginnel.errors import KernelError

_SIOCETHTOOL = 0x8946
_SET_TX_CHECKSUM = 0x17
_SET_SCATTER = 0x19
_SET_TSO = 0x1F
_SET_GSO = 0x24
_SET_GRO = 0x2C


def turn_off(interface: str) -> None:
    """Turn checksum, segmentation and receive coalescing off on *interface* of the current network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in (_SET_TX_CHECKSUM, _SET_TSO, _SET_GSO, _SET_GRO, _SET_SCATTER):
            value = array.array("I", [command, 0])
            address, _ = value.buffer_info()
            request = struct.pack("16sP", interface.encode(), address)
            try:
                fcntl.ioctl(control, _SIOCETHTOOL, request)
            except OSError as error:
                raise KernelError(f"ethtool -K {interface} (0x{command:x}) off", error.errno or 0) from error
