"""`ginnel keys`: made once, kept safe, looked at, replaced step by step; and never a secret where it does not belong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from ginnel.cli.keyring import Keyring, derived_psk
from ginnel.crypto import Secret, public_key
from ginnel.errors import GinnelError
from ginnel.network import parse_lock
from quick_world import GINNEL, ROOT, World

NETWORK = """
[network]
name = "acme"
pool = ["10.10.0.0/24"]
psk = "{psk}"

[node.paris]
endpoint = "203.0.113.10"
relay = true

[node.lyon]

[node.brest]

[[link]]
between = ["paris", "brest"]
kind = "gre+ipsec"
"""


def ginnel(directory: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    return subprocess.run(
        [*GINNEL, *argv], cwd=directory, capture_output=True, text=True, env=environment, check=False, timeout=60, umask=0o022
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "network.toml").write_text(NETWORK.format(psk="random"))
    return tmp_path


def secrets_of(directory: Path) -> list[str]:
    """Everything secret that lies there."""
    return [path.read_text().strip() for path in (directory / "network.keys").iterdir() if path.name != ".gitignore"]


def test_what_is_missing_is_made_once_and_only_its_owner_reads_it(here: Path) -> None:
    done = ginnel(here, "keys", "new")
    assert done.returncode == 0, done.stderr
    files = {path.name: path for path in (here / "network.keys").iterdir()}
    assert sorted(files) == [".gitignore", "brest+paris.ipsec.psk", "lyon+paris.psk", "lyon.key", "paris.key"]
    assert files[".gitignore"].read_text() == "*\n"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert stat.S_IMODE((here / "network.keys").stat().st_mode) == 0o700
    lock = parse_lock((here / "network.lock.toml").read_text(), "lock")
    for name in ("paris", "lyon"):
        private = Secret.from_base64(files[f"{name}.key"].read_text().strip())
        assert lock.nodes[name].public_key == public_key(private)
        assert lock.nodes[name].key_since
    assert lock.nodes["brest"].public_key is None
    before = {name: path.read_bytes() for name, path in files.items()}
    again = ginnel(here, "keys", "new", "network.toml")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "nothing was missing\n")
    assert {name: path.read_bytes() for name, path in files.items()} == before
    for said in (done, again, ginnel(here, "keys", "show"), ginnel(here, "keys", "status", "--json")):
        assert not [secret for secret in secrets_of(here) if secret in said.stdout + said.stderr]
        assert not [secret for secret in secrets_of(here) if secret in (here / "network.lock.toml").read_text()]


def test_only_the_nodes_that_are_named(here: Path) -> None:
    assert ginnel(here, "keys", "new", "lyon").returncode == 0
    assert sorted(path.name for path in (here / "network.keys").iterdir()) == [".gitignore", "lyon+paris.psk", "lyon.key"]
    wrong = ginnel(here, "keys", "new", "lyons")
    assert (wrong.returncode, wrong.stderr) == (2, "ginnel: there is no node 'lyons' in network.toml\n")


def test_a_key_that_was_born_on_its_node_is_pinned_and_not_replaced_by_the_way(here: Path) -> None:
    first, second = (public_key(Secret.random().clamp()).base64() for _ in range(2))
    assert ginnel(here, "keys", "new", "lyon", "--public", first).returncode == 0
    assert ginnel(here, "keys", "new", "lyon", "--public", first).stderr == "nothing to do: it is pinned\n"
    refused = ginnel(here, "keys", "new", "lyon", "--public", second)
    assert refused.returncode == 1
    assert "`ginnel keys rotate lyon --public KEY`" in refused.stderr
    twin = ginnel(here, "keys", "new", "paris", "--public", first)
    assert twin.returncode == 1
    assert "that is the public key of lyon" in twin.stderr
    assert ginnel(here, "keys", "new").returncode == 0
    assert not (here / "network.keys/lyon.key").exists()
    assert "on the node" in ginnel(here, "keys", "show", "lyon").stdout
    for text in ("", "x", first[:-1], first + "="):
        bad = ginnel(here, "keys", "new", "brest", "--public", text)
        assert bad.returncode == 2, text


def test_on_the_node_itself(world: World) -> None:
    done = world.ginnel("keys", "new", "--here", "wg0")
    assert done.returncode == 0, done.stderr
    path = world.path("/etc/wireguard/wg0.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert done.stdout.strip() == public_key(Secret.from_base64(path.read_text().strip())).base64()
    assert path.read_text().strip() not in done.stderr
    before = path.read_bytes()
    again = world.ginnel("keys", "new", "--here", "wg0")
    assert again.returncode == 1
    assert "exists, and a key that is in use must not be lost" in again.stderr
    assert path.read_bytes() == before
    for name in ("../wg0", "a/b", "", "x" * 16):
        assert world.ginnel("keys", "new", "--here", name).returncode == 2, name


@pytest.mark.parametrize(("which", "mode"), [("network.keys", 0o755), ("network.keys/lyon.key", 0o640)])
def test_what_others_can_read_is_refused(here: Path, which: str, mode: int) -> None:
    assert ginnel(here, "keys", "new").returncode == 0
    (here / which).chmod(mode)
    for argv in (["new"], ["show"], ["status"], ["rotate", "lyon", "--do"]):
        done = ginnel(here, "keys", *argv)
        assert done.returncode == 1, argv
        assert f"others can read it (mode {mode:04o})" in done.stderr


def test_files_that_are_no_keys(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys")
    assert ring.private_key("lyon") is None
    ring.new_private_key("lyon")
    with pytest.raises(GinnelError, match="must not be lost"):
        ring.new_private_key("lyon")
    path = tmp_path / "keys/lyon.key"
    for content in (b"", b"canary-canary", b"\xff\xfe", b"A" * 5000):
        path.write_bytes(content)
        with pytest.raises(GinnelError) as told:
            ring.private_key("lyon")
        assert "canary" not in str(told.value)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(GinnelError):
        ring.private_key("lyon")
    (tmp_path / "file").write_text("")
    with pytest.raises(GinnelError, match="expected a directory"):
        Keyring(tmp_path / "file").check()


def test_status_names_what_is_wrong_and_exits_1(here: Path) -> None:
    done = ginnel(here, "keys", "status")
    assert done.returncode == 1
    assert done.stdout.count("missing: `ginnel keys new`") == 4
    ginnel(here, "keys", "new")
    assert ginnel(here, "keys", "status").returncode == 0
    lock = here / "network.lock.toml"
    old = lock.read_text()
    lock.write_text(old.replace('key_since = "2', 'key_since = "1', 1))
    done = ginnel(here, "keys", "status", "--max-age", "30", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["schema"] == "ginnel.keys/1"
    assert [(row["who"], row["problems"]) for row in told["keys"] if row["problems"]] == [("paris", ["older than 30 days"])]
    lock.write_text(old)
    (here / "network.keys/lyon.key").write_text(Secret.random().clamp().reveal_base64() + "\n")
    done = ginnel(here, "keys", "status")
    assert done.returncode == 1
    assert "not that of the pinned public key" in done.stdout


# ---------------------------------------------------------------- rotation


def test_a_private_key_in_two_steps(here: Path) -> None:
    ginnel(here, "keys", "new")
    lock_file, keys = here / "network.lock.toml", here / "network.keys"
    before, private = lock_file.read_text(), (keys / "lyon.key").read_bytes()

    planned = ginnel(here, "keys", "rotate", "lyon")
    assert planned.returncode == 0, planned.stderr
    assert "1  next  paris: a second peer, lyon's key to come, without prefixes" in planned.stdout
    assert "sessions: all sessions survive" in planned.stdout
    assert "2  then  lyon takes the new key" in planned.stdout
    assert "new files: lyon, paris (lyon first" in planned.stdout
    assert lock_file.read_text() == before, "a plan changes nothing"

    assert ginnel(here, "keys", "rotate", "lyon", "--do").returncode == 0
    pin = parse_lock(lock_file.read_text(), "lock").nodes["lyon"]
    coming = Secret.from_base64((keys / "lyon.next.key").read_text().strip())
    assert pin.next_key == public_key(coming)
    assert (keys / "lyon.key").read_bytes() == private
    assert ginnel(here, "keys", "status").returncode == 1, "in the middle of a rotation"

    told = json.loads(ginnel(here, "keys", "rotate", "lyon", "--json").stdout)
    assert [(step["state"], step["sessions_survive"]) for step in told["steps"]] == [("done", True), ("next", False)]

    assert ginnel(here, "keys", "rotate", "lyon", "--do").returncode == 0
    pin = parse_lock(lock_file.read_text(), "lock").nodes["lyon"]
    assert (pin.public_key, pin.next_key) == (public_key(coming), None)
    assert (keys / "lyon.key").read_text().strip() == coming.reveal_base64()
    assert not (keys / "lyon.next.key").exists()
    assert ginnel(here, "keys", "status").returncode == 0


def test_a_rotation_is_given_up(here: Path) -> None:
    ginnel(here, "keys", "new")
    before = (here / "network.lock.toml").read_text()
    refused = ginnel(here, "keys", "rotate", "lyon", "--cancel")
    assert (refused.returncode, refused.stderr) == (1, "ginnel: no rotation of lyon has begun\n")
    ginnel(here, "keys", "rotate", "lyon", "--do")
    assert ginnel(here, "keys", "rotate", "lyon", "--cancel").returncode == 0
    assert (here / "network.lock.toml").read_text() == before
    assert not (here / "network.keys/lyon.next.key").exists()


def test_the_next_key_of_a_node_that_has_its_own(here: Path) -> None:
    first, second = (public_key(Secret.random().clamp()).base64() for _ in range(2))
    ginnel(here, "keys", "new", "lyon", "--public", first)
    refused = ginnel(here, "keys", "rotate", "lyon", "--do")
    assert refused.returncode == 1
    assert "--do --public KEY" in refused.stderr
    same = ginnel(here, "keys", "rotate", "lyon", "--do", "--public", first)
    assert (same.returncode, same.stderr) == (1, "ginnel: that is the key that lyon has\n")
    assert ginnel(here, "keys", "rotate", "lyon", "--do", "--public", second).returncode == 0
    assert ginnel(here, "keys", "rotate", "lyon", "--do").returncode == 0
    assert parse_lock((here / "network.lock.toml").read_text(), "lock").nodes["lyon"].public_key.base64() == second  # type: ignore[union-attr]


def test_preshared_keys_random(here: Path) -> None:
    ginnel(here, "keys", "new")
    path = here / "network.keys/lyon+paris.psk"
    before = path.read_bytes()
    planned = ginnel(here, "keys", "rotate", "--psk", "paris", "lyon")
    assert "within 60 s of one another" in planned.stdout
    assert path.read_bytes() == before
    assert ginnel(here, "keys", "rotate", "--psk", "paris", "lyon", "--do").returncode == 0
    assert path.read_bytes() != before
    assert parse_lock((here / "network.lock.toml").read_text(), "lock").pair("lyon", "paris").generation == 2
    ipsec = here / "network.keys/brest+paris.ipsec.psk"
    before = ipsec.read_bytes()
    done = ginnel(here, "keys", "rotate", "--psk", "paris", "brest", "--do")
    assert "the SAs survive" in done.stdout
    assert ipsec.read_bytes() != before
    none = ginnel(here, "keys", "rotate", "--psk", "lyon", "brest")
    assert none.returncode == 1
    assert "has no preshared key" in none.stderr


def test_preshared_keys_derived(here: Path) -> None:
    (here / "network.toml").write_text(NETWORK.format(psk="derived"))
    ginnel(here, "keys", "new")
    names = sorted(path.name for path in (here / "network.keys").iterdir())
    assert names == [".gitignore", "brest+paris.ipsec.psk", "lyon.key", "network.secret", "paris.key"]
    root = (here / "network.keys/network.secret").read_bytes()
    assert ginnel(here, "keys", "rotate", "--psk", "paris", "lyon", "--do").returncode == 0
    assert (here / "network.keys/network.secret").read_bytes() == root
    assert parse_lock((here / "network.lock.toml").read_text(), "lock").pair("lyon", "paris").generation == 2


def test_derived_keys_differ_by_network_pair_and_generation_and_are_the_same_for_ever() -> None:
    root = Secret.from_bytes(bytes(range(32)))
    found = {
        derived_psk(root, network, pair, generation).reveal_base64()
        for network in ("acme", "acm")
        for pair in ("e+lyon+paris", "lyon+paris", "lyon+rome")
        for generation in (1, 2, 11)
    }
    assert len(found) == 18
    # HKDF of RFC 5869 with HMAC-BLAKE2s, by Python's own library.
    import hashlib
    import hmac

    extracted = hmac.new(bytes(range(32)), b"ginnel preshared key 1\0acme\0lyon+paris\x001", hashlib.blake2s).digest()
    expected = hmac.new(extracted, b"\x01", hashlib.blake2s).digest()
    assert derived_psk(root, "acme", "lyon+paris", 1) == Secret.from_bytes(expected)


def test_where_the_lock_cannot_be_kept_nothing_is_lost(here: Path) -> None:
    """A key was made, and its public half could not be pinned: the next attempt pins the same."""
    (here / "network.lock.toml").mkdir()
    assert ginnel(here, "keys", "new").returncode != 0
    (here / "network.lock.toml").rmdir()
    assert ginnel(here, "keys", "new").returncode == 0
    private = Secret.from_base64((here / "network.keys/lyon.key").read_text().strip())
    assert parse_lock((here / "network.lock.toml").read_text(), "lock").nodes["lyon"].public_key == public_key(private)
