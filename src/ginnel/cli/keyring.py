"""
The directory in which the secrets of a network lie, where they are not born on the nodes: beside the network file, never in git.

    network.keys/                mode 0700, with a .gitignore that ignores all of it
      NODE.key                   private key of a node's WireGuard interface, base64, as `wg genkey` prints it
      NODE.next.key              the same while it waits for its turn (`ginnel keys rotate`)
      A+B.psk                    preshared key of the WireGuard link between A and B, their names in order; `psk = "random"`
      A+B.ipsec.psk              the secret of the IPsec link between them
      network.secret             of what preshared keys are derived, `psk = "derived"`

Every file is 0600 and written as a whole. A directory or a file that others can read is refused, not read: what was readable
once is known. Derived keys are never stored: one of them is a function of the secret, the pair's name in the lock file and its
generation.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ginnel.cli.files import write_secret
from ginnel.crypto import Secret, generate_private_key, kdf1
from ginnel.errors import GinnelError
from ginnel.network import Lock, NodeDescription
from ginnel.network.render import Secrets

#: A file of one key has 45 bytes; nothing here is long.
MAX_BYTES = 4096
_ROOT_FILE = "network.secret"
#: What the files of one node, and those of a pair, end in.
_ENDINGS = {1: (".key", ".next.key"), 2: (".psk", ".ipsec.psk")}


def beside(network_file: Path) -> Path:
    """Where the keys of a network lie unless somebody says otherwise: network.toml has network.keys, and so has a directory."""
    return network_file / "network.keys" if network_file.is_dir() else network_file.with_suffix(".keys")


def pair(left: str, right: str) -> str:
    """What the files of a link are called after; no node's name has a `+`."""
    return "+".join(sorted((left, right)))


@dataclass(frozen=True, slots=True)
class Keyring:
    """The directory; it need not be there until something is written."""

    directory: Path

    def check(self) -> None:
        """GinnelError when others can read the directory or one of its files."""
        if not self.directory.exists():
            return
        if not self.directory.is_dir():
            raise GinnelError(f"{self.directory}: expected a directory of keys, found a file")
        for path in (self.directory, *sorted(self._files())):
            self._alone(path, path.stat(follow_symlinks=False).st_mode)

    def _alone(self, path: Path, mode: int) -> None:
        if mode & 0o077:
            right = "700" if path == self.directory else "600"
            raise GinnelError(
                f"{path}: others can read it (mode {stat.S_IMODE(mode):04o}), and it is for secrets\n"
                f"  hint: chmod {right} {path}; if somebody was there, `ginnel keys rotate`"
            )

    def private_key(self, node: str, *, following: bool = False) -> Secret | None:
        """The private key of a node (following: the one that waits for its turn); None where it is not here."""
        return self._key(f"{node}.next.key" if following else f"{node}.key")

    def psk(self, left: str, right: str) -> Secret | None:
        """The stored preshared key of a WireGuard link."""
        return self._key(f"{pair(left, right)}.psk")

    def ipsec(self, left: str, right: str) -> str | None:
        """The secret of an IPsec link, as its file has it."""
        text = self._read(f"{pair(left, right)}.ipsec.psk")
        return None if text is None else text.strip()

    def root(self) -> Secret | None:
        """Of what preshared keys are derived."""
        return self._key(_ROOT_FILE)

    def secrets(self, description: NodeDescription, lock: Lock) -> Secrets:
        """
        The secrets that one node's files need, as far as they are here: stored ones, and derived ones where there is their root.

        Raises:
            GinnelError: others can read a file that is read here, or it is no key. `check` looks at the others, once.
        """
        node = description.name
        private = self.private_key(node)
        root = self.root()

        def psk(peer: str) -> Secret | None:
            stored = self.psk(node, peer)
            if stored is not None or root is None:
                return stored
            pin = lock.pair(node, peer)
            return derived_psk(root, description.network, pin.identity, pin.generation)

        preshared = {peer.name: psk(peer.name) for peer in description.peers if peer.psk}
        ipsec = {tunnel.peer: self.ipsec(node, tunnel.peer) for tunnel in description.tunnels if tunnel.config.ipsec is not None}
        return Secrets(
            private_key="" if private is None else private.reveal_base64(),
            psk={name: secret.reveal_base64() for name, secret in preshared.items() if secret is not None},
            ipsec={name: text for name, text in ipsec.items() if text is not None},
        )

    def new_private_key(self, node: str, *, following: bool = False) -> Secret:
        """Make one and keep it; GinnelError where there is one already."""
        return self._make(f"{node}.next.key" if following else f"{node}.key", generate_private_key())

    def new_psk(self, left: str, right: str, *, replace: bool = False) -> Secret:
        """Make the preshared key of a WireGuard link, and keep it."""
        return self._make(f"{pair(left, right)}.psk", Secret.random(), replace=replace)

    def new_ipsec(self, left: str, right: str, *, replace: bool = False) -> None:
        """Make the secret of an IPsec link, and keep it."""
        self._make(f"{pair(left, right)}.ipsec.psk", Secret.random(), replace=replace)

    def new_root(self) -> Secret:
        """Make that of which preshared keys are derived, and keep it."""
        return self._make(_ROOT_FILE, Secret.random())

    def promote(self, node: str) -> None:
        """The key that waited is the node's key now; the one before is gone."""
        waiting = self.directory / f"{node}.next.key"
        try:
            waiting.replace(self.directory / f"{node}.key")
        except OSError as error:
            raise GinnelError(f"{waiting}: {error.strerror}") from None

    def renames(self, old: str, new: str) -> list[tuple[Path, Path]]:
        """
        What the files of the node *old* are to be called after *new*: each file, and its new path.

        Raises:
            GinnelError: a file of that name is there already.
        """
        if not self.directory.exists():
            return []
        self.check()
        moves: list[tuple[Path, Path]] = []
        for path in sorted(self._files()):
            stem, dot, ending = path.name.partition(".")
            ends = stem.split("+")
            if old in ends and f"{dot}{ending}" in _ENDINGS.get(len(ends), ()):
                fresh = "+".join(sorted(new if end == old else end for end in ends))
                moves.append((path, path.with_name(f"{fresh}{dot}{ending}")))
        for _, target in moves:
            if target.exists():
                raise GinnelError(f"{target}: exists already, and a key must not be lost")
        return moves

    def drop(self, names: Iterable[str]) -> None:
        """Remove files by name; those that are not there are no matter."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self.directory / name).unlink()

    def _files(self) -> Iterator[Path]:
        return (path for path in self.directory.iterdir() if path.name != ".gitignore")

    def _make(self, name: str, secret: Secret, *, replace: bool = False) -> Secret:
        path = self.directory / name
        if path.exists() and not replace:
            raise GinnelError(f"{path} exists, and a key that is in use must not be lost\n  hint: `ginnel keys rotate`")
        self._prepare()
        write_secret(path, secret.reveal_base64() + "\n")
        return secret

    def _prepare(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            ignore = self.directory / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
                ignore.chmod(0o600)
        except OSError as error:
            raise GinnelError(f"{self.directory}: {error.strerror}") from None
        self.check()

    def _key(self, name: str) -> Secret | None:
        text = self._read(name)
        if text is None:
            return None
        try:
            return Secret.from_base64(text.strip())
        except ValueError:
            raise GinnelError(f"{self.directory / name}: expected a key of 44 base64 characters") from None

    def _read(self, name: str) -> str | None:
        path = self.directory / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GinnelError(f"{path}: {error.strerror}") from None
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise GinnelError(f"{path}: expected a file of a key, found something else")
            self._alone(path, mode)
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise GinnelError(f"{path}: expected a key, found more than {MAX_BYTES} bytes")
        try:
            return raw.decode("ascii")
        except UnicodeDecodeError:
            raise GinnelError(f"{path}: expected a key of 44 base64 characters") from None


def derived_psk(root: Secret, network: str, identity: str, generation: int) -> Secret:
    """
    The preshared key of one pair, from the network's secret.

    Args:
        identity: what the lock file calls the pair: it stays when a node is renamed.
        generation: rises when the key is rotated.
    """
    return kdf1(root, f"ginnel preshared key 1\0{network}\0{identity}\0{generation}".encode())
