"""
Name servers of a tunnel, by whatever this host has.

    resolvconf   Debian's, openresolv, or resolvectl under that name: exactly wg-quick's call, `resolvconf -a [PREFIX]IF -m 0 -x`
    resolvectl   systemd-resolved without that name: the same in its own words
    file         neither (containers): /etc/resolv.conf itself is rewritten, which is said loudly

With `file`, the old text is in a backup beside the record before the file is touched, and the new text says whose it is. So after
a crash at any point, removal restores the old text if and only if the file is still ours. The file may be a mount of its own (it
is, in containers), so it is written in place where it cannot be replaced. When two tunnels are stacked and the lower one goes
first, it hands its backup to the upper one.

Source: wg-quick(8), resolvconf(8), resolvectl(1).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ginnel.errors import GinnelError

Method = dict[str, str]

_ORDER = re.compile(r"([A-Za-z0-9-]+)\*")
_BACKUP_SUFFIX = ".resolv.conf"


class SystemResolver:
    """`host.Resolver`; the paths are arguments for the tests."""

    def __init__(self, run_dir: Path, etc: Path = Path("/etc")) -> None:
        self._run_dir = run_dir
        self._etc = etc

    def choose(self, interface: str) -> Method:
        """See `host.Resolver`."""
        found = shutil.which("resolvconf")
        if found is not None:
            return {"kind": "resolvconf", "key": f"{self._prefix(Path(found))}{interface}"}
        if shutil.which("resolvectl") is not None and Path("/run/systemd/resolve").is_dir():
            return {"kind": "resolvectl", "interface": interface}
        backup = self._run_dir / f"{interface}{_BACKUP_SUFFIX}"
        return {"kind": "file", "interface": interface, "path": str(self._etc / "resolv.conf"), "backup": str(backup)}

    def _prefix(self, resolvconf: Path) -> str:
        """Debian's resolvconf orders by name: ours has to look like one of those that it puts first."""
        if resolvconf.is_symlink() and resolvconf.resolve().name == "resolvectl":
            return ""
        try:
            lines = (self._etc / "resolvconf" / "interface-order").read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((f"{found[1]}." for line in lines if (found := _ORDER.fullmatch(line.strip()))), "")

    def words(self, method: Method, servers: Sequence[str], search: Sequence[str]) -> list[str]:
        """See `host.Resolver`."""
        match method["kind"]:
            case "resolvconf":
                return [f"resolvconf -a {method['key']} -m 0 -x"]
            case "resolvectl":
                return [" && ".join(" ".join(command) for command in _resolvectl(method["interface"], servers, search))]
            case _:
                path = method["path"]
                loud = f"neither resolvconf nor systemd-resolved is here: {path} itself is rewritten until `down`"
                return [f"write {path}", f"{loud}, and its old text waits in {method['backup']}"]

    def install(self, method: Method, servers: Sequence[str], search: Sequence[str]) -> None:
        """See `host.Resolver`."""
        lines = [f"nameserver {server}\n" for server in servers] + ([f"search {' '.join(search)}\n"] if search else [])
        match method["kind"]:
            case "resolvconf":
                _run(["resolvconf", "-a", method["key"], "-m", "0", "-x"], "".join(lines))
            case "resolvectl":
                for command in _resolvectl(method["interface"], servers, search):
                    _run(command)
            case _:
                self._install_file(method, "".join(lines))

    def remove_words(self, method: Method) -> str:
        """See `host.Resolver`."""
        match method["kind"]:
            case "resolvconf":
                return f"resolvconf -d {method['key']} -f"
            case "resolvectl":
                return f"resolvectl revert {method['interface']}"
            case _:
                return f"restore {method['path']}"

    def remove(self, method: Method) -> None:
        """See `host.Resolver`."""
        match method["kind"]:
            case "resolvconf":
                _run(["resolvconf", "-d", method["key"], "-f"])
            case "resolvectl":
                # The link may be gone already, and its servers with it.
                _run(["resolvectl", "revert", method["interface"]], may_fail=True)
            case _:
                self._remove_file(method)

    # -- the file

    def _install_file(self, method: Method, text: str) -> None:
        path, backup = Path(method["path"]), Path(method["backup"])
        try:
            old = path.read_bytes() if path.exists() else b""
            _replace(backup, old)
            _write(path, _marker(method["interface"]) + text.encode())
        except OSError as error:
            raise GinnelError(
                f"write {path}: {error.strerror}\n  hint: install resolvconf, or leave DNS out of the file"
            ) from None

    def _remove_file(self, method: Method) -> None:
        path, backup = Path(method["path"]), Path(method["backup"])
        try:
            old = backup.read_bytes()
        except FileNotFoundError:
            return  # installation never came so far
        mark = _marker(method["interface"])
        try:
            if path.exists() and path.read_bytes().startswith(mark):
                _write(path, old)
            else:
                for other in self._run_dir.glob(f"*{_BACKUP_SUFFIX}"):
                    if other != backup and other.read_bytes().startswith(mark):
                        _replace(other, old)
            backup.unlink()
        except OSError as error:
            raise GinnelError(f"restore {path}: {error.strerror}\n  hint: its old text is in {backup}") from None


def _marker(interface: str) -> bytes:
    return f"# Written by ginnel for {interface}; `ginnel down {interface}` restores what was here.\n".encode()


def _resolvectl(interface: str, servers: Sequence[str], search: Sequence[str]) -> list[list[str]]:
    """`~.` sends every name here, which is what `resolvconf -x` means."""
    return [["resolvectl", "dns", interface, *servers], ["resolvectl", "domain", interface, *search, "~."]]


def _replace(path: Path, content: bytes) -> None:
    """Write a file of ours as a whole or not at all, for root alone."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _write(path: Path, content: bytes) -> None:
    """Replace a system file at once where that is possible, else in place; links are followed, mode and owner kept."""
    target = path.resolve()
    try:
        mode = target.stat().st_mode & 0o7777
    except FileNotFoundError:
        mode = 0o644
    fresh = target.with_name(f".{target.name}.ginnel")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        fresh.replace(target)
    except OSError:
        # A mount point cannot be replaced (EBUSY), a read-only directory cannot hold a new file: in place, then.
        with contextlib.suppress(OSError):
            fresh.unlink()
        target.write_bytes(content)


def _run(command: list[str], text: str = "", *, may_fail: bool = False) -> None:
    """Run with stderr as ours: these programs say on it what an operator should see."""
    done = subprocess.run(command, input=text, text=True, check=False, stdout=subprocess.DEVNULL)
    if done.returncode != 0 and not may_fail:
        raise GinnelError(f"{' '.join(command)}: ended with {done.returncode}")
