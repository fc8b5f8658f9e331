"""DER as strict as identities need it, and distinguished names that are one in spite of their string types."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from ginnel.ikev2 import der


def encoded(*values: str, kind: _ASN1Type = _ASN1Type.UTF8String) -> bytes:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value, kind) for value in values]).public_bytes()


def test_elements_are_walked_over_one_after_another() -> None:
    found = list(der.elements(bytes.fromhex("0201053003020107 0500")))
    assert [(one.tag, one.body.hex(), one.whole.hex()) for one in found] == [
        (2, "05", "020105"),
        (0x30, "020107", "3003020107"),
        (5, "", "0500"),
    ]


def test_a_long_length_is_read() -> None:
    body = bytes(300)
    (found,) = der.elements(b"\x04\x82\x01\x2c" + body)
    assert found.body == body


@pytest.mark.parametrize(
    "wrong",
    [
        "02",
        "0203 01",
        "3080 0000",
        "0481 05 0000000000",
        "0482 0080" + "00" * 128,
        "0485 0000000001 00",
        "1f0100",
        "0484 ffffffff",
        "04ff",
    ],
)
def test_what_is_not_der_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        list(der.elements(bytes.fromhex(wrong)))


@pytest.mark.parametrize("data", ["", "0500", "30003000", "300005"])
def test_one_is_one_of_its_tag(data: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        der.one(bytes.fromhex(data), der.SEQUENCE)


@pytest.mark.parametrize(("coded", "value"), [("020100", 0), ("02017f", 127), ("02020080", 128), ("02020100", 256)])
def test_small_integers(coded: str, value: int) -> None:
    assert der.small_integer(der.one(bytes.fromhex(coded), der.INTEGER)) == value


@pytest.mark.parametrize("coded", ["0200", "0201ff", "02020001", "02050100000000", "040100"])
def test_other_integers_are_refused(coded: str) -> None:
    (element,) = der.elements(bytes.fromhex(coded))
    with pytest.raises(ValueError, match="small integer"):
        der.small_integer(element)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (encoded("moon"), encoded("moon"), True),
        (encoded("moon"), encoded("Moon", kind=_ASN1Type.PrintableString), True),
        (encoded("big  moon "), encoded("Big Moon", kind=_ASN1Type.BMPString), True),
        (encoded("moon"), encoded("moons"), False),
        (encoded("moon", "sun"), encoded("sun", "moon"), False),
        (encoded("moon", "sun"), encoded("moon"), False),
        (encoded("stra\u00dfe"), encoded("strasse"), False),
        (encoded("\u0130"), encoded("i\u0307"), False),
        (encoded("moon\0"), encoded("moon"), False),
        (encoded("moon\u00a0x"), encoded("moon x"), False),
        (b"\x30\x00", b"\x30\x00", True),
        (b"nonsense", b"nonsense", True),
        (b"nonsense", encoded("moon"), False),
        (b"\x30\x02\x31\x00", b"\x30\x02\x30\x00", False),
    ],
)
def test_names_are_compared_without_case_blanks_and_string_types(left: bytes, right: bytes, same: bool) -> None:
    assert der.same_name(left, right) is same
    assert der.same_name(right, left) is same


def test_the_type_of_an_attribute_counts() -> None:
    common = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "moon")]).public_bytes()
    unit = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "moon")]).public_bytes()
    assert not der.same_name(common, unit)


def test_attributes_of_one_part_have_no_order() -> None:
    a, b = x509.NameAttribute(NameOID.COMMON_NAME, "moon"), x509.NameAttribute(NameOID.USER_ID, "1")
    both = x509.Name([x509.RelativeDistinguishedName([a, b])]).public_bytes()
    parted = x509.Name([a, b]).public_bytes()
    assert der.name_parts(both) == (frozenset(der.name_parts(parted)[0] | der.name_parts(parted)[1]),)
    assert not der.same_name(both, parted)
