"""
strongSwan 5.9.8 as a peer: charon-systemd with a configuration, a socket and a log of its own, in a namespace or in the guest.

`Charon.start` writes strongswan.conf and starts the daemon; `load` writes swanctl.conf from nested Python values, with
certificates and keys beside it, and loads it; `initiate`, `rekey_child`, `rekey_ike`, `terminate` and `associations` are
swanctl's commands. Nothing of the host's own configuration is read, and any number of them run beside each other.

Two places, two kernels' ends of ESP:

- in a namespace (`InNamespace`): plugin kernel-libipsec, ESP in user space, since the machine's kernel may have none.
  kernel-netlink is loaded behind it, for addresses and routes.
- in the guest (`InGuest`): kernel-netlink alone, ESP in Linux.

What was found by running it (5.9.8-5+deb12u6):

- `load` in the daemon's own section is the whole list of plugins; the `load = no` of the packaged kernel-libipsec.conf
  plays no part, because that file is not included.
- The socket of vici must lie in a path shorter than 108 bytes.
- swanctl looks for x509, x509ca, x509crl, private, pubkey beside the file given by --file, and complains of each that is missing.
- libipsec's device is `ipsec0`, MTU 1400; a route in table 220 for each remote selector points there, with the source
  address that the host has within the local one. Rule 220 lets packets with charon's own mark pass by.
- libipsec: tunnel mode, UDP, no ESN; the replay window is 128. Its `query_sa` works (packets, bytes), use-in and use-out stay 0.
- life_time is 10 % above rekey_time, and rekey_time loses a random part up to that.
- libipsec under load: whoever sends faster than it reads fills the buffer of charon's socket (one in eight packets lost at
  280 Mb/s; RcvbufErrors of /proc/net/snmp tells how many); what it reads it takes.
- Rekeying the IKE SA to another PRF: it expands the new keys with the old SA's PRF, where RFC 7296 2.18 has the new one's.
- A child that was deleted is kept for five seconds; one whose IKE SA is rekeyed meanwhile stays for ever, in state DELETED.
- With strongSwan at both ends and a busy machine, one ping of 1,500 was lost over fifteen rekeyings.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from namespaces import CommandFailed, Namespace, wait_until
from peers.guest import Guest

DAEMON = "/usr/sbin/charon-systemd"
PLUGINS = (
    "random nonce openssl pem pkcs1 pkcs8 x509 pubkey revocation constraints kdf hmac sha1 sha2 aes gcm chapoly curve25519"
    " {kernel} socket-default vici updown"
)
#: On charon's own packets, which must not go into its own tunnels.
MARK = "0x42"
#: Directories beside swanctl.conf.
CREDENTIALS = (
    "x509",
    "x509ca",
    "x509aa",
    "x509ac",
    "x509ocsp",
    "x509crl",
    "private",
    "pubkey",
    "rsa",
    "ecdsa",
    "pkcs8",
    "pkcs12",
    "bliss",
)
#: How long a command of swanctl may wait for what it asked for.
PATIENCE_S = 30.0


Value = str | int | bool | Sequence[str] | Mapping[str, "Value"]


def settings(values: Mapping[str, Value], indent: str = "") -> str:
    """strongSwan's configuration syntax: sections are mappings, lists are joined by commas."""
    lines: list[str] = []
    for key, value in values.items():
        match value:
            case Mapping():
                lines.append(f"{indent}{key} {{\n{settings(value, indent + '  ')}{indent}}}\n")
            case bool():
                lines.append(f"{indent}{key} = {'yes' if value else 'no'}\n")
            case str() | int():
                lines.append(f'{indent}{key} = "{value}"\n')
            case _:
                lines.append(f'{indent}{key} = "{", ".join(value)}"\n')
    return "".join(lines)


_LIST = r"\[(?P<list>(?:[^\[\]]|\[[^\]]*\])*)\]"
_WORD = r"(?P<value>.*?)(?=\}| [a-z0-9-]+=| \S+ \{)"
_TOKEN = re.compile(rf"(?P<open>[^\s={{}}\[\]]+) \{{|(?P<key>[a-z0-9-]+)=(?:{_LIST}|{_WORD})|\}}")


def parsed(raw: str) -> dict[str, Any]:
    """
    One event of `swanctl --raw`: `{peer {state=... child-sas {net-1 {...}}}}`, as nested dictionaries.

    Keys are strongSwan's, all small letters; a value ends where the next begins, so that names such as "C=CH, CN=moon" are whole.
    """
    top: dict[str, Any] = {}
    stack = [top]
    for found in _TOKEN.finditer(raw.removeprefix("{").removesuffix("}")):
        if found["open"]:
            inner: dict[str, Any] = {}
            stack[-1][found["open"]] = inner
            stack.append(inner)
        elif found["key"]:
            stack[-1][found["key"]] = found["value"] if found["list"] is None else found["list"].split()
        else:
            stack.pop()
    return top


# ---------------------------------------------------------------- where it runs


class Place(Protocol):
    """Somewhere with a network and files of its own."""

    #: The IPsec backend there, as plugins of charon.
    kernel: str

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str: ...
    def write(self, path: str, content: bytes, mode: int = 0o644) -> None: ...
    def read(self, path: str) -> str: ...
    def start(self, argv: Sequence[str], log: str) -> int:
        """In the background, output to *log*; the process id there."""

    def signal(self, pid: int, name: str) -> None:
        """Send a signal ("TERM", "KILL") and wait until the process is gone."""


@dataclass(slots=True)
class InNamespace:
    """A network namespace of this machine."""

    space: Namespace
    kernel: str = "kernel-libipsec kernel-netlink"
    processes: dict[int, subprocess.Popen[Any]] = field(default_factory=dict)

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """A command in the namespace."""
        return self.space.run(*argv, check=check, timeout_s=timeout_s)

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A file, its directories made."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)
        Path(path).chmod(mode)

    def read(self, path: str) -> str:
        """A file's text."""
        return Path(path).read_text(errors="replace")

    def start(self, argv: Sequence[str], log: str) -> int:
        """`ip netns exec` becomes the command, so that its id is the command's."""
        with Path(log).open("ab") as output:
            process = self.space.popen(*argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.processes[process.pid] = process
        return process.pid

    def signal(self, pid: int, name: str) -> None:
        """End a process of `start`."""
        process = self.processes.pop(pid)
        process.send_signal(getattr(signal, f"SIG{name}"))
        process.wait(timeout=20)


@dataclass(slots=True)
class InGuest:
    """This machine's own programs on the guest's kernel; *space* is a namespace inside the guest, "" its own network."""

    guest: Guest
    space: str = ""
    kernel: str = "kernel-netlink"

    def run(self, *argv: str, check: bool = True, timeout_s: float = 60.0) -> str:
        """A command there."""
        return self.guest.shell(self._line(argv), check=check, timeout_s=timeout_s)

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A small file in the guest's own /tmp or /run."""
        seen = shlex.quote("/host" + path)
        self.guest.host("true")
        self.guest.shell(
            f"mkdir -p $(dirname {seen}); base64 -d > {seen} <<'END'\n{b64encode(content).decode()}\nEND\nchmod {mode:o} {seen}"
        )

    def read(self, path: str) -> str:
        """A file's text."""
        return self.guest.shell(f"cat {shlex.quote('/host' + path)}")

    def start(self, argv: Sequence[str], log: str) -> int:
        """In the background of the guest's shell."""
        self.guest.host("true")
        return int(self.guest.shell(f"{self._line(argv)} >> {shlex.quote('/host' + log)} 2>&1 < /dev/null & echo $!"))

    def signal(self, pid: int, name: str) -> None:
        """End it, and wait until it is gone."""
        self.guest.shell(f"kill -{name} {pid}")
        self.guest.shell(f"for i in $(seq 100); do kill -0 {pid} 2>/dev/null || exit 0; sleep 0.1; done; exit 1")

    def _line(self, argv: Sequence[str]) -> str:
        # The namespace is the guest's own: it is entered before the guest's files are left.
        inside = ["ip", "netns", "exec", self.space] if self.space else []
        return f"PATH=$PATH:/usr/sbin:/usr/bin:/sbin; {shlex.join([*inside, 'chroot', '/host', *argv])}"


# ---------------------------------------------------------------- the daemon


@dataclass(slots=True)
class Charon:
    """A daemon of strongSwan. *options*: further values of its own section (`cookie_threshold`, `retransmit_timeout`)."""

    place: Place
    directory: str
    pid: int = 0
    temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def start(cls, place: Place, options: Mapping[str, Value] | None = None) -> Charon:
        """Start it, and wait until it answers."""
        temporary = tempfile.TemporaryDirectory(prefix="swan-")
        charon = cls(place, temporary.name, temporary=temporary)
        plugins: dict[str, Value] = {"vici": {"socket": f"unix://{charon.directory}/vici"}}
        if "libipsec" in place.kernel:
            plugins["kernel-libipsec"] = {"allow_peer_ts": True}
            plugins["kernel-netlink"] = {"fwmark": f"!{MARK}"}
            plugins["socket-default"] = {"fwmark": MARK}
        levels: Value = {"default": 1, "ike": 2, "cfg": 2, "esp": 1, "knl": 1, "net": 1, "enc": 1, "flush_line": True}
        daemon: dict[str, Value] = {
            "load": PLUGINS.format(kernel=place.kernel), "plugins": plugins, "filelog": {"stderr": levels},
            "syslog": {"daemon": {"default": -1}, "auth": {"default": -1}}, "install_virtual_ip": False,
            **(options or {}),
        }  # fmt: skip
        place.write(f"{charon.directory}/strongswan.conf", settings({"charon-systemd": daemon}).encode())
        charon.again()
        return charon

    def again(self) -> None:
        """Start it (again, after `stop` or `kill`): it remembers nothing, `load` is to be called."""
        environment = ["env", f"STRONGSWAN_CONF={self.directory}/strongswan.conf"]
        self.place.run("rm", "-f", f"{self.directory}/vici")
        self.pid = self.place.start([*environment, DAEMON], f"{self.directory}/log")
        try:
            wait_until(lambda: self.ask("--stats", check=False).startswith("uptime"), PATIENCE_S, "an answer of charon")
        except AssertionError as silence:
            raise AssertionError(f"{silence}\n{self.said()[-4000:]}") from None

    def load(
        self,
        connections: Mapping[str, Value],
        secrets: Mapping[str, Value] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """
        Load this instead of what there was.

        files: what lies beside swanctl.conf, by its path there ("x509/moon.pem", "private/moon.pem").
        """
        for path, content in (files or {}).items():
            self.place.write(f"{self.directory}/{path}", content, 0o600)
        self.load_text(settings({"connections": connections, "secrets": secrets or {}}))

    def load_text(self, text: str) -> None:
        """The same from swanctl.conf as it is written."""
        self.place.run("mkdir", "-p", *(f"{self.directory}/{name}" for name in CREDENTIALS))
        self.place.write(f"{self.directory}/swanctl.conf", text.encode(), 0o600)
        self.ask("--load-all", "--clear", "--file", f"{self.directory}/swanctl.conf")

    def initiate(self, child: str, *, check: bool = True, within_s: float = PATIENCE_S) -> str:
        """Establish a child, and its IKE SA; what was said. CommandFailed when *check* and it fails."""
        return self.ask("--initiate", "--child", child, "--timeout", str(int(within_s)), check=check)

    def rekey_child(self, child: str) -> None:
        """Rekey it now; does not wait."""
        self.ask("--rekey", "--child", child)

    def rekey_ike(self, name: str) -> None:
        """Rekey the IKE SA now; does not wait."""
        self.ask("--rekey", "--ike", name)

    def terminate(self, name: str, *, force: bool = False) -> None:
        """Close the IKE SA, and wait until the peer has answered."""
        self.ask("--terminate", "--ike", name, "--timeout", str(int(PATIENCE_S)), *(["--force"] if force else []))

    def associations(self) -> list[dict[str, Any]]:
        """
        Its IKE SAs, each with strongSwan's keys, `name` added, and `children`: a list of the same.

        Numbers are text as strongSwan prints them.
        """
        found: list[dict[str, Any]] = []
        for line in self.ask("--list-sas", "--raw").splitlines():
            if line.startswith("list-sa event "):
                for name, one in parsed(line.removeprefix("list-sa event ")).items():
                    found.append({**one, "name": name, "children": list(one.get("child-sas", {}).values())})
        return found

    def children(self, name: str = "") -> list[dict[str, Any]]:
        """Installed children of all IKE SAs (of connection *name*)."""
        return [
            child
            for one in self.associations() if not name or one["name"] == name
            for child in one["children"] if child["state"] == "INSTALLED"
        ]  # fmt: skip

    def ask(self, *argv: str, check: bool = True) -> str:
        """One command of swanctl; its output, errors at the end."""
        line = shlex.join(["swanctl", *argv, "--uri", f"unix://{self.directory}/vici"])
        return self.place.run("sh", "-c", f"{line} 2>&1", check=check, timeout_s=PATIENCE_S + 30)

    def said(self) -> str:
        """Its log."""
        return self.place.read(f"{self.directory}/log")

    def stop(self) -> None:
        """End it as its service would: it tells its peers. Idempotent."""
        if self.pid:
            pid, self.pid = self.pid, 0
            self.place.signal(pid, "TERM")

    def kill(self) -> None:
        """As a power failure would."""
        pid, self.pid = self.pid, 0
        self.place.signal(pid, "KILL")

    def close(self, keep: str | None = None) -> None:
        """It is gone; *keep*: where its log is put."""
        if keep:
            Path(keep).write_text(self.said())
        self.stop()
        if self.temporary:
            self.temporary.cleanup()


def child(local_ts: str, remote_ts: str, **options: Value) -> dict[str, Value]:
    """One child's section; rekeyed only when told to."""
    return {
        "mode": "tunnel", "local_ts": local_ts, "remote_ts": remote_ts, "esp_proposals": "aes256gcm16-noesn",
        "rekey_time": "0s", "start_action": "none", "dpd_action": "clear", **options,
    }  # fmt: skip


def connection(
    local: str, remote: str, local_auth: Mapping[str, Value], remote_auth: Mapping[str, Value],
    children: Mapping[str, Value], **options: Value,
) -> dict[str, Value]:  # fmt: skip
    """One connection's section; rekeyed only when told to."""
    return {
        "version": 2, "mobike": False, "local_addrs": local, "remote_addrs": remote, "proposals": "aes256gcm16-prfsha256-x25519",
        "rekey_time": "0s", "local": local_auth, "remote": remote_auth, "children": children, **options,
    }  # fmt: skip


def psk(identity: str) -> dict[str, Value]:
    """Authentication by a shared secret."""
    return {"auth": "psk", "id": identity}


def secret(text: str, *identities: str) -> dict[str, Value]:
    """A shared secret of these identities, for `secrets` under a name that begins with "ike"."""
    return {"secret": text, **{f"id-{number}": one for number, one in enumerate(identities)}}


def installed(charon: Charon, name: str = "", count: int = 1, within_s: float = PATIENCE_S) -> list[dict[str, Any]]:
    """Wait until there are so many installed children; they. AssertionError with the log's end otherwise."""
    try:
        return wait_until(
            lambda: (found := charon.children(name)) and len(found) == count and found, within_s, f"{count} children"
        )
    except AssertionError as missing:
        raise AssertionError(f"{missing}\n{charon.said()[-6000:]}") from None


def failed(charon: Charon, child: str) -> str:
    """Initiate what must not succeed; what swanctl said."""
    try:
        text = charon.initiate(child)
    except CommandFailed as failure:
        return str(failure)
    raise AssertionError(f"{child} came up:\n{text}")
