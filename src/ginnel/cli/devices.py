"""
All tunnels of this host: WireGuard interfaces, the kernel's and those of any user-space implementation; and the plain tunnels
of nodes, by the processes that carry them, or by what the kernel tells where it does.
"""

from __future__ import annotations

from typing import Any

from ginnel.cli import kernel_node
from ginnel.errors import GinnelError
from ginnel.linux import uapi
from ginnel.linux.backend import control
from ginnel.linux.links import link, links
from ginnel.linux.record import RUN_DIR, LinksDone, Record, Store, network_namespace


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
    if node_of(name) is not None:
        raise GinnelError(f"{name} is a plain tunnel, without keys and peers\n  hint: `ginnel show {name}` tells all of it")
    if link(name) is not None:
        raise GinnelError(f"{name} is not a tunnel of ginnel's\n  hint: `ginnel show` lists those that are")
    refuse_killed(name)
    known = [*names(), *node_names()]
    hint = f"there is {', '.join(known)}" if known else "none is up"
    raise GinnelError(f"no tunnel is called {name}\n  hint: {hint}")


def write(name: str, lines: str) -> None:
    """UAPI lines to whoever serves *name*."""
    if name in kernel_names() and not uapi.is_served(name):
        from ginnel.linux.kernel_wireguard import write_device

        write_device(name, lines)
    elif not uapi.is_served(name) and node_of(name) is not None:
        raise GinnelError(
            f"{name} is a plain tunnel, without keys and peers\n  hint: change its node file, then `ginnel down` and `up`"
        )
    else:
        uapi.write(name, lines)


def refuse_killed(name: str) -> None:
    """GinnelError if *name* is, or is of, what was killed; else nothing."""
    for record in killed():
        if name in _made(record):
            whose = "" if name == record.name else f", of {record.name},"
            raise GinnelError(f"{name}{whose} was killed\n  hint: {mend_text(record)}")


def killed() -> list[Record]:
    """
    What `up` made here and whose process has ended since, in order of names.

    Records are for root alone: who may not read them is told of none.
    """
    here = network_namespace()
    found: list[Record] = []
    for name in Store().names():
        try:
            record = Store().load(name)
        except GinnelError:
            continue
        if record is None or not record.complete or record.namespace != here:
            continue
        if record.daemon.pid and not record.daemon.alive:
            found.append(record)
    return found


def mend_text(record: Record) -> str:
    """What to do about one of them."""
    return f"its process has ended; `ginnel up {record.name}` or `ginnel down {record.name}` mends what it left"


def _made(record: Record) -> set[str]:
    """What its tunnels are called, and it itself."""
    links = [dict(done.links) for done in record.done if isinstance(done, LinksDone)]
    return {record.name, *(name for each in links for name in each)}


# ---------------------------------------------------------------- plain tunnels


def node_names() -> list[str]:
    """The nodes of this network namespace whose processes answer, in order of their names."""
    return [*_states(), *kernel_node.names()]


def node_of(tunnel: str) -> str | None:
    """The node of this network namespace whose process has the plain tunnel of that name; None when there is none."""
    for name, state in _states().items():
        if any(one["name"] == tunnel for one in state["tunnels"]):
            return name
    for name in kernel_node.names():
        found = kernel_node.node(name)
        if found is not None and any(one["name"] == tunnel for one in found["tunnels"]):
            return name
    return None


def node(name: str) -> dict[str, Any] | None:
    """The process of a node, wherever it is, and all its tunnels (ginnel.show/1); None when none of that name answers."""
    if _state(name) is None:
        return kernel_node.node(name)
    return control(name, {"op": "show"})


def plain(node_name: str, tunnel: str) -> dict[str, Any]:
    """One plain tunnel as ginnel.show/1 has it; GinnelError when it went away meanwhile."""
    carried = kernel_node.node(node_name) if _state(node_name) is None else None
    if carried is not None:
        return next(one for one in carried["tunnels"] if one["name"] == tunnel)
    answer = control(node_name, {"op": "show", "tunnel": tunnel})
    if answer is None or not isinstance(answer.get("tunnel"), dict):
        raise GinnelError(f"{tunnel}: its process ended meanwhile")
    found: dict[str, Any] = answer["tunnel"]
    return found


def _states() -> dict[str, dict[str, Any]]:
    """What the processes of this network namespace's nodes say of themselves: /run may be shared by several namespaces."""
    here = network_namespace()
    found = {name: _state(name) for name in sorted(path.stem for path in RUN_DIR.glob("*.sock"))}
    return {name: state for name, state in found.items() if state is not None and state.get("namespace") == here}


def _state(name: str) -> dict[str, Any] | None:
    """What the process of a node says of itself; None for a WireGuard interface's process, and where none answers."""
    answer = control(name, {"op": "state"})
    return answer if answer is not None and isinstance(answer.get("tunnels"), list) else None
