"""
The bed on which everything is measured: two namespaces, one veth pair, and one implementation at both ends at a time.

Fairness: every implementation gets the same namespaces, the same veth, MTU 1420, the same keys and addresses, the same
commands, and shares the same cores with the generator; implementations take turns within a round. A third namespace, on a link of
its own to the right one, is where attackers and newcomers are.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
sys.path.insert(0, str(ROOT / "tests"))

from namespaces import Namespace, Net, wait_until  # noqa: E402
from peers.nodes import GINNEL, Keys, PeerConfig, Userspace, endpoint, ping, render, setconf, up  # noqa: E402
from peers.strongswan import DAEMON, Charon, InNamespace, child, connection, psk, secret  # noqa: E402

GINNEL_COMMAND = str(Path(sys.executable).with_name("ginnel"))
MTU = 1420
LEFT_OUTER, RIGHT_OUTER = "192.0.2.1", "192.0.2.2"
#: The right side's address towards the third namespace, and that namespace's own.
RIGHT_APART, APART = "198.51.100.2", "198.51.100.1"
LEFT_INNER, RIGHT_INNER = "10.77.0.1", "10.77.0.2"
LEFT_PORT, RIGHT_PORT = 51820, 51821


@dataclass(frozen=True, slots=True)
class Implementation:
    """A program under test: how it is started, and where it came from."""

    name: str
    program: tuple[str, ...]
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Lines of a node file's tunnel beyond its ends, `{device}` and `{psk}` to be filled in: then `ginnel up` starts it.
    gre: str | None = None
    #: Its kind there.
    kind: str = "gre"


# ---------------------------------------------------------------- building the implementations


def _built(argv: list[str], **environment: str) -> None:
    print("+", " ".join(argv), file=sys.stderr)
    subprocess.run(argv, check=True, cwd=ROOT, env={**os.environ, **environment})


def wireguard_go() -> Implementation:
    """The newest wireguard-go that the Go module proxy has."""
    target = CACHE / "wireguard-go"
    binary = target / "bin" / "wireguard"
    if not binary.exists():
        _built(["go", "install", "golang.zx2c4.com/wireguard@latest"], GOBIN=str(target / "bin"))
    shown = subprocess.run(["go", "version", "-m", str(binary)], check=True, capture_output=True, text=True).stdout
    version = next(line.split()[2] for line in shown.splitlines() if line.split()[:1] == ["mod"])
    return Implementation("wireguard-go", (str(binary), "-f"), version, {"LOG_LEVEL": "error"})


def boringtun() -> Implementation:
    """The newest boringtun-cli on crates.io."""
    target = CACHE / "boringtun"
    binary = target / "bin" / "boringtun-cli"
    if not binary.exists():
        _built(["cargo", "install", "--locked", "boringtun-cli", "--root", str(target)])
    version = subprocess.run([str(binary), "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    # It drops to the user who called sudo; run by root without one, it must be told not to try.
    return Implementation("boringtun", (str(binary), "-f", "--disable-drop-privileges"), version, {"WG_LOG_LEVEL": "error"})


def _revision() -> str:
    shown = subprocess.run(["git", "describe", "--always", "--dirty"], check=True, capture_output=True, text=True, cwd=ROOT)
    return shown.stdout.strip()


def ginnel() -> Implementation:
    """What .venv holds: `make` has built it."""
    return Implementation("ginnel", (GINNEL, "-f"), _revision())


def unencrypted() -> Implementation:
    """
    ginnel with the cipher left out: the same path, the ceiling.

    Built apart, into .cache/unencrypted: the Python files are links to ours, the native module is its own. It runs only with
    GINNEL_BENCH_UNENCRYPTED=1, and no wheel is ever made of it (scripts/wheel asks each wheel).
    """
    target = CACHE / "unencrypted"
    _built(
        ["cargo", "build", "--quiet", "--release", "--locked", "-p", "ginnel-binding", "--features", "unencrypted"],
        CARGO_TARGET_DIR=str(target / "target"),
    )
    package = target / "site" / "ginnel"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for source in (ROOT / "src" / "ginnel").iterdir():
        if not source.name.startswith(("_native.abi3", "__pycache__")):
            (package / source.name).symlink_to(source)
    shutil.copy2(target / "target" / "release" / "lib_native.so", package / "_native.abi3.so")
    code = "from ginnel.runtime.wireguard_main import main; raise SystemExit(main())"
    environment = {"PYTHONPATH": str(package.parent), "GINNEL_BENCH_UNENCRYPTED": "1"}
    probe = [sys.executable, "-c", "import ginnel._native as n; print(n.__file__, n.UNENCRYPTED)"]
    shown = subprocess.run(probe, check=True, capture_output=True, text=True, env={**os.environ, **environment}).stdout.split()
    if shown != [str(package / "_native.abi3.so"), "True"]:
        raise RuntimeError(f"the unencrypted build is not what would run: {shown}")
    return Implementation("unencrypted", (sys.executable, "-c", code, "-f"), _revision(), environment)


def gre_udp() -> Implementation:
    """GRE in UDP (RFC 8086), by the same engine."""
    return Implementation("gre-udp", (GINNEL_COMMAND,), _revision(), gre='encapsulation = "udp"')


def gre_raw() -> Implementation:
    """GRE as protocol 47."""
    return Implementation("gre-raw", (GINNEL_COMMAND,), _revision(), gre="")


_PROTECTED = '\n[tunnel.{device}.ipsec]\npsk-file = "{psk}"\nlocal-id = "@#01"\nremote-id = "@#01"\n'


def ipsec(name: str, suite: str, encapsulation: str = "udp", kind: str = "gre") -> Implementation:
    """GRE over IPsec in transport mode (or IPsec alone), by the same engine; keys agreed on by its IKE."""
    lines = f'{_PROTECTED}esp = "{suite}-x25519"\nencapsulation = "{encapsulation}"'
    return Implementation(name, (GINNEL_COMMAND,), _revision(), gre=lines, kind=kind)


def strongswan() -> Implementation:
    """Debian's strongSwan with its user-space ESP (kernel-libipsec): tunnel mode in UDP, AES-128-GCM."""
    asked = ["dpkg-query", "--show", "--showformat=${Version}", "charon-systemd"]
    shown = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    return Implementation("strongswan", (DAEMON,), shown)


def wg_meshconf() -> Implementation:
    """The newest wg-meshconf on PyPI, in an environment of its own."""
    target = CACHE / "wg-meshconf"
    program = target / "bin" / "wg-meshconf"
    if not program.exists():
        _built([sys.executable, "-m", "venv", str(target)])
        _built([str(target / "bin" / "pip"), "install", "--quiet", "wg-meshconf"])
    asked = "from importlib.metadata import version; print(version('wg-meshconf'))"
    shown = subprocess.run([str(target / "bin" / "python"), "-c", asked], check=True, capture_output=True, text=True).stdout
    return Implementation("wg-meshconf", (str(program),), shown.strip())


BUILDERS = {
    "ginnel": ginnel,
    "wireguard-go": wireguard_go,
    "boringtun": boringtun,
    "unencrypted": unencrypted,
    "gre-udp": gre_udp,
    "gre-raw": gre_raw,
    "ipsec": lambda: ipsec("ipsec", "aes128gcm16"),
    "ipsec-chacha": lambda: ipsec("ipsec-chacha", "chacha20poly1305"),
    "ipsec-aes256": lambda: ipsec("ipsec-aes256", "aes256gcm16"),
    "ipsec-raw": lambda: ipsec("ipsec-raw", "aes128gcm16", encapsulation="raw"),
    "ipsec-alone": lambda: ipsec("ipsec-alone", "aes128gcm16", kind="ipsec"),
    "strongswan": strongswan,
    "wg-meshconf": wg_meshconf,
}


# ---------------------------------------------------------------- the bed


@dataclass(slots=True)
class GreNode:
    """All tunnels of one node file in one namespace, by `ginnel up` and `ginnel down`."""

    space: Namespace
    name: str
    path: Path
    up_s: float = 0.0

    @property
    def pid(self) -> int:
        """The process that carries them, as the record says."""
        return int(json.loads(Path(f"/run/ginnel/{self.name}.json").read_text())["daemon"]["pid"])

    def start(self, text: str) -> None:
        """Write the file and bring it up; `up_s` is how long the command took."""
        self.path.write_text(text)
        started = time.perf_counter()
        self.space.run(GINNEL_COMMAND, "up", str(self.path))
        self.up_s = time.perf_counter() - started

    def stop(self) -> None:
        """Take everything down again."""
        self.space.run(GINNEL_COMMAND, "down", str(self.path), check=False)


@dataclass(slots=True)
class Tunnel:
    """One implementation at both ends, up and proven by a ping."""

    left: Userspace | GreNode | Charon
    right: Userspace | GreNode | Charon

    def rss_kib(self) -> int:
        """Resident memory of the larger of the two processes."""
        return max(rss_kib(self.left.pid), rss_kib(self.right.pid))


def rss_kib(pid: int) -> int:
    """VmRSS of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def switches(pid: int) -> int:
    """How often its threads were put on a core by waking: voluntary context switches."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Bed:
    """Three namespaces and their links; `tunnel` puts an implementation at both ends of the first."""

    net: Net
    left: Namespace
    right: Namespace
    apart: Namespace
    directory: Path
    left_device: str
    right_device: str
    left_keys: Keys
    right_keys: Keys

    @classmethod
    @contextlib.contextmanager
    def create(cls) -> Iterator[Bed]:
        """Everything made here is gone afterwards."""
        with Net.create() as net, tempfile.TemporaryDirectory(prefix="ginnel-bench-") as directory:
            left, right, apart = net.namespace("left"), net.namespace("right"), net.namespace("apart")
            link = net.veth(left, right, [f"{LEFT_OUTER}/24"], [f"{RIGHT_OUTER}/24"])
            net.veth(apart, right, [f"{APART}/24"], [f"{RIGHT_APART}/24"])
            yield cls(net, left, right, apart, Path(directory), link.left, link.right, Keys.fresh(), Keys.fresh())

    def node(self, implementation: Implementation, side: str) -> Userspace:
        """A node that is not started yet."""
        space, device = (self.left, self.left_device) if side == "left" else (self.right, self.right_device)
        log = self.directory / f"{side}-{implementation.name}.log"
        name = self.net.unique("bl" if side == "left" else "br")
        return Userspace(
            implementation.name, space, name, device, log, dict(implementation.environment), program=list(implementation.program)
        )

    def conf(self, side: str, *, knows_endpoint: bool = True, extra: tuple[PeerConfig, ...] = ()) -> str:
        """The configuration of one side for `wg setconf`."""
        if side == "left":
            peer = PeerConfig(
                self.right_keys.public, [f"{RIGHT_INNER}/32"], endpoint(RIGHT_OUTER, RIGHT_PORT) if knows_endpoint else None
            )
            return render(self.left_keys.private, LEFT_PORT, [peer, *extra])
        peer = PeerConfig(
            self.left_keys.public, [f"{LEFT_INNER}/32"], endpoint(LEFT_OUTER, LEFT_PORT) if knows_endpoint else None
        )
        return render(self.right_keys.private, RIGHT_PORT, [peer, *extra])

    @contextlib.contextmanager
    def tunnel(self, implementation: Implementation, *, right_knows: bool = True) -> Iterator[Tunnel]:
        """Both ends started, configured and reachable."""
        if implementation.name == "strongswan":
            with self.strongswan_pair() as daemons:
                wait_until(lambda: self.left.ping(RIGHT_INNER, within_s=1), 20, "strongswan: a ping through the tunnel")
                yield daemons
            return
        if implementation.gre is not None:
            with self.gre_pair(lambda side, name: self.gre_file(side, name, implementation)) as pair:
                wait_until(
                    lambda: self.left.ping(RIGHT_INNER, within_s=1), 20, f"{implementation.name}: a ping through the tunnel"
                )
                yield pair
            return
        left, right = self.node(implementation, "left"), self.node(implementation, "right")
        left.start()
        try:
            right.start()
            setconf(right, self.conf("right", knows_endpoint=right_knows))
            up(right, [f"{RIGHT_INNER}/24"], mtu=MTU)
            setconf(left, self.conf("left"))
            up(left, [f"{LEFT_INNER}/24"], mtu=MTU)
            wait_until(lambda: ping(left, RIGHT_INNER, within_s=1), 20, f"{implementation.name}: a ping through the tunnel")
            yield Tunnel(left, right)
        finally:
            left.stop()
            right.stop()

    @contextlib.contextmanager
    def gre_pair(self, text: Callable[[str, str], str]) -> Iterator[Tunnel]:
        """A node file at each end: *text* makes it from the side and a name for its first device."""
        with contextlib.ExitStack() as undo:
            nodes = []
            for side, space in (("left", self.left), ("right", self.right)):
                name = self.net.unique("bg" + side[0])
                node = GreNode(space, name, self.directory / f"{name}.toml")
                undo.callback(node.stop)
                node.start(text(side, name))
                nodes.append(node)
            yield Tunnel(nodes[0], nodes[1])

    @contextlib.contextmanager
    def strongswan_pair(self) -> Iterator[Tunnel]:
        """
        strongSwan at both ends, the addresses on lo.

        Its device keeps its own MTU of 1,400: libipsec cuts what it reads to the MTU that the device was made with, so that of a
        larger one nothing arrives whole.
        """
        ends = (LEFT_OUTER, RIGHT_OUTER), (LEFT_INNER, RIGHT_INNER)
        with contextlib.ExitStack() as undo:
            daemons = []
            for me, space in enumerate((self.left, self.right)):
                local, remote = (pair[me] for pair in ends), (pair[1 - me] for pair in ends)
                (outer, inner), (far_outer, far_inner) = local, remote
                space.ip("address", "add", f"{inner}/32", "dev", "lo")
                undo.callback(space.ip, "address", "delete", f"{inner}/32", "dev", "lo")
                daemon = Charon.start(InNamespace(space))
                undo.callback(daemon.close)
                protected = child(f"{inner}/32", f"{far_inner}/32", esp_proposals="aes128gcm16-x25519-noesn")
                names = ("left", "right") if me == 0 else ("right", "left")
                proofs = psk(names[0]), psk(names[1])
                peer = connection(outer, far_outer, *proofs, {"inner": protected}, encap=True)
                daemon.load({"peer": peer}, {"ike-1": secret("a secret of the bench", *names)})
                daemons.append(daemon)
            daemons[0].initiate("inner")
            yield Tunnel(daemons[0], daemons[1])

    def gre_file(self, side: str, device: str, implementation: Implementation) -> str:
        """One tunnel with the addresses that every implementation has."""
        secret_file = self.directory / "bench.psk"
        secret_file.touch(mode=0o600)
        secret_file.write_text("a secret of the bench\n")
        more = (implementation.gre or "").replace("{device}", device).replace("{psk}", str(secret_file))
        local, remote, inner = (LEFT_OUTER, RIGHT_OUTER, LEFT_INNER) if side == "left" else (RIGHT_OUTER, LEFT_OUTER, RIGHT_INNER)
        return (
            f'[tunnel.{device}]\nkind = "{implementation.kind}"\nlocal = "{local}"\nremote = "{remote}"\n'
            f"{'ttl = 64' if implementation.kind == 'gre' else ''}\nmtu = {MTU}\n"
            f'address = ["{inner}/24"]\n{more}\n'
        )

    @contextlib.contextmanager
    def wire(self) -> Iterator[None]:
        """
        The link between both ends as most network cards have it: the kernel cuts what it sends into packets of the MTU first.

        A veth pair takes what is to be segmented as it is, and the other end finds it still in one piece.
        """
        ends = ((self.left, self.left_device), (self.right, self.right_device))
        for space, device in ends:
            space.ip("link", "set", device, "gso_max_segs", "1")
        try:
            yield
        finally:
            for space, device in ends:
                space.ip("link", "set", device, "gso_max_segs", "65535")
