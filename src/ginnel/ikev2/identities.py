"""
Identities: text <-> what travels in IDi and IDr.

| text | type |
| --- | --- |
| `192.0.2.1`, `2001:db8::1` | address |
| `moon.example.org`, `@keyword` | FQDN: any name; the `@` says that it is no address |
| `user@example.org` | e-mail address |
| `CN=moon, O=Example` | distinguished name of a certificate; `DC=`, `emailAddress=`, ... as well |
| `@#6d6f6f6e` | key id, in hexadecimal |
| `%any` | nobody in particular: whoever proves itself |

`ipv4:`, `ipv6:`, `fqdn:`, `email:`, `dn:` and `keyid:` in front say the type outright. The parts of a name stand in the order of
the certificate; `/` may stand in place of the comma; a backslash takes the next character as it is. Strings become UTF8String,
those of a country, a serial number and a DN qualifier PrintableString, those of `DC` and `emailAddress` IA5String, as RFC 5280
has it; whoever compares names folds the kinds together.

Source: RFC 7296, 3.5; RFC 4514 (names of attributes); strongSwan's rules for guessing the type from the text.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from ginnel.errors import UsageError
from ginnel.ikev2 import der
from ginnel.wire.ikev2 import Id, IdType

ANY: Final = "%any"
#: Longer ones do not fit a message with the rest of what it has to carry.
IDENTITY_MAX_BYTES: Final = 1024

_PRINTABLE: Final = 0x13
_IA5: Final = 0x16
_UTF8: Final = 0x0C

#: Attribute -> (OID, string type).
_ATTRIBUTES: Final[dict[str, tuple[str, int]]] = {
    "CN": ("2.5.4.3", _UTF8),
    "SN": ("2.5.4.4", _UTF8),
    "serialNumber": ("2.5.4.5", _PRINTABLE),
    "C": ("2.5.4.6", _PRINTABLE),
    "L": ("2.5.4.7", _UTF8),
    "ST": ("2.5.4.8", _UTF8),
    "street": ("2.5.4.9", _UTF8),
    "O": ("2.5.4.10", _UTF8),
    "OU": ("2.5.4.11", _UTF8),
    "title": ("2.5.4.12", _UTF8),
    "GN": ("2.5.4.42", _UTF8),
    "dnQualifier": ("2.5.4.46", _PRINTABLE),
    "UID": ("0.9.2342.19200300.100.1.1", _UTF8),
    "DC": ("0.9.2342.19200300.100.1.25", _IA5),
    "emailAddress": ("1.2.840.113549.1.9.1", _IA5),
}
_SAME_ATTRIBUTE: Final = {"S": "ST", "E": "emailAddress", "EMAIL": "emailAddress", "SURNAME": "SN", "GIVENNAME": "GN"}
_BY_WORD: Final = {
    **{word.upper(): found for word, found in _ATTRIBUTES.items()},
    **{word: _ATTRIBUTES[found] for word, found in _SAME_ATTRIBUTE.items()},
}
_STRINGS: Final = {_UTF8: "utf-8", _PRINTABLE: "ascii", _IA5: "ascii", 0x14: "latin-1", 0x1E: "utf-16-be"}


def parse(text: str) -> Id | None:
    """
    An identity; None for "%any".

    Raises:
        UsageError: it is empty, too long, or not what it begins as.
    """
    trimmed = text.strip()
    if trimmed == ANY:
        return None
    found = _typed(trimmed) or _guessed(trimmed)
    if not found.data or len(found.data) > IDENTITY_MAX_BYTES:
        raise UsageError(f"'{text}': expected an identity of 1 to {IDENTITY_MAX_BYTES} bytes, found {len(found.data)}")
    return found


def of_address(address: bytes) -> Id:
    """A packed address as an identity."""
    return Id(IdType.IPV4_ADDR if len(address) == 4 else IdType.IPV6_ADDR, address)


def of_name(name: bytes) -> Id:
    """A certificate's subject (DER) as an identity."""
    return Id(IdType.DER_ASN1_DN, name)


def same(one: Id, other: Id) -> bool:
    """Whether they are one identity: names without regard to case, distinguished names to case, blanks and string types."""
    if one.kind != other.kind:
        return False
    match one.kind:
        case IdType.FQDN | IdType.RFC822_ADDR:
            return one.data.lower() == other.data.lower()
        case IdType.DER_ASN1_DN:
            return der.same_name(one.data, other.data)
        case _:
            return one.data == other.data


def text(identity: Id | None) -> str:
    """As `parse` reads it (where it is text at all), without control characters whatever the peer sent; "%any" for None."""
    if identity is None:
        return ANY
    data = identity.data
    match identity.kind:
        case IdType.IPV4_ADDR if len(data) == 4:
            return str(ipaddress.IPv4Address(data))
        case IdType.IPV6_ADDR if len(data) == 16:
            return str(ipaddress.IPv6Address(data))
        case IdType.FQDN:
            return _named(_safe(data), IdType.FQDN, "fqdn:" if data.startswith(b"#") else "@")
        case IdType.RFC822_ADDR:
            return _named(_safe(data), IdType.RFC822_ADDR, "email:")
        case IdType.DER_ASN1_DN:
            try:
                return _name_text(data[: 4 * IDENTITY_MAX_BYTES])
            except ValueError:
                return f"a distinguished name that cannot be read, 0x{data[:64].hex()}"
        case IdType.KEY_ID:
            return f"@#{data.hex()}"
        case IdType.NULL:
            return "nobody (ID_NULL)"
        case kind:
            return f"identity of type {int(kind)}, 0x{data[:64].hex()}"


def _typed(text_: str) -> Id | None:
    word, colon, rest = text_.partition(":")
    if not colon:
        return None
    match word.lower():
        case "ipv4" | "ipv6":
            return of_address(_address(rest))
        case "fqdn" | "dns":
            return Id(IdType.FQDN, rest.encode())
        case "email" | "rfc822":
            return Id(IdType.RFC822_ADDR, rest.encode())
        case "dn" | "asn1dn":
            return Id(IdType.DER_ASN1_DN, _name_der(rest))
        case "keyid":
            return Id(IdType.KEY_ID, rest.encode())
        case _:
            return None


def _guessed(text_: str) -> Id:
    if text_.startswith("@#"):
        try:
            return Id(IdType.KEY_ID, bytes.fromhex(text_[2:]))
        except ValueError:
            raise UsageError(f"'{text_}': expected hexadecimal digits after '@#'") from None
    if text_.startswith("@"):
        return Id(IdType.FQDN, text_[1:].encode())
    match _guessed_kind(text_):
        case IdType.IPV4_ADDR | IdType.IPV6_ADDR:
            return of_address(_address(text_))
        case IdType.DER_ASN1_DN:
            return Id(IdType.DER_ASN1_DN, _name_der(text_))
        case kind:
            return Id(kind, text_.encode())


def _guessed_kind(text_: str) -> IdType:
    try:
        return IdType.IPV4_ADDR if ipaddress.ip_address(text_).version == 4 else IdType.IPV6_ADDR
    except ValueError:
        pass
    if "=" in text_:
        return IdType.DER_ASN1_DN
    return IdType.RFC822_ADDR if "@" in text_ else IdType.FQDN


def _named(name: str, kind: IdType, prefix: str) -> str:
    """*name*, with *prefix* where `parse` would take it for something else without."""
    guessed = _typed(name) is None and not name.startswith("@") and name != ANY and _guessed_kind(name) == kind
    return name if guessed else prefix + name


def _address(text_: str) -> bytes:
    try:
        return ipaddress.ip_address(text_).packed
    except ValueError:
        raise UsageError(f"'{text_}': expected an address") from None


def _safe(data: bytes) -> str:
    """What a peer sent, for a terminal or a log: printable, bounded."""
    shown = data[:IDENTITY_MAX_BYTES].decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in shown)


# ---------------------------------------------------------------- distinguished names


def _name_der(text_: str) -> bytes:
    parts = [_attribute(part, text_) for part in _split(text_)]
    return _element(der.SEQUENCE, b"".join(_element(der.SET, part) for part in parts))


def _split(text_: str) -> list[list[str]]:
    """(attribute, value) of each part, backslashes taken off."""
    parts: list[list[str]] = [["", ""]]
    at_value = escaped = False
    for one in text_.removeprefix("/"):
        if escaped:
            escaped = False
        elif one == "\\":
            escaped = True
            continue
        elif one == "=" and not at_value:
            at_value = True
            continue
        elif one == "," or (one == "/" and text_.startswith("/")):
            parts.append(["", ""])
            at_value = False
            continue
        parts[-1][at_value] += one
    return parts


def _attribute(part: list[str], whole: str) -> bytes:
    word, value = part[0].strip(), part[1].strip()
    if not value:
        raise UsageError(f"'{whole}': expected parts such as CN=moon, separated by commas")
    found = _BY_WORD.get(word.upper())
    if found is None:
        raise UsageError(f"'{whole}': '{word}' is no attribute of a name\n  hint: one of {', '.join(_ATTRIBUTES)}")
    oid, tag = found
    try:
        string = value.encode(_STRINGS[tag])
    except UnicodeEncodeError:
        raise UsageError(f"'{whole}': expected ASCII in {word}") from None
    return _element(der.SEQUENCE, _element(der.OID, _oid(oid)) + _element(tag, string))


def _element(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    coded = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(coded))) + coded + body


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(number) for number in dotted.split("."))
    out = bytearray()
    for number in (40 * first + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        out += bytes(reversed(groups))
    return bytes(out)


_WORD_BY_OID: Final = {_oid(oid): word for word, (oid, _) in _ATTRIBUTES.items()}


def _name_text(name: bytes) -> str:
    """ValueError when *name* is no distinguished name."""
    parts: list[str] = []
    for part in der.elements(der.one(name, der.SEQUENCE).body):
        for attribute in der.elements(part.body):
            kind, value = der.elements(attribute.body)
            word = _WORD_BY_OID.get(kind.body, f"oid.{kind.body.hex()}")
            encoding = _STRINGS.get(value.tag)
            string = value.body.decode(encoding, "backslashreplace") if encoding else f"0x{value.body.hex()}"
            parts.append(f"{word}={_escaped(_safe(string.encode()))}")
    return ", ".join(parts)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,")
