"""
The Linux kernel in QEMU, as a machine on a bridge in a namespace of its own.

`Guest.boot` starts what scripts/kernel-guest builds and waits for its first word; `run` executes shell in it, one script at
a time, over a virtio-serial port (the protocol is described there). One guest serves a whole test session: tests join their
namespaces to its bridge by a veth pair, and take down what they configured.

The guest sees this machine's files read-only (virtiofs, mounted there when `host` is first called), so that ginnel itself, the
very one under test, runs beside a kernel that has WireGuard and GRE. `load` gives it further modules.
"""

from __future__ import annotations

import json
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namespaces import CommandFailed, Link, Namespace, Net, run, wait_until

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "kernel-guest"
#: What runs the tests; it may lie anywhere.
OURS = [ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
BOOT_S = 60.0
#: Part of Debian 12's qemu-system-common.
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
#: Serves / and the paths "$4"... (which may lie on other file systems), put together at "$2" by read-only mounts that nobody else
#: sees, to QEMU at the socket "$3"; "$1" is the server.
SHARE = """
set -e
server=$1 top=$2 socket=$3; shift 3
mount --bind / "$top"
mount -o remount,bind,ro "$top"
for other; do
    mount --bind "$other" "$top$other"
    mount -o remount,bind,ro "$top$other"
done
exec "$server" --socket-path="$socket" -o "source=$top" -o cache=always -o sandbox=namespace
"""


def share(space: Namespace, directory: Path, log: Any) -> tuple[subprocess.Popen[Any], list[str]]:
    """A process that serves this machine's files, read-only, and what makes QEMU use it."""
    top, path = directory / "root", directory / "files"
    top.mkdir()
    process = space.popen(
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", SHARE, "share"),
        *(VIRTIOFSD, str(top), str(path), *map(str, OURS)),
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    wait_until(lambda: path.exists() or process.poll() is not None, 10, "virtiofsd's socket")
    if process.poll() is not None:
        raise AssertionError(f"virtiofsd ended with {process.returncode}")
    return process, ["-chardev", f"socket,id=files,path={path}", "-device", "vhost-user-fs-pci,chardev=files,tag=host"]


@dataclass(slots=True)
class Guest:
    """A booted guest; its network card is eth0, on *bridge* in *space*."""

    net: Net
    space: Namespace
    bridge: str
    process: subprocess.Popen[Any]
    files: subprocess.Popen[Any]
    channel: socket.socket
    directory: tempfile.TemporaryDirectory[str]

    @classmethod
    def boot(cls, net: Net) -> Guest:
        """Build if needed, start, and wait until the guest answers."""
        command: list[str] = json.loads(run([str(SCRIPT), "command"], timeout_s=300))
        space = net.namespace("guest")
        tap, bridge = "tap0", "br0"
        space.ip("link", "add", bridge, "type", "bridge")
        space.ip("tuntap", "add", tap, "mode", "tap")
        for name in (tap, bridge):
            space.ip("link", "set", name, "up")
        space.ip("link", "set", tap, "master", bridge)
        directory = tempfile.TemporaryDirectory(prefix="ginnel-guest-")
        path = Path(directory.name, "shell")
        with Path(directory.name, "console").open("wb") as console, Path(directory.name, "files.log").open("wb") as log:
            files, sharing = share(space, Path(directory.name), log)
            process = space.popen(
                *command,
                *sharing,
                *("-netdev", f"tap,id=net0,ifname={tap},script=no,downscript=no"),
                *("-device", "virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01"),
                *("-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,path={path},server=on,wait=off"),
                *("-device", "virtserialport,chardev=shell,name=ginnel.shell"),
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
            )  # fmt: skip
        channel = socket.socket(socket.AF_UNIX)
        guest = cls(net, space, bridge, process, files, channel, directory)

        def connected() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"qemu ended: {guest.console()}")
            return path.exists() and channel.connect_ex(str(path)) == 0

        wait_until(connected, 10, "qemu's channel")
        code, _ = guest._answer(BOOT_S)
        assert code == 0
        assert "GUEST-FAILED" not in guest.console(), guest.console()
        guest.run("ip", "link", "set", "eth0", "up")
        return guest

    def console(self) -> str:
        """What the guest printed on its console."""
        return Path(self.directory.name, "console").read_text(errors="replace")

    def shell(self, script: str, *, check: bool = True, timeout_s: float = 60.0) -> str:
        """Run a shell script in the guest; stdout and stderr together. CommandFailed when *check* and it fails."""
        raw = script.encode()
        self.channel.sendall(b"%d\n" % len(raw) + raw)
        code, text = self._answer(timeout_s)
        if check and code:
            raise CommandFailed(f"guest: {script[:400]}: exit {code}\n{text}")
        return text

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """Run one command in the guest."""
        return self.shell(shlex.join(argv), check=check, timeout_s=timeout_s)

    def load(self, *modules: str) -> None:
        """Modules of the script's ON_DEMAND, unless they are there."""
        self.shell(shlex.join(["load", *modules]))

    def unload(self, module: str) -> None:
        """The kernel without *module*, whoever loaded it before."""
        self.shell(f"if grep -q ^{shlex.quote(module)}' ' /proc/modules; then rmmod {shlex.quote(module)}; fi")

    def host(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """Run one of this machine's own programs in the guest; /run and /tmp are the guest's own, but for the checkout itself."""
        return self.shell(
            f"HOST_KEPT={shlex.quote(' '.join(map(str, OURS)))}; {shlex.join(['host', *argv])}", check=check, timeout_s=timeout_s
        )

    def join(self, space: Namespace, addresses: list[str]) -> Link:
        """A veth pair from *space*, which gets *addresses*, to the guest's bridge."""
        link = self.net.veth(space, self.space, addresses)
        self.space.ip("link", "set", link.right, "master", self.bridge)
        return link

    def close(self) -> None:
        """The guest is gone; its namespace belongs to the net."""
        self.channel.close()
        self.process.kill()
        self.process.wait(timeout=10)
        self.files.wait(timeout=10)
        self.directory.cleanup()

    def _answer(self, timeout_s: float) -> tuple[int, str]:
        deadline = time.monotonic() + timeout_s
        head = b""
        while not head.endswith(b"\n"):
            head += self._read(1, deadline)
        code, size = map(int, head.split())
        body = b""
        while len(body) < size:
            body += self._read(size - len(body), deadline)
        return code, body.decode(errors="replace")

    def _read(self, size: int, deadline: float) -> bytes:
        ready, _, _ = select.select([self.channel], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"the guest does not answer; its console: {self.console()[-2000:]}")
        data = self.channel.recv(size)
        if not data:
            raise AssertionError(f"the guest ended; its console: {self.console()[-2000:]}")
        return data
