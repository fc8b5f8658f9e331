"""
IKEv2 messages: bytes <-> values. Nothing is decrypted, judged or answered here.

    0                   4                   8
    | initiator's SPI                       |
    | responder's SPI                       |
    | next | vers | exch | flag | message id|
    | length            |  payloads ...
    payload: next | C, reserved | length 2 | body

Numbers that are not known survive as numbers; a payload of unknown type is `Unknown`, with its critical bit.

Source: RFC 7296, 3; RFC 7383, 2.5 (SKF).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

HEADER_SIZE: Final = 28
#: Longer is refused before it is looked into (strongSwan: 10,000 bytes); fragments are put together up to as much.
MESSAGE_MAX_BYTES: Final = 65_535
NON_ESP_MARKER: Final = bytes(4)


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
    """kind: `TransformType` or another int; number: IANA's; key_bits: the key length attribute, None without."""

    kind: int
    number: int
    key_bits: int | None = None


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
    """An identity as it travels. Its `body` (four bytes of type and reserved, then data) is what AUTH covers."""

    kind: int
    data: bytes


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
