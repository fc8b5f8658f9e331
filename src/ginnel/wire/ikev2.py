"""
IKEv2 messages: bytes <-> values. Nothing is decrypted, judged or answered here.

    0                   4                   8
    | initiator's SPI                       |
    | responder's SPI                       |
    | next | vers | exch | flag | message id|
    | length            |  payloads ...
    payload: next | C, reserved | length 2 | body

Numbers that are not known survive as numbers; a payload of unknown type is `Unknown`. Lengths are exact: each structure
ends where the one around it says, the last of a row is marked as the last, and counts are right. Reserved bytes are ignored, but
those of an identity, which AUTH covers, are kept. What a peer can grow is bounded: payloads, proposals, transforms, attributes,
selectors.

Three refusals differ in what is to be answered (RFC 7296, 2.21): `UnsupportedCriticalPayload`, `InvalidMajorVersion`, and any
other `PeerError`, which is INVALID_SYNTAX. A datagram whose header is wrong (`parse_header`) is to be answered by nothing.

Source: RFC 7296, 3; RFC 7383, 2.5 (SKF).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from ginnel.errors import PeerError
from ginnel.wire.reader import Reader

HEADER_SIZE: Final = 28
#: Longer is refused before it is looked into (strongSwan: 10,000 bytes); fragments are put together up to as much.
MESSAGE_MAX_BYTES: Final = 65_535
NON_ESP_MARKER: Final = bytes(4)
#: Each with room above what is seen in the field (certificates: a dozen payloads; strongSwan's widest offer: 40 transforms).
PAYLOADS_MAX: Final = 100
PROPOSALS_MAX: Final = 64
TRANSFORMS_MAX: Final = 64
#: Of all proposals of one payload together: what a stranger can make us compare.
ALL_TRANSFORMS_MAX: Final = 512
ATTRIBUTES_MAX: Final = 8
SELECTORS_MAX: Final = 255
#: RFC 7296, 2.10.
NONCE_MIN_BYTES: Final = 16
NONCE_MAX_BYTES: Final = 256
#: Of an ESP SA and of an IKE SA.
ESP_SPI_BYTES: Final = 4
IKE_SPI_BYTES: Final = 8


class UnsupportedCriticalPayload(PeerError):
    """A payload with the critical bit whose type is not known: UNSUPPORTED_CRITICAL_PAYLOAD, with *kind* as its data."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        super().__init__(f"expected payloads that are known where they are critical, found type {kind}")


class InvalidMajorVersion(PeerError):
    """Not version 2: INVALID_MAJOR_VERSION."""

    def __init__(self, major: int) -> None:
        self.major = major
        super().__init__(f"expected IKE version 2, found {major}")


class PayloadType(enum.IntEnum):
    """RFC 7296 3.2, RFC 7383."""

    NONE = 0
    SA = 33
    KE = 34
    ID_I = 35
    ID_R = 36
    CERT = 37
    CERTREQ = 38
    AUTH = 39
    NONCE = 40
    NOTIFY = 41
    DELETE = 42
    VENDOR = 43
    TS_I = 44
    TS_R = 45
    SK = 46
    CP = 47
    EAP = 48
    SKF = 53


class Exchange(enum.IntEnum):
    """RFC 7296 3.1. Others are plain ints."""

    IKE_SA_INIT = 34
    IKE_AUTH = 35
    CREATE_CHILD_SA = 36
    INFORMATIONAL = 37


class ProtocolId(enum.IntEnum):
    """RFC 7296 3.3.1."""

    NONE = 0
    IKE = 1
    AH = 2
    ESP = 3


class TransformType(enum.IntEnum):
    """RFC 7296 3.3.2."""

    ENCR = 1
    PRF = 2
    INTEG = 3
    KE = 4
    ESN = 5


class NotifyType(enum.IntEnum):
    """RFC 7296 3.10.1 and the registry. Below 16384 are errors. Others are plain ints."""

    UNSUPPORTED_CRITICAL_PAYLOAD = 1
    INVALID_IKE_SPI = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_SYNTAX = 7
    INVALID_MESSAGE_ID = 9
    INVALID_SPI = 11
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KE_PAYLOAD = 17
    AUTHENTICATION_FAILED = 24
    SINGLE_PAIR_REQUIRED = 34
    NO_ADDITIONAL_SAS = 35
    INTERNAL_ADDRESS_FAILURE = 36
    FAILED_CP_REQUIRED = 37
    TS_UNACCEPTABLE = 38
    INVALID_SELECTORS = 39
    UNACCEPTABLE_ADDRESSES = 40
    UNEXPECTED_NAT_DETECTED = 41
    TEMPORARY_FAILURE = 43
    CHILD_SA_NOT_FOUND = 44
    STATE_NOT_FOUND = 47
    INITIAL_CONTACT = 16384
    SET_WINDOW_SIZE = 16385
    NAT_DETECTION_SOURCE_IP = 16388
    NAT_DETECTION_DESTINATION_IP = 16389
    COOKIE = 16390
    USE_TRANSPORT_MODE = 16391
    REKEY_SA = 16393
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394
    NON_FIRST_FRAGMENTS_ALSO = 16395
    MOBIKE_SUPPORTED = 16396
    AUTH_LIFETIME = 16403
    REDIRECT_SUPPORTED = 16406
    REDIRECT = 16407
    QUICK_CRASH_DETECTION = 16419
    EAP_ONLY_AUTHENTICATION = 16417
    CHILDLESS_IKEV2_SUPPORTED = 16418
    IKEV2_FRAGMENTATION_SUPPORTED = 16430
    SIGNATURE_HASH_ALGORITHMS = 16431
    USE_PPK = 16435
    INTERMEDIATE_EXCHANGE_SUPPORTED = 16438
    ADDITIONAL_KEY_EXCHANGE = 16441
    USE_AGGFRAG = 16442


class IdType(enum.IntEnum):
    """RFC 7296 3.5."""

    IPV4_ADDR = 1
    FQDN = 2
    RFC822_ADDR = 3
    IPV6_ADDR = 5
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11
    NULL = 13


class AuthMethod(enum.IntEnum):
    """RFC 7296 3.8, RFC 4754, RFC 7427."""

    RSA_SHA1 = 1
    PSK = 2
    ECDSA_SHA256_P256 = 9
    ECDSA_SHA384_P384 = 10
    ECDSA_SHA512_P521 = 11
    NULL = 13
    DIGITAL_SIGNATURE = 14


class CertEncoding(enum.IntEnum):
    """RFC 7296 3.6, RFC 7670."""

    X509_SIGNATURE = 4
    CRL = 7
    HASH_AND_URL_X509 = 12
    RAW_PUBLIC_KEY = 15


@dataclass(frozen=True, slots=True)
class Transform:
    """
    kind: `TransformType` or another int; number: IANA's; key_bits: the key length attribute, None without.

    others: attributes that are not known (type with its format bit, value): such a transform must not be chosen.
    """

    kind: int
    number: int
    key_bits: int | None = None
    others: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """number: 1 and up in the order of preference; spi: 0, 4 (ESP) or 8 (IKE rekeying) bytes."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]


@dataclass(frozen=True, slots=True)
class Sa:
    """Security association: proposals."""

    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True)
class Ke:
    """Key exchange: IANA's group, public value."""

    group: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Id:
    """An identity as it travels. reserved: zero, but AUTH covers whatever the peer put there."""

    kind: int
    data: bytes
    reserved: bytes = field(default=bytes(3), compare=False)

    @property
    def body(self) -> bytes:
        """Type, reserved, data: what AUTH covers (RestOfInitIDPayload, RFC 7296 2.15)."""
        return bytes((self.kind,)) + self.reserved + self.data


@dataclass(frozen=True, slots=True)
class IdI(Id):
    """The initiator's."""


@dataclass(frozen=True, slots=True)
class IdR(Id):
    """The responder's."""


@dataclass(frozen=True, slots=True)
class Cert:
    encoding: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CertReq:
    """data: SHA-1 hashes of the public keys of the authorities, 20 bytes each."""

    encoding: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Auth:
    method: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Nonce:
    data: bytes


@dataclass(frozen=True, slots=True)
class Notify:
    """protocol and spi: of the SA it is about; 0 and empty when it is about none."""

    kind: int
    data: bytes = b""
    protocol: int = 0
    spi: bytes = b""


@dataclass(frozen=True, slots=True)
class Delete:
    """spis: of ESP those that the sender receives with; of IKE none (it is the SA of the message)."""

    protocol: int
    spis: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Vendor:
    data: bytes


@dataclass(frozen=True, slots=True)
class Selector:
    """A traffic selector: protocol (0: any), ports and addresses from first to last; addresses packed, both of one family."""

    protocol: int
    first_port: int
    last_port: int
    first: bytes
    last: bytes


@dataclass(frozen=True, slots=True)
class Ts:
    selectors: tuple[Selector, ...]


@dataclass(frozen=True, slots=True)
class TsI(Ts):
    """What the initiator sends from."""


@dataclass(frozen=True, slots=True)
class TsR(Ts):
    """What the responder sends from."""


@dataclass(frozen=True, slots=True)
class Sk:
    """
    The encrypted part, as it lies in the message: IV, ciphertext, checksum. first: the type of the first payload inside.

    fragment, total: of SKF (RFC 7383), 0 of a whole one.
    """

    first: int
    sealed: bytes
    fragment: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Unknown:
    """A payload of a type that is not known (or not ours to read: CP, EAP)."""

    kind: int
    critical: bool
    body: bytes


Payload = Sa | Ke | IdI | IdR | Cert | CertReq | Auth | Nonce | Notify | Delete | Vendor | TsI | TsR | Sk | Unknown


@dataclass(frozen=True, slots=True)
class Header:
    """initiator: sent by the original initiator of the IKE SA (flag I); response: flag R. major, minor: of the version."""

    spi_i: bytes
    spi_r: bytes
    exchange: int
    initiator: bool
    response: bool
    message_id: int
    major: int = 2
    minor: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message: of a protected one the payloads are those before and including `Sk`, or (opened) those inside."""

    header: Header
    payloads: tuple[Payload, ...]


# ---------------------------------------------------------------- bytes -> values

#: SPIs, next payload, version, exchange, flags, message id, length.
_HEADER = struct.Struct("!8s8sBBBBII")
_FIRST_PAYLOAD_AT = 16
#: Next payload, critical bit and reserved, length.
_GENERIC = struct.Struct("!BBH")
#: Last or more, reserved, length, number, protocol, size of SPI, transforms.
_PROPOSAL = struct.Struct("!BBHBBBB")
#: Last or more, reserved, length, type, reserved, number.
_TRANSFORM = struct.Struct("!BBHBBH")
_ATTRIBUTE = struct.Struct("!HH")
_KE = struct.Struct("!HH")
#: One byte and three reserved: ID, AUTH, TS.
_TYPED = struct.Struct("!B3s")
_NOTIFY = struct.Struct("!BBH")
#: A notify of a cookie, behind its protocol: no SPI.
_COOKIE_NOTIFY = struct.pack("!BH", 0, NotifyType.COOKIE)
_DELETE = struct.Struct("!BBH")
#: Type, protocol, length, ports.
_SELECTOR = struct.Struct("!BBHHH")
_FRAGMENT = struct.Struct("!HH")

_FLAG_INITIATOR: Final = 0x08
_FLAG_RESPONSE: Final = 0x20
_CRITICAL: Final = 0x80
_MORE_PROPOSALS: Final = 2
_MORE_TRANSFORMS: Final = 3
_ATTRIBUTE_KEY_LENGTH: Final = 0x800E
_ATTRIBUTE_SHORT: Final = 0x8000
_TS_IPV4: Final = 7
_TS_IPV6: Final = 8
#: Addresses of a selector by its type.
_TS_BYTES: Final = {_TS_IPV4: 4, _TS_IPV6: 16}
#: RFC 7296, 3.13.1: "opaque" ports are this way round.
OPAQUE_PORTS: Final = (65_535, 0)
#: The SPI of a proposal or of a deletion, by protocol (0 of IKE: the SA of the message itself).
_SPI_SIZES: Final = {ProtocolId.IKE: (0, IKE_SPI_BYTES), ProtocolId.AH: (ESP_SPI_BYTES,), ProtocolId.ESP: (ESP_SPI_BYTES,)}


def parse_header(data: bytes) -> Header:
    """
    The header of a whole datagram (without the non-ESP marker).

    Raises:
        PeerError: too short, too long, or its length is not the datagram's; nothing can be answered to such.
    """
    return _header(Reader(data), len(data))[0]


def parse(data: bytes) -> Message:
    """
    Take a whole datagram (without the non-ESP marker) apart. What is inside `Sk` stays sealed.

    Raises:
        UnsupportedCriticalPayload, InvalidMajorVersion: as they say.
        PeerError: any other mistake; INVALID_SYNTAX where it may be answered.
    """
    reader = Reader(data)
    header, first = _header(reader, len(data))
    if header.major != 2:
        raise InvalidMajorVersion(header.major)
    return Message(header, _payloads(first, reader, sealed=True))


def cookie_and_nonce(data: bytes) -> tuple[bytes | None, bytes | None]:
    """
    What somebody who begins shows of itself, each None if it is not there; nothing else of the message is looked into: who is
    flooded asks for this first.

    Args:
        data: a datagram whose header was parsed.

    Raises:
        PeerError: its payloads do not follow each other to its end.
    """
    cookie: bytes | None = None
    nonce: bytes | None = None
    reader, kind = Reader(data[_HEADER.size :], _HEADER.size), data[_FIRST_PAYLOAD_AT]
    for _ in range(PAYLOADS_MAX):
        if kind == PayloadType.NONE:
            break
        start = reader.offset
        following, _, length = reader.unpack(_GENERIC)
        if length < _GENERIC.size:
            raise PeerError(f"expected a payload of at least {_GENERIC.size} bytes at offset {start}, found {length}")
        body = reader.take(length - _GENERIC.size)
        if kind == PayloadType.NONCE and NONCE_MIN_BYTES <= len(body) <= NONCE_MAX_BYTES:
            nonce = body
        elif kind == PayloadType.NOTIFY and body[1 : _NOTIFY.size] == _COOKIE_NOTIFY:
            cookie = body[_NOTIFY.size :]
        kind = following
    reader.end()
    return cookie, nonce


def parse_payloads(first: int, data: bytes) -> tuple[Payload, ...]:
    """
    What was inside SK (or inside SKF, put together): payloads from type *first* on; nothing encrypted within.

    Raises:
        UnsupportedCriticalPayload, PeerError: as `parse`.
    """
    return _payloads(first, Reader(data), sealed=False)


def _header(reader: Reader, size_bytes: int) -> tuple[Header, int]:
    if size_bytes > MESSAGE_MAX_BYTES:
        raise PeerError(f"expected a message of at most {MESSAGE_MAX_BYTES} bytes, found {size_bytes}")
    spi_i, spi_r, first, version, exchange, flags, message_id, length = reader.unpack(_HEADER)
    if length != size_bytes:
        raise PeerError(f"expected a length of {size_bytes} at offset 24, found {length}")
    header = Header(
        spi_i,
        spi_r,
        exchange,
        initiator=bool(flags & _FLAG_INITIATOR),
        response=bool(flags & _FLAG_RESPONSE),
        message_id=message_id,
        major=version >> 4,
        minor=version & 15,
    )
    return header, first


def _payloads(kind: int, reader: Reader, *, sealed: bool) -> tuple[Payload, ...]:
    found: list[Payload] = []
    while kind != PayloadType.NONE:
        if len(found) == PAYLOADS_MAX:
            raise PeerError(f"expected at most {PAYLOADS_MAX} payloads, found more at offset {reader.offset}")
        start = reader.offset
        following, critical, length = reader.unpack(_GENERIC)
        if length < _GENERIC.size:
            raise PeerError(f"expected a payload of at least {_GENERIC.size} bytes at offset {start}, found {length}")
        body = reader.inner(length - _GENERIC.size)
        if kind in (PayloadType.SK, PayloadType.SKF):
            if not sealed:
                raise PeerError(f"expected no encrypted payload inside another, found one at offset {start}")
            found.append(_sk(kind, following, body))
            break
        found.append(_payload(kind, bool(critical & _CRITICAL), body))
        kind = following
    reader.end()
    return tuple(found)


def _payload(kind: int, critical: bool, body: Reader) -> Payload:
    parser = _PARSERS.get(kind)
    if parser is not None:
        payload = parser(body)
        body.end()
        return payload
    if critical and kind not in (PayloadType.CP, PayloadType.EAP):
        raise UnsupportedCriticalPayload(kind)
    return Unknown(kind, critical, body.rest())


def _sk(kind: int, first: int, body: Reader) -> Sk:
    if kind == PayloadType.SK:
        return Sk(first, body.rest())
    start = body.offset
    fragment, total = body.unpack(_FRAGMENT)
    if not 1 <= fragment <= total:
        raise PeerError(f"expected fragment 1 to {total} at offset {start}, found {fragment}")
    if (fragment == 1) != (first != PayloadType.NONE):
        raise PeerError(f"expected the first fragment alone to name a payload, found {first} in {fragment} at offset {start}")
    return Sk(first, body.rest(), fragment, total)


def _sa(body: Reader) -> Sa:
    proposals: list[Proposal] = []
    left = ALL_TRANSFORMS_MAX
    more = True
    while more:
        if len(proposals) == PROPOSALS_MAX:
            raise PeerError(f"expected at most {PROPOSALS_MAX} proposals, found more at offset {body.offset}")
        start = body.offset
        last, _, length, number, protocol, spi_size, count = body.unpack(_PROPOSAL)
        inside = body.inner(_within(length, _PROPOSAL.size, start))
        more = _more(last, _MORE_PROPOSALS, body, start)
        _check_spi_size(protocol, spi_size, start)
        left -= count
        if left < 0:
            raise PeerError(f"expected at most {ALL_TRANSFORMS_MAX} transforms before offset {start}, found more")
        spi = inside.take(spi_size)
        proposals.append(Proposal(number, protocol, spi, _transforms(inside, count)))
    return Sa(tuple(proposals))


def _transforms(inside: Reader, count: int) -> tuple[Transform, ...]:
    if count > TRANSFORMS_MAX:
        raise PeerError(f"expected at most {TRANSFORMS_MAX} transforms before offset {inside.offset}, found {count}")
    transforms: list[Transform] = []
    for left in range(count - 1, -1, -1):
        start = inside.offset
        last, _, length, kind, _, number = inside.unpack(_TRANSFORM)
        attributes = inside.inner(_within(length, _TRANSFORM.size, start))
        if _more(last, _MORE_TRANSFORMS, inside, start) != bool(left):
            raise PeerError(f"expected {count} transforms, found another number at offset {start}")
        transforms.append(_transform(kind, number, attributes))
    inside.end()
    return tuple(transforms)


def _transform(kind: int, number: int, attributes: Reader) -> Transform:
    key_bits: int | None = None
    others: list[tuple[int, bytes]] = []
    while attributes.remaining:
        if len(others) == ATTRIBUTES_MAX:
            raise PeerError(f"expected at most {ATTRIBUTES_MAX} attributes, found more at offset {attributes.offset}")
        start = attributes.offset
        name, value = attributes.unpack(_ATTRIBUTE)
        if name == _ATTRIBUTE_KEY_LENGTH:
            if key_bits is not None:
                raise PeerError(f"expected one key length, found another at offset {start}")
            key_bits = value
        elif name & _ATTRIBUTE_SHORT:
            others.append((name, value.to_bytes(2, "big")))
        else:
            others.append((name, attributes.take(value)))
    return Transform(kind, number, key_bits, tuple(others))


def _within(length: int, minimum: int, start: int) -> int:
    if length < minimum:
        raise PeerError(f"expected a length of at least {minimum} at offset {start}, found {length}")
    return length - minimum


def _more(last: int, expected: int, around: Reader, start: int) -> bool:
    """Whether another follows: the mark and the room must say the same."""
    if last != (expected if around.remaining else 0):
        raise PeerError(f"expected {expected} before another and 0 at the last at offset {start}, found {last}")
    return bool(around.remaining)


def _check_spi_size(protocol: int, size_bytes: int, start: int) -> None:
    sizes = _SPI_SIZES.get(ProtocolId(protocol)) if protocol in _SPI_SIZES else None
    if sizes is not None and size_bytes not in sizes:
        raise PeerError(f"expected an SPI of {sizes[-1]} bytes for protocol {protocol} at offset {start}, found {size_bytes}")


def _ke(body: Reader) -> Ke:
    group, _ = body.unpack(_KE)
    return Ke(group, body.rest())


def _id(kind: Callable[[int, bytes, bytes], IdI | IdR]) -> Callable[[Reader], IdI | IdR]:
    def parser(body: Reader) -> IdI | IdR:
        number, reserved = body.unpack(_TYPED)
        return kind(number, body.rest(), reserved)

    return parser


def _cert(body: Reader) -> Cert:
    return Cert(body.take(1)[0], body.rest())


def _certreq(body: Reader) -> CertReq:
    return CertReq(body.take(1)[0], body.rest())


def _auth(body: Reader) -> Auth:
    method, _ = body.unpack(_TYPED)
    return Auth(method, body.rest())


def _nonce(body: Reader) -> Nonce:
    if not NONCE_MIN_BYTES <= body.remaining <= NONCE_MAX_BYTES:
        found = f"found {body.remaining} at offset {body.offset}"
        raise PeerError(f"expected a nonce of {NONCE_MIN_BYTES} to {NONCE_MAX_BYTES} bytes, {found}")
    return Nonce(body.rest())


def _notify(body: Reader) -> Notify:
    protocol, spi_size, kind = body.unpack(_NOTIFY)
    spi = body.take(spi_size)
    return Notify(kind, body.rest(), protocol, spi)


def _delete(body: Reader) -> Delete:
    start = body.offset
    protocol, spi_size, count = body.unpack(_DELETE)
    if protocol == ProtocolId.IKE:
        if spi_size or count:
            raise PeerError(f"expected no SPI to delete of IKE at offset {start}, found {count} of {spi_size} bytes")
        return Delete(protocol)
    if spi_size != ESP_SPI_BYTES:
        raise PeerError(f"expected SPIs of {ESP_SPI_BYTES} bytes at offset {start}, found {spi_size}")
    if count * spi_size != body.remaining:
        raise PeerError(f"expected {count} SPIs at offset {body.offset}, found {body.remaining} bytes")
    return Delete(protocol, tuple(body.take(spi_size) for _ in range(count)))


def _vendor(body: Reader) -> Vendor:
    return Vendor(body.rest())


def _ts(kind: Callable[[tuple[Selector, ...]], TsI | TsR]) -> Callable[[Reader], TsI | TsR]:
    def parser(body: Reader) -> TsI | TsR:
        start = body.offset
        count, _ = body.unpack(_TYPED)
        if not count:
            raise PeerError(f"expected at least one selector at offset {start}, found none")
        found = [_selector(body) for _ in range(count)]
        return kind(tuple(selector for selector in found if selector is not None))

    return parser


def _selector(body: Reader) -> Selector | None:
    """None: of a type that is not known (RFC 9478's labels): left out, so that less is agreed on, never more."""
    start = body.offset
    kind, protocol, length, first_port, last_port = body.unpack(_SELECTOR)
    inside = body.inner(_within(length, _SELECTOR.size, start))
    size = _TS_BYTES.get(kind)
    if size is None:
        return None
    first, last = inside.take(size), inside.take(size)
    inside.end()
    if first > last or (first_port > last_port and (first_port, last_port) != OPAQUE_PORTS):
        raise PeerError(f"expected ranges from the lower to the higher end at offset {start}, found one the other way round")
    return Selector(protocol, first_port, last_port, first, last)


_PARSERS: Final[dict[int, Callable[[Reader], Payload]]] = {
    PayloadType.SA: _sa,
    PayloadType.KE: _ke,
    PayloadType.ID_I: _id(IdI),
    PayloadType.ID_R: _id(IdR),
    PayloadType.CERT: _cert,
    PayloadType.CERTREQ: _certreq,
    PayloadType.AUTH: _auth,
    PayloadType.NONCE: _nonce,
    PayloadType.NOTIFY: _notify,
    PayloadType.DELETE: _delete,
    PayloadType.VENDOR: _vendor,
    PayloadType.TS_I: _ts(TsI),
    PayloadType.TS_R: _ts(TsR),
}


# ---------------------------------------------------------------- values -> bytes


def build(message: Message) -> bytes:
    """
    The datagram, without a marker. A protected message ends with its `Sk`, already sealed over `associated`'s bytes.

    Raises:
        ValueError, OverflowError, struct.error: a field does not fit its place; our own mistake.
    """
    last = message.payloads[-1] if message.payloads else None
    if isinstance(last, Sk):
        outside = message.payloads[:-1]
        return associated(message.header, last.first, len(last.sealed), last.fragment, last.total, outside) + last.sealed
    first, body = build_payloads(message.payloads)
    return _build_header(message.header, first, HEADER_SIZE + len(body)) + body


def build_payloads(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """
    A chain of payloads: what goes inside SK.

    Returns:
        (type of the first, 0 when there is none; their bytes).

    Raises:
        ValueError: as `build`; and an `Sk` among them.
    """
    return _chain(tuple(payloads), PayloadType.NONE)


def associated(
    header: Header, first: int, sealed_size: int, fragment: int = 0, total: int = 0, outside: tuple[Payload, ...] = ()
) -> bytes:
    """
    A protected message up to where the sealed bytes begin: what the checksum covers besides them, and what is sent before them.

    Args:
        first: type of the first payload inside (of a later fragment: 0).
        sealed_size: bytes of IV, ciphertext and checksum.
        fragment, total: of SKF; 0: a whole message in SK.
        outside: payloads before the encrypted one; we send none.
    """
    kind = PayloadType.SKF if total else PayloadType.SK
    head = _FRAGMENT.pack(fragment, total) if total else b""
    chain_first, chain = _chain(outside, kind)
    generic = _GENERIC.pack(first, 0, _GENERIC.size + len(head) + sealed_size) + head
    size = HEADER_SIZE + len(chain) + len(generic) + sealed_size
    return _build_header(header, chain_first, size) + chain + generic


def with_marker(message: bytes) -> bytes:
    """As it travels on the NAT traversal port (RFC 3948, 2.2)."""
    return NON_ESP_MARKER + message


def _build_header(header: Header, first: int, size_bytes: int) -> bytes:
    flags = (_FLAG_INITIATOR if header.initiator else 0) | (_FLAG_RESPONSE if header.response else 0)
    if not len(header.spi_i) == len(header.spi_r) == IKE_SPI_BYTES:
        raise ValueError(f"expected SPIs of {IKE_SPI_BYTES} bytes, found {len(header.spi_i)} and {len(header.spi_r)}")
    version = header.major << 4 | header.minor
    return _HEADER.pack(header.spi_i, header.spi_r, first, version, header.exchange, flags, header.message_id, size_bytes)


def _chain(payloads: tuple[Payload, ...], end: int) -> tuple[int, bytes]:
    bodies = [_build_payload(payload) for payload in payloads]
    kinds = [kind for kind, _, _ in bodies] + [end]
    parts: list[bytes] = []
    for (_, critical, body), following in zip(bodies, kinds[1:], strict=True):
        parts.append(_GENERIC.pack(following, _CRITICAL if critical else 0, _GENERIC.size + len(body)))
        parts.append(body)
    return kinds[0], b"".join(parts)


def _build_payload(payload: Payload) -> tuple[int, bool, bytes]:
    """(type, critical, body)."""
    match payload:
        case Sa(proposals):
            return PayloadType.SA, False, _build_sa(proposals)
        case Ke(group, data):
            return PayloadType.KE, False, _KE.pack(group, 0) + data
        case IdI():
            return PayloadType.ID_I, False, payload.body
        case IdR():
            return PayloadType.ID_R, False, payload.body
        case Cert(encoding, data):
            return PayloadType.CERT, False, bytes((encoding,)) + data
        case CertReq(encoding, data):
            return PayloadType.CERTREQ, False, bytes((encoding,)) + data
        case Auth(method, data):
            return PayloadType.AUTH, False, _TYPED.pack(method, b"") + data
        case Nonce(data):
            if not NONCE_MIN_BYTES <= len(data) <= NONCE_MAX_BYTES:
                raise ValueError(f"expected a nonce of {NONCE_MIN_BYTES} to {NONCE_MAX_BYTES} bytes, found {len(data)}")
            return PayloadType.NONCE, False, data
        case Notify(kind, data, protocol, spi):
            return PayloadType.NOTIFY, False, _NOTIFY.pack(protocol, len(spi), kind) + spi + data
        case Delete(protocol, spis):
            size = 0 if protocol == ProtocolId.IKE else ESP_SPI_BYTES
            if any(len(spi) != size or not size for spi in spis):
                raise ValueError(f"expected SPIs of {ESP_SPI_BYTES} bytes, and none of IKE")
            return PayloadType.DELETE, False, _DELETE.pack(protocol, size, len(spis)) + b"".join(spis)
        case Vendor(data):
            return PayloadType.VENDOR, False, data
        case TsI(selectors):
            return PayloadType.TS_I, False, _build_ts(selectors)
        case TsR(selectors):
            return PayloadType.TS_R, False, _build_ts(selectors)
        case Unknown(kind, critical, body):
            return kind, critical, body
        case Sk():
            raise ValueError("expected payloads that are not sealed, found SK")


def _build_sa(proposals: tuple[Proposal, ...]) -> bytes:
    parts: list[bytes] = []
    for left, proposal in zip(range(len(proposals) - 1, -1, -1), proposals, strict=True):
        body = proposal.spi + _build_transforms(proposal.transforms)
        size = _PROPOSAL.size + len(body)
        count = len(proposal.transforms)
        more = _MORE_PROPOSALS if left else 0
        parts.append(_PROPOSAL.pack(more, 0, size, proposal.number, proposal.protocol, len(proposal.spi), count))
        parts.append(body)
    return b"".join(parts)


def _build_transforms(transforms: tuple[Transform, ...]) -> bytes:
    parts: list[bytes] = []
    for left, transform in zip(range(len(transforms) - 1, -1, -1), transforms, strict=True):
        attributes = b"" if transform.key_bits is None else _ATTRIBUTE.pack(_ATTRIBUTE_KEY_LENGTH, transform.key_bits)
        for name, value in transform.others:
            attributes += name.to_bytes(2, "big") + (b"" if name & _ATTRIBUTE_SHORT else len(value).to_bytes(2, "big")) + value
        size = _TRANSFORM.size + len(attributes)
        parts.append(_TRANSFORM.pack(_MORE_TRANSFORMS if left else 0, 0, size, transform.kind, 0, transform.number))
        parts.append(attributes)
    return b"".join(parts)


def _build_ts(selectors: tuple[Selector, ...]) -> bytes:
    if not selectors:
        raise ValueError("expected at least one selector, found none")
    parts = [_TYPED.pack(len(selectors), b"")]
    for one in selectors:
        kind = _TS_IPV4 if len(one.first) == _TS_BYTES[_TS_IPV4] else _TS_IPV6
        if not len(one.first) == len(one.last) == _TS_BYTES[kind]:
            raise ValueError(f"expected two addresses of one family, found {len(one.first)} and {len(one.last)} bytes")
        size = _SELECTOR.size + 2 * len(one.first)
        parts.append(_SELECTOR.pack(kind, one.protocol, size, one.first_port, one.last_port) + one.first + one.last)
    return b"".join(parts)
