"""The state file: there and back, and everything that must make it be ignored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ginnel.runtime import state
from ginnel.units import Endpoint, PublicKey
from ginnel.wireguard.peer import Remembered

A, B = PublicKey(b"\xaa" * 32), PublicKey(b"\xbb" * 32)
PEERS = {
    A: Remembered(Endpoint.parse("192.0.2.1:51820"), 1_700_000_000_123_456_789, 1_700_000_000_000_000_000),
    B: Remembered(None, 0, 5),
    PublicKey(b"\xcc" * 32): Remembered(Endpoint(bytes.fromhex("fe80" + "0" * 27 + "1"), 7, 3), 1, 0),
}


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "wg0.state"
    state.write(str(path), state.encode(PEERS))
    assert state.read(str(path)) == PEERS
    assert path.stat().st_mode & 0o7777 == 0o600
    state.write(str(path), state.encode({}))
    assert state.read(str(path)) == {}
    assert os.listdir(tmp_path) == ["wg0.state"], "nothing beside it"


def test_no_file_remembers_nothing(tmp_path: Path) -> None:
    assert state.read(str(tmp_path / "none")) == {}


def test_what_a_crash_left_half_written_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "wg0.state"
    (tmp_path / "wg0.state.tmp").write_text("half")
    (tmp_path / "wg0.state.tmp").chmod(0o666)
    state.write(str(path), state.encode(PEERS))
    assert state.read(str(path)) == PEERS
    assert path.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "ginnel.state/2", "peers": {}}',
        '{"schema": "ginnel.state/1", "peers": []}',
        '{"schema": "ginnel.state/1", "peers": {"x": {}}}',
        f'{{"schema": "ginnel.state/1", "peers": {{"{A.base64()}": []}}}}',
        f'{{"schema": "ginnel.state/1", "peers": {{"{A.base64()}": {{"endpoint": "vpn.example.org:1"}}}}}}',
        f'{{"schema": "ginnel.state/1", "peers": {{"{A.base64()}": {{"endpoint": 7}}}}}}',
        f'{{"schema": "ginnel.state/1", "peers": {{"{A.base64()}": {{"last_timestamp_ns": -1}}}}}}',
        f'{{"schema": "ginnel.state/1", "peers": {{"{A.base64()}": {{"last_timestamp_ns": true}}}}}}',
        f'{{"schema": "ginnel.state/1", "peers": {{"{A.base64()}": {{"last_active_unix_ns": 1e9}}}}}}',
        f'{{"schema": "ginnel.state/1", "peers": {{"{A.base64()}": {{"last_timestamp_ns": {2**63}}}}}}}',
        '{"schema": "ginnel.state/1", "peers": {',
        "[" * 100_000,
    ],
)
def test_what_is_no_state_file_is_a_value_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wg0.state"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ValueError, match=r"."):
        state.read(str(path))


def test_a_file_that_others_can_write_or_that_is_no_file_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "wg0.state"
    state.write(str(path), state.encode(PEERS))
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "directory").mkdir()
    for bad in ("link", "directory"):
        with pytest.raises(ValueError, match=r"cannot be opened|regular file"):
            state.read(str(tmp_path / bad))
    path.chmod(0o620)
    with pytest.raises(ValueError, match="only root can write"):
        state.read(str(path))
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 65_534, 65_534)
        with pytest.raises(ValueError, match="of root's"):
            state.read(str(path))
