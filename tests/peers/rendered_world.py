"""
Hosts for rendered files: network namespaces inside the guest, on one bridge, each with its own mounts of what it may write.

The kernel in the guest has WireGuard and GRE, and the programs are this machine's (`guest.host`): wg-quick, networkd,
NetworkManager, `ip`. A node runs what was rendered for it at the paths that the files name: /etc/wireguard,
/etc/systemd/network and so on are its own empty file systems.

The networks: lyon (the node under test) has WireGuard with a preshared key to paris, GRE with a key to basil, GRE in UDP to
cedar, and, of another network, GRE over IPv6 to fern. phone sends everything through paris. All the others run iproute2's
script.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ginnel import crypto
from ginnel.network import Lock, NodeDescription, allocate, compile_network, parse_network
from ginnel.network.render import File, Secrets, renderer
from peers.guest import Guest

PROOF = """\
[network]
name = "proof"
pool = ["10.10.0.0/24", "fd10:10::/64"]
shape = "none"
psk = "random"

[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24", "fd20::/64"]

[node.lyon]
endpoint = "203.0.113.77"
lans = ["10.30.0.0/24"]
relay = true

[node.basil]
endpoint = "203.0.113.20"
lans = ["10.42.0.0/24"]

[node.cedar]
endpoint = "203.0.113.30"

[node.phone]
exit = "paris"

[[link]]
between = ["paris", "lyon"]

[[link]]
between = ["paris", "phone"]

[[link]]
between = ["lyon", "basil"]
kind = "gre"
key = 42
keepalive = 0

[[link]]
between = ["lyon", "cedar"]
kind = "gre"
encapsulation = "udp"
keepalive = 0
"""
#: What most formats cannot have.
NO_UDP = PROOF.replace('encapsulation = "udp"\n', "")
SIX = """\
[network]
name = "six"
pool = ["10.11.0.0/24", "fd11::/64"]
kind = "gre"

[node.lyon]
endpoint = "2001:db8::77"

[node.fern]
endpoint = "2001:db8::20"
lans = ["fd52::/64"]
"""
#: Of the underlay; the phone's is anybody's.
UNDERLAY = {
    "paris": ["203.0.113.10/24"],
    "lyon": ["203.0.113.77/24", "2001:db8::77/64"],
    "basil": ["203.0.113.20/24"],
    "cedar": ["203.0.113.30/24"],
    "fern": ["2001:db8::20/64"],
    "phone": ["203.0.113.99/24"],
    "cellar": ["203.0.113.50/24"],
}
#: A host in each LAN, and somebody far away behind paris.
BEHIND = {"paris": ["10.20.0.5/24", "fd20::5/64", "192.0.2.1/32"], "basil": ["10.42.0.5/24"], "fern": ["fd52::5/64"]}
#: What a host writes to, or has of its own.
OWN = ("/etc/wireguard", "/etc/systemd/network", "/etc/NetworkManager/system-connections", "/run")
MODULES = ("bridge", "veth", "ip_gre", "ip6_gre", "fou", "nf_tables", "nft_chain_nat", "nft_masq", "nft_ct", "nft_fib_inet")


def described(text: str) -> dict[str, NodeDescription]:
    """The nodes of a network with keys of their own."""
    network = parse_network(text, "network.toml")
    keys = {node.name: crypto.public_key(crypto.Secret.from_base64(private_key(node.name))) for node in network.nodes}
    return compile_network(network, allocate(network, Lock()), keys)


def private_key(name: str) -> str:
    """Of a node: the same for ever."""
    return crypto.Secret.from_base64(base64.b64encode(name.encode().ljust(32, b".")).decode()).clamp().reveal_base64()


def psk(left: str, right: str) -> str:
    """Of a pair."""
    return base64.b64encode("-".join(sorted((left, right))).encode().ljust(32, b"!")).decode()


def secrets(description: NodeDescription) -> Secrets:
    """All that the node has."""
    shared = {peer.name: psk(description.name, peer.name) for peer in description.peers if peer.psk}
    return Secrets(private_key(description.name), shared)


@dataclass(slots=True)
class Host:
    """
    A namespace of the guest that is one host, with mounts that are its own.

    A program of this machine costs a second to start in there; so what the guest's own shell, ip and wg can do, they do.
    """

    guest: Guest
    name: str
    #: The process that holds the mounts.
    holder: int = 0
    running: list[int] = field(default_factory=list)

    @classmethod
    def create(cls, guest: Guest, name: str) -> Host:
        """The namespaces, a device `eth0` on the bridge with the underlay's addresses, and who lives behind the host."""
        guest.load(*MODULES)
        for path in OWN:
            # Its package brings it; the guest, which cannot make it, has this machine's.
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        guest.host("true")
        mounts = "; ".join(f"mount -t tmpfs own {path}" for path in OWN)
        inside = shlex.quote(f"mount -o remount,bind,ro /sys; {mounts}; echo > /run/made; exec sleep 3600")
        holder = f"setsid /opt/bin/ip netns exec {name} chroot /host /usr/bin/unshare --mount --propagation private /bin/sh -c"
        batch = [
            f"address add {address} dev {device}"
            for device, addresses in (("eth0", UNDERLAY[name]), ("lo", BEHIND.get(name, ())))
            for address in addresses
        ]
        # Everybody far away is paris's to reach.
        batch += ["route add default via 203.0.113.10"] if name == "phone" else []
        lines = [
            "set -e",
            # What udev makes elsewhere; bash and wg open them.
            "[ -e /dev/fd ] || { ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; }",
            "[ -e /sys/class/net/proof ] || { ip link add proof type bridge; ip link set proof up; }",
            f"ip netns add {name}",
            f"({holder} {inside} >/dev/null 2>&1 </dev/null & echo $! > /run/holder.{name})",
            f"ip link add {name} type veth peer name eth0 netns {name}",
            f"ip link set {name} master proof up",
            f"/opt/bin/ip netns exec {name} sh -c 'for file in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 > $file; done'",
            f"ip -n {name} -batch - <<END\nlink set lo up\nlink set eth0 up\n{chr(10).join(batch)}\nEND",
            f"cat /run/holder.{name}",
        ]
        host = cls(guest, name, int(guest.shell("\n".join(lines))))
        waiting = f"for try in $(seq 300); do [ -e /proc/{host.holder}/root/run/made ] && exit; usleep 100000; done; exit 1"
        guest.shell(waiting)
        return host

    def run(self, *argv: str, check: bool = True, timeout_s: float = 120.0) -> str:
        """One of this machine's programs, on the host."""
        inside = ["/usr/bin/nsenter", "-t", str(self.holder), "-m", "-n", "-r", "-w", "--", *argv]
        answer: str = self.guest.host(*inside, check=check, timeout_s=timeout_s)
        return answer

    def start(self, *argv: str, log: str) -> int:
        """A program in the background, its output in a file on the host; its process id in the guest."""
        inside = f"/usr/bin/nsenter -t {self.holder} -m -n -r -w -- {shlex.join(argv)}"
        words = f"chroot /host {inside} >/proc/{self.holder}/root{log} 2>&1 </dev/null"
        process = int(self.guest.shell(f"(setsid sh -c {shlex.quote(f'exec {words}')} >/dev/null 2>&1 & echo $!)"))
        self.running.append(process)
        return process

    def stop(self, process: int) -> None:
        """End a program that was started, as an operator would."""
        self.guest.shell(
            f"kill {process}; for try in $(seq 300); do [ -e /proc/{process} ] || exit 0; usleep 100000; done; exit 1"
        )
        self.running.remove(process)

    def put(self, path: str, content: bytes, mode: int = 0o644, owner: int = 0) -> None:
        """A file on the host."""
        place, text = shlex.quote(f"/proc/{self.holder}/root{path}"), base64.b64encode(content).decode()
        lines = [f"mkdir -p $(dirname {place})", f": > {place}", f"chmod {mode:o} {place}", f"chown {owner} {place}"]
        self.guest.shell("set -e\n" + "\n".join([*lines, f"base64 -d > {place} <<END\n{text}\nEND"]))

    def read(self, path: str) -> str:
        """A file on the host; empty where there is none."""
        return self.guest.shell(f"cat {shlex.quote(f'/proc/{self.holder}/root{path}')} 2>/dev/null", check=False)

    def ip(self, *argv: str) -> Any:
        """What `ip -j` says."""
        return json.loads(self.guest.run("ip", "-n", self.name, "-j", *argv) or "[]")

    def wg(self, *argv: str, check: bool = True) -> str:
        """What `wg` says."""
        answer: str = self.guest.shell(shlex.join(["/opt/bin/ip", "netns", "exec", self.name, "/opt/bin/wg", *argv]), check=check)
        return answer

    def ping(self, *addresses: str) -> None:
        """All of them answer, within 20 s: a first packet may be lost to what only then is negotiated or looked up."""
        ping = f"/opt/bin/ip netns exec {self.name} /opt/bin/ping -c 1 -W 2"
        lines = [f"for try in $(seq 10); do {ping} {each} && break; [ $try = 10 ] && exit 1; done" for each in addresses]
        self.guest.shell("\n".join([*lines, "true"]), timeout_s=60)

    def devices_to(self, *addresses: str) -> dict[str, str]:
        """Through which device packets to each leave."""
        text = self.guest.shell("; ".join(f"ip -n {self.name} -j route get {address}" for address in addresses))
        found = [json.loads(line)[0] for line in text.splitlines() if line.startswith("[")]
        return {address: str(route["dev"]) for address, route in zip(addresses, found, strict=True)}

    def routes(self) -> str:
        """All of them, as `ip` prints them."""
        text: str = self.guest.shell(f"ip -n {self.name} -4 route show table all; ip -n {self.name} -6 route show table all")
        return text

    def links(self) -> set[str]:
        """Names of devices, without those that every namespace has once a module is loaded."""
        found = {str(link["ifname"]) for link in self.ip("link", "show")}
        return found - {"gre0", "gretap0", "erspan0", "ip6gre0", "ip6tnl0", "ip6_vti0", "ip_vti0", "sit0", "tunl0", "lo"}

    def close(self) -> None:
        """The host is gone, and its processes."""
        kill = f"for pid in $(/opt/bin/ip netns pids {self.name}); do kill -9 $pid; done"
        gone = f"for try in $(seq 300); do [ -e /sys/class/net/{self.name} ] || exit 0; usleep 100000; done; exit 1"
        self.guest.shell(f"{kill}; ip netns delete {self.name}; rm -f /run/holder.{self.name}; {gone}")


def script_of(host: Host, description: NodeDescription, known: Secrets | None = None) -> str:
    """Put iproute2's script of a node there; its path."""
    (file,) = renderer("iproute2").files(description, secrets(description) if known is None else known)
    path = f"/run/{file.name}"
    host.put(path, file.content, 0o700)
    return path


def place(host: Host, files: Iterable[File], *, of: str = "", owner: int = 0) -> None:
    """Files at the places that they name (of: those alone that lie there), with the modes that their readers want."""
    for file in files:
        if of and file.where != of:
            continue
        mode = (0o600 if file.secret or file.private else 0o644) | (0o100 if file.executable else 0)
        host.put(f"{file.where.rstrip('/')}/{file.name}", file.content, mode, owner)
