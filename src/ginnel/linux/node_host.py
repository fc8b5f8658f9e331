"""
What a node file asks of its host beside the tunnels (`config.node_host`): done, noted, and taken back.

    before the tunnels   the nft table; forwarding and other settings of the host; its addresses; whom it answers for
    with their devices   settings of the devices, which go with them

A setting is everybody's. What it was before the first of those who want it is kept in the records of all of them, and the last
one to go puts it back, unless somebody has set it to something else meanwhile. (Two that come and go at once: the lock that all
tunnels share is held while one looks.)
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ginnel.config.node_host import FORWARDING, HostConfig, addresses_in, device_of, is_few
from ginnel.errors import GinnelError, KernelError
from ginnel.linux.nft import table_name
from ginnel.linux.record import OwnDone, ProxyDone, Record, SettingDone, Store, TableDone
from ginnel.linux.rtnl import Request
from ginnel.linux.rtnl_host import OwnAddress, OwnPrefix, Proxied
from ginnel.units import Prefix

if TYPE_CHECKING:  # it undoes by us what a record says
    from ginnel.linux.bringup import Console, Host

_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.EAFNOSUPPORT})

#: Note the effect, then have it: `_Up._do` of a node file.
Do = Callable[..., None]


def table(node: str) -> str:
    """The name of the table; no interface's and no other node's is called so."""
    return f"{table_name(node)}/host"


def script(node: str, inside: str) -> str:
    """The transaction that makes it, or makes it anew."""
    name = table(node)
    return f"add table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{inside.rstrip()}\n}}\n"


def settings_of(config: HostConfig) -> tuple[tuple[str, str], ...]:
    """The settings of the host, not of a device: forwarding first."""
    forwarding = ((FORWARDING[version], "1") for version in config.forward)
    return (*forwarding, *((name, value) for name, value in config.sysctls if not device_of(name)))


def settings_of_devices(config: HostConfig, devices: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Those of *devices*, which are the node's own."""
    return tuple((name, value) for name, value in config.sysctls if device_of(name) in devices)


def settings_of_others(config: HostConfig, devices: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Those of interfaces that are there without the node."""
    return tuple((name, value) for name, value in config.sysctls if (device := device_of(name)) and device not in devices)


def own(text: str) -> list[Prefix]:
    """A prefix as it becomes the host's own: address by address, or as a whole."""
    prefix = Prefix.parse(text)
    return list(addresses_in(prefix)) if is_few(prefix) else [prefix]


def own_request(prefix: Prefix, *, delete: bool = False) -> Request:
    """What makes it so."""
    single = prefix.length == len(prefix.packed) * 8
    return OwnAddress(prefix, delete) if single else OwnPrefix(prefix, delete)


def proxy_requests(text: str, *, delete: bool = False) -> list[Request]:
    """What makes the host answer for a prefix: "PREFIX dev NAME"."""
    prefix, _, device = text.split()
    return [Proxied(address, device, delete) for address in addresses_in(Prefix.parse(prefix))]


# ---------------------------------------------------------------- up


def prepare(
    node: str, config: HostConfig, devices: frozenset[str], host: Host, store: Store, console: Console, do: Do, *, dry: bool
) -> None:
    """Everything that does not wait for the node's own devices."""
    if config.nft:
        console.step(f"nft -f - # table inet {table(node)}: [node] nft")
        do(lambda: host.firewall.apply(script(node, config.nft)), TableDone(table(node)), atomic=True)
    for name, value in (*settings_of(config), *settings_of_others(config, devices)):
        console.step(f"sysctl -q {name}={value}")
        with contextlib.nullcontext() if dry else store.lock(""):
            _set(node, name, value, host, store, do)
    for prefix in (each for text in config.addresses for each in own(text)):
        request = own_request(prefix)
        console.step(request.words)
        do(lambda request=request: host.requests.apply([request]), OwnDone(str(prefix)), atomic=True)
    for text in config.proxy:
        requests = proxy_requests(text)
        for request in requests:
            console.step(request.words)
        do(lambda requests=requests: host.requests.apply(requests), ProxyDone(text))


def set_devices(config: HostConfig, devices: frozenset[str], host: Host, console: Console, do: Do) -> None:
    """Settings of the node's own devices, which are there and still down."""
    for name, value in settings_of_devices(config, devices):
        console.step(f"sysctl -q {name}={value}")
        do(lambda name=name, value=value: host.settings.write(name, value))


def _set(node: str, name: str, value: str, host: Host, store: Store, do: Do) -> None:
    before = host.settings.read(name)
    if before is None:
        raise KernelError(f"sysctl -q {name}={value}", errno.ENOENT, "this kernel, or this host, has no such setting")

    def write() -> None:
        if before != value:
            host.settings.write(name, value)

    first = next((done for _, done in _others(node, name, store)), None)
    do(write, SettingDone(name, before if first is None else first.before, value))


def _others(node: str, name: str, store: Store) -> Iterator[tuple[str, SettingDone]]:
    """Who else has the setting, and what it was before all of them."""
    for other in store.names():
        if other == node:
            continue
        with contextlib.suppress(GinnelError):
            record = store.load(other)
            for done in record.done if record is not None else ():
                if isinstance(done, SettingDone) and done.name == name:
                    yield other, done


# ---------------------------------------------------------------- down


def undo_setting(done: SettingDone, record: Record, host: Host, store: Store, console: Console) -> None:
    """As it was, if nobody else wants it and it is still as we set it."""
    with store.lock(""):
        now = host.settings.read(done.name)
        if now in {None, done.before} or any(_others(record.name, done.name, store)):
            return
        if now != done.value:
            console.note(f"{done.name} is {now} now, which {record.name} did not set: it stays")
            return
        console.step(f"sysctl -q {done.name}={done.before}")
        host.settings.write(done.name, done.before)


def undo_own(done: OwnDone, host: Host, console: Console) -> None:
    """The addresses are nobody's; one that is gone already is no problem."""
    _undo_each([own_request(Prefix.parse(done.prefix), delete=True)], host, console)


def undo_proxy(done: ProxyDone, host: Host, console: Console) -> None:
    """Nobody is answered for."""
    _undo_each(proxy_requests(done.words, delete=True), host, console)


def _undo_each(requests: list[Request], host: Host, console: Console) -> None:
    for request in requests:
        console.step(request.words)
        try:
            host.requests.apply([request])
        except KernelError as error:
            if error.errno not in _GONE:
                raise
