"""All WireGuard interfaces of this host: the kernel's and those of any user-space implementation."""

from __future__ import annotations

from ginnel.errors import GinnelError
from ginnel.linux import uapi
from ginnel.linux.links import link, links


def kernel_names() -> list[str]:
    """Interfaces of the kernel's WireGuard."""
    return [each.name for each in links() if each.kind == "wireguard"]


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
    if link(name) is not None:
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
