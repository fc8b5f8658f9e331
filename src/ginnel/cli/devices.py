"""All WireGuard interfaces of this host: the kernel's and those of any user-space implementation."""

from __future__ import annotations

from pathlib import Path

from ginnel.errors import GinnelError
from ginnel.linux import uapi

_NET = Path("/sys/class/net")


def kernel_names() -> list[str]:
    """Interfaces of the kernel's WireGuard, from sysfs: no netlink is needed to know of none."""
    names: list[str] = []
    for path in sorted(_NET.glob("*/uevent")):
        try:
            if "DEVTYPE=wireguard\n" in path.read_text("ascii", "replace"):
                names.append(path.parent.name)
        except OSError:
            continue
    return names


def names() -> list[str]:
    """All of them, in the order of `wg show interfaces`: the kernel's first."""
    known = kernel_names()
    return known + [name for name in uapi.served_names() if name not in known]


def read(name: str) -> uapi.Device:
    """The device as it is; GinnelError when there is no such WireGuard interface."""
    if uapi.is_served(name):
        return uapi.read(name)
    if name in kernel_names():
        from ginnel.linux.kernel_wireguard import read_device

        return read_device(name)
    if uapi.socket_path(name).exists():
        return uapi.read(name)  # says why it cannot be reached
    if (_NET / name).exists():
        raise GinnelError(f"{name} is not a WireGuard interface\n  hint: `ginnel show` lists those that are")
    known = names()
    hint = f"there is {', '.join(known)}" if known else "none is up"
    raise GinnelError(f"no WireGuard interface is called {name}\n  hint: {hint}")


def write(name: str, lines: str) -> None:
    """UAPI lines to whoever serves *name*."""
    if name in kernel_names() and not uapi.is_served(name):
        from ginnel.linux.kernel_wireguard import write_device

        write_device(name, lines)
    else:
        uapi.write(name, lines)
