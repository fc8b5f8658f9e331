"""
A host of its own for tests of `up` and `down`: network and mount namespaces, a private /run, /etc and /etc/wireguard.

What runs in it sees the real programs and the real kernel, and nothing it does is seen outside. `snapshot` is what must be equal:
before and after, or between wg-quick and ginnel.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namespaces import Namespace, Net, wait_until

ROOT = Path(__file__).resolve().parent.parent
GINNEL = [sys.executable, "-P", "-m", "ginnel.cli.main"]

_PRIVATE = r"""
set -e
mount --make-rprivate /
mkdir -p /run/netns
mount -t tmpfs tmpfs /run
mkdir -p /run/wireguard /run/netns
cp -a /etc /run/etc
mkdir -p /run/etc/wireguard
chmod 700 /run/etc/wireguard
rm -f /run/etc/resolv.conf
echo 'nameserver 192.0.2.53' > /run/etc/resolv.conf
mount --bind /run/etc /etc
touch /run/ready
exec sleep infinity
"""


@dataclass(slots=True)
class World:
    """One such host; `path` turns a path inside into one outside."""

    space: Namespace
    holder: int

    @classmethod
    def create(cls, net: Net) -> World:
        """A host at 192.0.2.1 and 2001:db8::1 whose default routes lead to 192.0.2.2 and 2001:db8::2."""
        here, far = net.namespace("host"), net.namespace("far")
        link = net.veth(here, far, [], ["192.0.2.2/24", "2001:db8::2/64"])
        here.ip("link", "set", "dev", link.left, "down")
        here.ip("link", "set", "dev", link.left, "name", "eth0")
        here.ip("address", "add", "192.0.2.1/24", "dev", "eth0")
        here.ip("link", "set", "dev", "eth0", "up")
        here.ip("address", "add", "2001:db8::1/64", "dev", "eth0")
        here.ip("route", "add", "default", "via", "192.0.2.2", "dev", "eth0")
        here.ip("-6", "route", "add", "default", "via", "2001:db8::2", "dev", "eth0")
        return cls.around(here)

    @classmethod
    def around(cls, here: Namespace) -> World:
        """A host in a namespace that is there already: a private /run and /etc."""
        process = here.popen("unshare", "--mount", "bash", "-c", _PRIVATE, stdin=subprocess.DEVNULL)
        world = cls(here, process.pid)
        wait_until(lambda: process.poll() is not None or world.path("/run/ready").exists(), 20, "private mounts")
        assert process.poll() is None, "the private mounts could not be made"
        return world

    def path(self, inside: str) -> Path:
        """A path as this process can open it."""
        return Path(f"/proc/{self.holder}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o600) -> str:
        """Make a file in here; its path in here."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return inside

    def command(self, *argv: str) -> list[str]:
        """What runs *argv* in here."""
        return ["nsenter", "--target", str(self.holder), "--net", "--mount", f"--wd={os.getcwd()}", "--", *argv]

    def run(self, *argv: str, env: dict[str, str] | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in here to its end, whatever that is."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1", **(env or {})}
        return subprocess.run(
            self.command(*argv), capture_output=True, text=True, check=False, timeout=90, env=environment, input=stdin
        )

    def ok(self, *argv: str, env: dict[str, str] | None = None) -> str:
        """Run a command that must succeed; its stdout."""
        done = self.run(*argv, env=env)
        assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ginnel(self, *argv: str, env: dict[str, str] | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the `ginnel` command in here."""
        return self.run(*GINNEL, *argv, env=env, stdin=stdin)

    def json(self, *argv: str) -> Any:
        """stdout of a command as JSON."""
        return json.loads(self.ok(*argv) or "[]")

    def processes(self, module: str) -> list[int]:
        """Processes in here that run a module of ours."""
        found = []
        for pid in self.space.processes():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if module.encode() in words:
                found.append(pid)
        return found

    def has_link(self, name: str) -> bool:
        """Whether the interface exists."""
        return self.run("ip", "link", "show", "dev", name).returncode == 0

    def snapshot(self) -> dict[str, Any]:
        """Addresses, links, routes, rules, nft tables, resolv.conf: without what differs by chance, and under common names."""
        return {
            "links": _links(self.json("ip", "-j", "addr", "show")),
            "routes4": _routes(self.json("ip", "-j", "-4", "route", "show", "table", "all")),
            "routes6": _routes(self.json("ip", "-j", "-6", "route", "show", "table", "all")),
            "rules4": self.json("ip", "-j", "-4", "rule", "show"),
            "rules6": self.json("ip", "-j", "-6", "rule", "show"),
            "nft": _nft(self.json("nft", "-j", "list", "ruleset")),
            "resolv.conf": self.path("/etc/resolv.conf").read_text(),
        }


_LINK_LOCAL = re.compile(r"fe80::[0-9a-f:]+")


def _same(value: Any) -> Any:
    """Link-local addresses of TUN devices are random; the two tools name their tables each after itself."""
    text = _LINK_LOCAL.sub("fe80::X", json.dumps(value))
    return json.loads(text.replace('"wg-quick-', '"ginnel-'))


def _links(links: list[dict[str, Any]]) -> list[Any]:
    kept = []
    for link in links:
        addresses = sorted((each["family"], each["local"], each["prefixlen"], each["scope"]) for each in link["addr_info"])
        kept.append({"name": link["ifname"], "mtu": link["mtu"], "flags": sorted(link["flags"]), "addresses": addresses})
    same: list[Any] = _same(kept)
    return same


def _routes(routes: list[dict[str, Any]]) -> list[Any]:
    lines = [json.dumps(_same(route), sort_keys=True) for route in routes]
    return sorted(lines)


def _nft(listing: dict[str, Any]) -> list[str]:
    """Each object as a line; chains and rules keep no handle. Rules of one chain keep their order."""
    lines: list[tuple[str, int, str]] = []
    for number, item in enumerate(listing.get("nftables", [])):
        for kind, fields in item.items():
            if kind == "metainfo":
                continue
            plain = _same({key: value for key, value in fields.items() if key != "handle"})
            place = (
                f"{kind} {plain.get('family')} {plain.get('table', plain.get('name'))} {plain.get('chain', plain.get('name'))}"
            )
            lines.append((place, number, json.dumps({kind: plain}, sort_keys=True)))
    return [line for _, _, line in sorted(lines)]


def hide(world: World, programs: Sequence[str]) -> None:
    """Make programs unfindable in here."""
    for program in programs:
        for place in ("/usr/sbin", "/usr/bin"):
            if world.path(f"{place}/{program}").exists():
                world.ok("mount", "--bind", "/dev/null", f"{place}/{program}")
