"""The payloads of one message, each found by its name, and the few rules that hold for all messages. No decisions here."""

from __future__ import annotations

from collections.abc import Iterable

from ginnel.errors import PeerError
from ginnel.wire.ikev2 import (
    Auth,
    Cert,
    CertReq,
    Delete,
    IdI,
    IdR,
    Ke,
    Nonce,
    Notify,
    NotifyType,
    Payload,
    Sa,
    TsI,
    TsR,
    Unknown,
)

#: Notifies below are errors (RFC 7296 3.10.1).
FIRST_STATUS = 16_384


class Content:
    """
    What a message says. A payload that may be there once only and is there twice is a PeerError.

    notifies: the first of each kind. errors: those that say that something failed, in their order.
    """

    __slots__ = (
        "auth",
        "certificate_requests",
        "certificates",
        "deletes",
        "errors",
        "id_i",
        "id_r",
        "ke",
        "nonce",
        "notifies",
        "sa",
        "ts_i",
        "ts_r",
        "unknown",
    )

    def __init__(self, payloads: Iterable[Payload]) -> None:
        self.sa: Sa | None = None
        self.ke: Ke | None = None
        self.nonce: Nonce | None = None
        self.id_i: IdI | None = None
        self.id_r: IdR | None = None
        self.auth: Auth | None = None
        self.ts_i: TsI | None = None
        self.ts_r: TsR | None = None
        self.certificates: list[Cert] = []
        self.certificate_requests: list[CertReq] = []
        self.deletes: list[Delete] = []
        self.notifies: dict[int, Notify] = {}
        self.errors: list[Notify] = []
        self.unknown: set[int] = set()
        for payload in payloads:
            self._put(payload)

    def _put(self, payload: Payload) -> None:
        match payload:
            case Sa():
                self._once("sa", payload)
            case Ke():
                self._once("ke", payload)
            case Nonce():
                self._once("nonce", payload)
            case IdI():
                self._once("id_i", payload)
            case IdR():
                self._once("id_r", payload)
            case Auth():
                self._once("auth", payload)
            case TsI():
                self._once("ts_i", payload)
            case TsR():
                self._once("ts_r", payload)
            case Notify(kind):
                self.notifies.setdefault(kind, payload)
                if kind < FIRST_STATUS:
                    self.errors.append(payload)
            case Delete():
                self.deletes.append(payload)
            case Cert():
                self.certificates.append(payload)
            case CertReq():
                self.certificate_requests.append(payload)
            case Unknown(kind):
                self.unknown.add(kind)
            case _:
                pass

    def _once(self, name: str, payload: Payload) -> None:
        if getattr(self, name) is not None:
            raise PeerError(f"expected one {type(payload).__name__} payload, found two")
        setattr(self, name, payload)

    def has(self, kind: NotifyType) -> bool:
        """Whether that notify is there."""
        return kind in self.notifies

    def error(self) -> Notify | None:
        """The first error that is told, if any."""
        return self.errors[0] if self.errors else None


def notify_name(kind: int) -> str:
    """The RFC's word for a notify, for sentences."""
    try:
        return NotifyType(kind).name
    except ValueError:
        return f"notify {kind}"
