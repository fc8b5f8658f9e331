"""
What a caller's type checker sees of the public values; `make lint` runs mypy --strict over this directory.

The assertions are the checker's: at run time `assert_type` does nothing, so each function is also a plain test of its value.
"""

from typing import assert_type

from ginnel.units import Endpoint, Now, Prefix, PublicKey


def test_a_prefix_is_parsed_to_itself() -> None:
    prefix = assert_type(Prefix.parse("10.0.0.1/8"), Prefix)
    assert assert_type(prefix.packed, bytes) == bytes([10, 0, 0, 0])
    assert assert_type(prefix.length, int) == 8


def test_an_endpoint_keeps_its_parts() -> None:
    endpoint = assert_type(Endpoint.parse("[2001:db8::1]:51820"), Endpoint)
    assert assert_type(endpoint.host, str) == "2001:db8::1"
    assert assert_type(endpoint.port, int) == 51820


def test_a_key_is_bytes() -> None:
    key = assert_type(PublicKey(bytes(32)), PublicKey)
    assert assert_type(key.base64(), str) == "A" * 43 + "="


def test_now_has_two_clocks() -> None:
    now = Now(mono_ns=1, unix_ns=2)
    assert assert_type(now.mono_ns, int) < assert_type(now.unix_ns, int)
