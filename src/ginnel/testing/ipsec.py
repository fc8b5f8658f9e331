"""
An IKE machine that does nothing but keep what it was told, and events of the engine, for tests of the loop between the two.

`FakeIke` has the face of `ginnel.ikev2.ike.Ike`: a test puts what it is to say into `says`. Every call is in `calls`, in order.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ginnel.crypto.ike import KeyMaterial
from ginnel.ikev2.effects import Effect, Event, Path, WaitUntil
from ginnel.units import Now


class IkeReceived(NamedTuple):
    """As the native event of that name."""

    message: bytes
    remote: bytes
    remote_port: int
    local: bytes
    natt: bool


class UnknownSpi(NamedTuple):
    """As the native event of that name."""

    spi: int
    remote: bytes
    remote_port: int
    local: bytes
    natt: bool


class SaUsed(NamedTuple):
    """As the native event of that name."""

    tunnel: int
    spi: int


class SaExpiring(NamedTuple):
    """As the native event of that name."""

    tunnel: int
    spi: int
    inbound: bool
    hard: bool


class SaMissing(NamedTuple):
    """As the native event of that name."""

    tunnel: int


class SaMoved(NamedTuple):
    """As the native event of that name."""

    tunnel: int
    spi: int
    remote: bytes
    remote_port: int


class FakeIke:
    """See the module."""

    def __init__(
        self,
        *,
        entropy: Callable[[int], bytes],
        reserve_spi: Callable[[str], int],
        last_received_ns: Callable[[str], int],
        crash_secret: KeyMaterial,
        debug_keys: bool = False,
    ) -> None:
        self.entropy, self.reserve_spi, self.last_received_ns = entropy, reserve_spi, last_received_ns
        self.crash_secret, self.debug_keys = crash_secret, debug_keys
        self.says: deque[Effect | Event | WaitUntil] = deque()
        self.calls: list[tuple[Any, ...]] = []
        #: Raised by the next call of that name, once.
        self.raises: dict[str, Exception] = {}
        #: What `poll` gives when there is nothing to say.
        self.until_ns: int | None = None
        self.views: dict[str, Any] = {}
        self.drops: Counter[str] = Counter()
        self.half_open = 0

    def _called(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments))
        if name in self.raises:
            raise self.raises.pop(name)

    def receive(self, message: bytes, path: Path, now: Now) -> None:  # noqa: ARG002 - time stands still in a fake
        self._called("receive", message, path)

    def timeout(self, now: Now) -> None:
        self._called("timeout", now.mono_ns)

    def sa_used(self, name: str, spi: int, now: Now) -> None:  # noqa: ARG002
        self._called("sa_used", name, spi)

    def sa_expiring(self, name: str, spi: int, inbound: bool, hard: bool, now: Now) -> None:  # noqa: ARG002
        self._called("sa_expiring", name, spi, inbound, hard)

    def sa_moved(self, name: str, spi: int, remote: bytes, remote_port: int, now: Now) -> None:  # noqa: ARG002
        self._called("sa_moved", name, spi, remote, remote_port)

    def unknown_spi(self, spi: int, path: Path, now: Now) -> None:  # noqa: ARG002
        self._called("unknown_spi", spi, path)

    def add(self, connection: object, now: Now) -> None:  # noqa: ARG002
        self._called("add", connection)

    def change(self, connection: object, now: Now) -> None:  # noqa: ARG002
        self._called("change", connection)

    def remove(self, name: str, now: Now) -> None:  # noqa: ARG002
        self._called("remove", name)

    def initiate(self, name: str, now: Now) -> None:  # noqa: ARG002
        self._called("initiate", name)

    def terminate(self, name: str, now: Now) -> None:  # noqa: ARG002
        self._called("terminate", name)

    def rekey_child(self, name: str, now: Now) -> None:  # noqa: ARG002
        self._called("rekey_child", name)

    def rekey_ike(self, name: str, now: Now) -> None:  # noqa: ARG002
        self._called("rekey_ike", name)

    def poll(self) -> Effect | Event | WaitUntil:
        return self.says.popleft() if self.says else WaitUntil(self.until_ns)

    def view(self, name: str, now: Now) -> Any:  # noqa: ARG002
        return self.views[name]

    def told(self, what: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of that name."""
        return [call[1:] for call in self.calls if call[0] == what]
