"""`Secret`: what it shows (nothing), what it accepts (canonical text), and that comparing it never blocks."""

from __future__ import annotations

import base64
import copy
import pickle
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest

from ginnel import crypto
from ginnel.crypto import Secret, ZeroSecret
from ginnel.units import PublicKey

RAW = bytes(range(100, 132))
TEXT = base64.b64encode(RAW).decode()


def test_shown_nowhere() -> None:
    """repr, str, format, the instance's attributes: no byte of it."""
    secret = Secret.from_bytes(RAW)
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
        assert "Secret(..)" in shown
        assert TEXT not in shown
        assert RAW.hex() not in shown
    assert not hasattr(secret, "__dict__")
    for name in dir(secret):
        value = getattr(secret, name)
        assert not isinstance(value, (bytes, bytearray, memoryview)), name
    with pytest.raises(TypeError):
        memoryview(secret)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        bytes(secret)  # type: ignore[call-overload]


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy, hash])
def test_neither_pickled_copied_nor_hashed(attempt: object) -> None:
    """A copy is one more place to zero; a hash would depend on the content."""
    with pytest.raises(TypeError) as raised:
        attempt(Secret.from_bytes(RAW))  # type: ignore[operator]
    assert TEXT not in str(raised.value)


def test_text_both_ways() -> None:
    """Canonical base64 as `wg` prints it; hexadecimal as UAPI."""
    secret = Secret.from_bytes(RAW)
    assert secret.reveal_base64() == TEXT
    assert secret.reveal_hex() == RAW.hex()
    assert Secret.from_base64(TEXT) == secret
    assert Secret.from_hex(RAW.hex()) == secret
    assert Secret.from_hex(RAW.hex().upper()) == secret


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT + "=",
        TEXT + "\n",
        " " + TEXT[1:],
        TEXT[:-2] + "==",
        TEXT[:-2] + "h=",  # the two unused bits are set
        TEXT.replace(TEXT[0], "-", 1),
        "\u00e9" * 22,
    ],
)
def test_other_base64_is_refused_and_not_quoted(text: str) -> None:
    """The text may be most of a key, so neither the message nor the traceback has it."""
    with pytest.raises(ValueError, match="expected a key of 44 base64 characters") as raised:
        Secret.from_base64(text)
    if len(text) > 10:
        assert text[4:20] not in "".join(traceback.format_exception_only(raised.value))


@pytest.mark.parametrize("text", ["", RAW.hex()[:-1], RAW.hex() + "0", "g" + RAW.hex()[1:], " " + RAW.hex()[1:]])
def test_other_hexadecimal_is_refused_and_not_quoted(text: str) -> None:
    """The same for UAPI's form."""
    with pytest.raises(ValueError, match="expected a key of 64 hexadecimal characters") as raised:
        Secret.from_hex(text)
    if len(text) > 10:
        assert text[4:20] not in str(raised.value)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_other_sizes_are_refused(size: int) -> None:
    """32 bytes, always."""
    with pytest.raises(ValueError, match=f"expected a secret of 32 bytes, found {size}"):
        Secret.from_bytes(bytes(size))


def test_equality() -> None:
    """By content, with itself, and with nothing else."""
    secret, same, other = Secret.from_bytes(RAW), Secret.from_bytes(RAW), Secret.from_bytes(RAW[::-1])
    assert secret == same
    assert secret == secret  # noqa: PLR0124 - one object, one lock
    assert secret != other
    assert secret != RAW
    assert secret != TEXT


def test_zero() -> None:
    """The absent pre-shared key, and only that."""
    assert Secret.zero().is_zero()
    assert Secret.zero() == Secret.from_bytes(bytes(32))
    assert not Secret.from_bytes(bytes(31) + b"\1").is_zero()
    assert not Secret.random().is_zero()


def test_generated_keys_are_clamped_and_differ() -> None:
    """RFC 7748, 5: low three bits clear, highest clear, second highest set, as `wg genkey`."""
    seen = set()
    for _ in range(64):
        text = crypto.generate_private_key().reveal_base64()
        raw = base64.b64decode(text)
        assert raw[0] & 7 == 0
        assert raw[31] & 0xC0 == 0x40
        seen.add(text)
    assert len(seen) == 64


def test_clamp_is_a_copy() -> None:
    """The original stays as it was, and both have one public key."""
    secret = Secret.from_bytes(b"\xff" * 32)
    clamped = secret.clamp()
    assert secret.reveal_hex() == "ff" * 32
    assert clamped.reveal_hex() == "f8" + "ff" * 30 + "7f"
    assert crypto.public_key(secret) == crypto.public_key(clamped)
    assert isinstance(crypto.public_key(secret), PublicKey)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_public_keys_have_32_bytes(size: int) -> None:
    """A ValueError that names both sizes, and is not ZeroSecret."""
    with pytest.raises(ValueError, match=f"expected a public key of 32 bytes, found {size}") as raised:
        crypto.dh(Secret.random(), bytes(size))
    assert not isinstance(raised.value, ZeroSecret)


def test_comparing_both_ways_from_many_threads_ends() -> None:
    """`a == b` and `b == a` at once: locks are never held two at a time, so no order of them can block."""
    one, two = Secret.from_bytes(RAW), Secret.from_bytes(RAW)
    results: list[bool] = []

    def compare(left: Secret, right: Secret) -> None:
        results.append(all(left == right and crypto.kdf1(left, right) == crypto.kdf1(right, left) for _ in range(2000)))

    threads = [threading.Thread(target=compare, args=pair) for pair in [(one, two), (two, one)] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert results == [True] * 4


#: Makes secrets in the engine, writes the complement of one (so that its own memory never holds the bytes elsewhere), and
#: at each line it is sent takes one step.
CHILD = """
import gc, sys
from ginnel import crypto

def step(text):
    print(text, flush=True)
    sys.stdin.readline()

chain = crypto.Secret.random()
first, second = crypto.kdf2(chain, crypto.dh(crypto.generate_private_key(), crypto.public_key(crypto.generate_private_key())))
sealed = crypto.aead_seal(second, 0, b"plaintext", b"ad")
assert crypto.aead_open(second, 0, sealed, b"ad") == b"plaintext"
step(" ".join(str(int(second.reveal_hex()[at:at + 2], 16) ^ 0xff) for at in range(0, 64, 2)))
del first, second
gc.collect()
step("dropped")
"""


def count_in_memory(pid: int, needle: bytes) -> int:
    """How often *needle* lies in the writable memory of another process."""
    hits = 0
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            (
                span,
                rights,
                *_,
            ) = line.split()
            if rights.startswith("rw"):
                low, high = (int(part, 16) for part in span.split("-"))
                memory.seek(low)
                hits += memory.read(high - low).count(needle)
    return hits


def test_nothing_is_left_in_memory_after_a_secret_is_dropped() -> None:
    """Heap, stack and all: a derived key is in a process's memory while its handle lives, and not after."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        key = bytes(int(word) ^ 0xFF for word in child.stdout.readline().split())
        assert len(key) == 32
        while_held = [count_in_memory(child.pid, half) for half in (key, key[:16], key[16:])]
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "dropped\n"
        afterwards = [count_in_memory(child.pid, half) for half in (key, key[:16], key[16:])]
        child.stdin.write("\n")
        child.stdin.flush()
    assert child.returncode == 0
    assert while_held[0] >= 1
    assert afterwards == [0, 0, 0]
