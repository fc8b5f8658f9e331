"""The UAPI parser and renderer: from literal bytes to operations and back, every mistake, every way to cut the stream."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.units import Endpoint, Prefix, PublicKey
from ginnel.wire import uapi

KEY_A, KEY_B = "aa" * 32, "bb" * 32


def secret(text: str) -> bytes:
    """A secret type of the tests: the bytes themselves."""
    raw = bytes.fromhex(text)
    if len(raw) != 32:
        raise ValueError("expected 64 digits")
    return raw


def feed(text: str, piece: int = 0) -> list[uapi.Operation[bytes]]:
    """All operations of *text*, fed whole or in pieces."""
    parser = uapi.Parser(secret)
    data = text.encode()
    pieces = [data[i : i + piece] for i in range(0, len(data), piece)] if piece else [data]
    return [operation for part in pieces for operation in parser.feed(part)]


FULL = (
    f"set=1\nprivate_key={KEY_A}\nlisten_port=51820\nfwmark=51820\nreplace_peers=true\n"
    f"public_key={KEY_A}\nupdate_only=true\npreshared_key={KEY_B}\nendpoint=192.0.2.1:7\n"
    f"persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.0.0.1/8\nallowed_ip=fd00::1/64\n"
    f"protocol_version=1\npublic_key={KEY_B}\nremove=true\n\nget=1\n\n"
)


def full() -> list[uapi.Operation[bytes]]:
    return [
        uapi.SetPrivateKey(bytes.fromhex(KEY_A)),
        uapi.SetListenPort(51820),
        uapi.SetFwmark(51820),
        uapi.ReplacePeers(),
        uapi.PeerChange(
            PublicKey(bytes.fromhex(KEY_A)),
            last=True,
            update_only=True,
            preshared_key=bytes.fromhex(KEY_B),
            endpoint=Endpoint.parse("192.0.2.1:7"),
            keepalive_s=25,
            replace_allowed_ips=True,
            add=[Prefix.parse("10.0.0.0/8"), Prefix.parse("fd00::/64")],
        ),
        uapi.PeerChange(PublicKey(bytes.fromhex(KEY_B)), last=True, remove=True),
        uapi.End(),
        uapi.Get(),
    ]


def test_every_key_of_a_set_and_a_get_on_one_connection() -> None:
    assert feed(FULL) == full()


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 100])
def test_pieces_of_any_size_give_the_same(piece: int) -> None:
    assert feed(FULL, piece) == full()


def test_several_sets_and_gets_on_one_connection() -> None:
    kinds = [type(operation).__name__ for operation in feed("get=1\n\nset=1\nlisten_port=1\n\nget=1\n\nset=1\n\n")]
    assert kinds == ["Get", "SetListenPort", "End", "Get", "End"]


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ("private_key=12", errno.EINVAL),
        ("private_key=" + "zz" * 32, errno.EINVAL),
        ("listen_port=65536", errno.EINVAL),
        ("listen_port=-1", errno.EINVAL),
        ("listen_port=", errno.EINVAL),
        ("listen_port=1e3", errno.EINVAL),
        ("fwmark=4294967296", errno.EINVAL),
        ("fwmark=0x10", errno.EINVAL),
        ("replace_peers=false", errno.EINVAL),
        ("replace_peers=1", errno.EINVAL),
        ("allowed_ip=10.0.0.0/8", errno.EINVAL),
        ("nonsense=1", errno.EINVAL),
        ("nonsense", errno.EPROTO),
        ("public_key=12", errno.EINVAL),
        ("public_key=" + " " * 64, errno.EINVAL),
        (f"public_key={KEY_A}\nnonsense", errno.EPROTO),
        (f"public_key={KEY_A}\nnonsense=1", errno.EINVAL),
        (f"public_key={KEY_A}\nlisten_port=1", errno.EINVAL),
        (f"public_key={KEY_A}\nremove=yes", errno.EINVAL),
        (f"public_key={KEY_A}\nupdate_only=", errno.EINVAL),
        (f"public_key={KEY_A}\nreplace_allowed_ips=false", errno.EINVAL),
        (f"public_key={KEY_A}\npreshared_key=00", errno.EINVAL),
        (f"public_key={KEY_A}\nendpoint=vpn.example.org:51820", errno.EINVAL),
        (f"public_key={KEY_A}\nendpoint=192.0.2.1", errno.EINVAL),
        (f"public_key={KEY_A}\nendpoint=[2001:db8::1]:70000", errno.EINVAL),
        (f"public_key={KEY_A}\nendpoint=[fe80::1%4294967296]:7", errno.EINVAL),
        (f"public_key={KEY_A}\nendpoint=[fe80::1%\u00b2]:7", errno.EINVAL),
        (f"public_key={KEY_A}\nendpoint=[fe80::1%\0]:7", errno.EINVAL),
        (f"public_key={KEY_A}\nendpoint=192.0.2.1:{'9' * 5000}", errno.EINVAL),
        (f"public_key={KEY_A}\nallowed_ip=10.0.0.0/{'9' * 5000}", errno.EINVAL),
        (f"public_key={KEY_A[:2]} {KEY_A[2:]}", errno.EINVAL),
        (f"public_key={KEY_A}\npersistent_keepalive_interval=65536", errno.EINVAL),
        (f"public_key={KEY_A}\npersistent_keepalive_interval=off", errno.EINVAL),
        (f"public_key={KEY_A}\nallowed_ip=10.0.0.0/33", errno.EINVAL),
        (f"public_key={KEY_A}\nallowed_ip=10.0.0/8", errno.EINVAL),
        (f"public_key={KEY_A}\nallowed_ip=--10.0.0.0/8", errno.EINVAL),
        (f"public_key={KEY_A}\nprotocol_version=2", errno.EINVAL),
    ],
)
def test_a_wrong_line_has_its_errno_and_ends_the_conversation(lines: str, number: int) -> None:
    parser = uapi.Parser(secret)
    operations = parser.feed(f"set=1\nlisten_port=7\n{lines}\n\nget=1\n\n".encode())
    assert operations[0] == uapi.SetListenPort(7), "what stood before it has been understood"
    failure = operations[-1]
    assert isinstance(failure, uapi.Failure)
    assert (failure.operation, failure.errno) == ("set", number)
    assert parser.feed(b"get=1\n\n") == []


def test_lines_of_a_peer_before_a_wrong_one_are_given() -> None:
    change, failure = feed(f"set=1\npublic_key={KEY_A}\nallowed_ip=10.0.0.0/8\npreshared_key=00\n")
    assert isinstance(change, uapi.PeerChange)
    assert change.add == [Prefix.parse("10.0.0.0/8")]
    assert isinstance(failure, uapi.Failure)


def test_a_failure_never_quotes_a_key() -> None:
    failure = feed(f"set=1\nprivate_key={KEY_A}c\n")[0]
    assert isinstance(failure, uapi.Failure)
    assert "aaaa" not in failure.message


def test_get_followed_by_something_is_refused_with_a_positive_errno() -> None:
    assert feed("get=1\nx\n") == [uapi.Failure("get", errno.EINVAL, "expected a blank line after get=1")]
    assert uapi.status_text(errno.EINVAL, "get") == "errno=22\n\n"
    assert uapi.status_text(errno.EINVAL, "set") == "errno=-22\n\n"
    assert uapi.status_text(0, "set") == "errno=0\n\n"


@pytest.mark.parametrize("text", ["put=1\n", "\n", "get=2\n", "set\n", "GET / HTTP/1.1\n"])
def test_an_unknown_operation_is_closed_upon(text: str) -> None:
    assert feed(text + "get=1\n\n") == [uapi.Unknown()]


def test_a_line_without_end_is_refused_at_its_bound() -> None:
    parser = uapi.Parser(secret)
    assert parser.feed(b"set=1\n" + b"x" * uapi.LINE_LIMIT_BYTES) == []
    (failure,) = parser.feed(b"x")
    assert isinstance(failure, uapi.Failure)
    assert failure.errno == errno.EIO


def test_order_within_a_peer_is_kept_by_giving_pieces() -> None:
    first, second, third, _ = feed(
        f"set=1\npublic_key={KEY_A}\nallowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=10.1.0.0/16\n"
        "allowed_ip=-10.1.0.0/16\nallowed_ip=10.2.0.0/16\n\n"
    )
    assert isinstance(first, uapi.PeerChange)
    assert isinstance(second, uapi.PeerChange)
    assert isinstance(third, uapi.PeerChange)
    assert [(part.first, part.last) for part in (first, second, third)] == [(True, False), (False, False), (False, True)]
    assert (first.replace_allowed_ips, second.replace_allowed_ips) == (False, True)
    assert [str(prefix) for prefix in second.add + second.take + third.add] == ["10.1.0.0/16", "10.1.0.0/16", "10.2.0.0/16"]


def test_a_full_load_is_given_in_bounded_pieces() -> None:
    lines = "".join(f"allowed_ip=10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32\n" for i in range(130_560))
    changes = [c for c in feed(f"set=1\npublic_key={KEY_A}\n{lines}\n") if isinstance(c, uapi.PeerChange)]
    assert sum(len(change.add) for change in changes) == 130_560
    assert max(len(change.add) for change in changes) == uapi.PREFIXES_PER_CHANGE


def test_the_end_of_the_stream_still_applies_the_last_peer() -> None:
    parser = uapi.Parser(secret)
    assert parser.feed(f"set=1\npublic_key={KEY_A}\nallowed_ip=10.0.0.0/8\n".encode()) == []
    (change,) = parser.end_of_stream()
    assert isinstance(change, uapi.PeerChange)
    assert change.last
    assert parser.end_of_stream() == []


@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_bytes_break_the_parser_and_pieces_do_not_matter(data: bytes, piece: int) -> None:
    whole, pieced = uapi.Parser(secret), uapi.Parser(secret)
    prefix = b"set=1\n"
    at_once = whole.feed(prefix + data)
    in_pieces = pieced.feed(prefix)
    for i in range(0, len(data), piece):
        in_pieces += pieced.feed(data[i : i + piece])
    assert at_once == in_pieces


def test_what_get_prints_is_what_wg_reads() -> None:
    assert uapi.device_text(None, 0, 0) == ""
    assert uapi.device_text("ab", 51820, 7) == "private_key=ab\nlisten_port=51820\nfwmark=7\n"
    text = uapi.peer_text(b"\xaa" * 32, uapi.NO_PSK_HEX, (b"\xc0\0\2\1", 7, 0), 1_700_000_000_000_000_005, 10, 20, 25)
    assert text == (
        f"public_key={KEY_A}\npreshared_key={'0' * 64}\nprotocol_version=1\nendpoint=192.0.2.1:7\n"
        "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\ntx_bytes=10\nrx_bytes=20\n"
        "persistent_keepalive_interval=25\n"
    )
    link_local = bytes.fromhex("fe80" + "0" * 27 + "1")
    assert "endpoint=[fe80::1%3]:7\n" in uapi.peer_text(bytes(32), uapi.NO_PSK_HEX, (link_local, 7, 3), 0, 0, 0, 0)
    assert "endpoint=[fe80::1]:7\n" in uapi.peer_text(bytes(32), uapi.NO_PSK_HEX, (link_local, 7, 0), 0, 0, 0, 0)
    assert "endpoint" not in uapi.peer_text(bytes(32), uapi.NO_PSK_HEX, None, 0, 0, 0, 0)
    assert uapi.allowed_ips_text([(b"\x0a\0\0\0", 8), (bytes(16), 0)]) == "allowed_ip=10.0.0.0/8\nallowed_ip=::/0\n"
