"""
ginnel's node beside strongSwan: many connections between one process of ours and one charon, each between addresses of its own.

    node   192.0.2.N        inside 10.1.N.1      ginnel, `kind = "ipsec"`, device sN
    swan   192.0.2.(100+N)  inside 10.2.N.1      connection and child cN

With `kind = "gre"` a GRE tunnel is protected (in tunnel mode, `dynamic[gre]`); behind strongSwan stands a process of ours with
the same tunnel unprotected, whose packets charon takes because they are not marked.

A `Peering` says what both ends are configured with; `World` starts them and has what tests ask of either. ESP is in UDP, in
tunnel mode, because strongSwan's user-space ESP knows nothing else (see strongswan.py); what the kernel's can is tried in the
guest.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ginnel.config.node import IpsecConfig, PlainConfig
from namespaces import Namespace, Net, wait_until
from native.rig import inside
from peers.node_running import NodeProcess
from peers.strongswan import Charon, InNamespace, Place, Value, child, connection, installed, psk, secret

SECRET = "correct horse battery staple"
#: How long an establishment may take on a busy machine.
UP_S = 15.0


@dataclass(frozen=True, slots=True)
class Peering:
    """
    One connection. ike, esp: the proposal of both ends, unless *ours* or *theirs* have another.

    ours: fields of `IpsecConfig`. theirs, theirs_child: values of strongSwan's sections. our_files: name -> content, for those of
    *ours* that name files ("{dir}/key.pem"). their_files: as `Charon.load` takes them. word: what strongSwan must say of the
    algorithms it chose, in part; heard: what its log must have at the end, so that what was meant to happen did.
    """

    number: int
    label: str
    kind: Literal["ipsec", "gre"] = "ipsec"
    ike: str = "aes256gcm16-prfsha256-x25519"
    esp: str = "aes256gcm16"
    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Value] = field(default_factory=dict)
    theirs_child: Mapping[str, Value] = field(default_factory=dict)
    our_files: Mapping[str, bytes] = field(default_factory=dict)
    their_files: Mapping[str, bytes] = field(default_factory=dict)
    word: Mapping[str, str] = field(default_factory=dict)
    heard: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For pytest."""
        return self.label

    @property
    def device(self) -> str:
        """Ours."""
        return f"s{self.number}"

    @property
    def name(self) -> str:
        """strongSwan's name of the connection and of the child."""
        return f"c{self.number}"

    @property
    def node(self) -> str:
        """Our address."""
        return f"192.0.2.{self.number}"

    @property
    def swan(self) -> str:
        """Theirs."""
        return f"192.0.2.{100 + self.number}"

    @property
    def inside_node(self) -> str:
        """Ours, through the tunnel."""
        return f"10.1.{self.number}.1"

    @property
    def inside_swan(self) -> str:
        """Theirs, through the tunnel."""
        return f"10.2.{self.number}.1"

    def plain(self, directory: Path) -> PlainConfig:
        """Our end's configuration; its files are written to *directory*."""
        own = directory / self.device
        own.mkdir(parents=True, exist_ok=True)
        for name, content in {"psk": SECRET.encode(), **self.our_files}.items():
            path = own / name
            path.write_bytes(content)
            path.chmod(0o600)
        ours = {key: _placed(value, str(own)) for key, value in self.ours.items()}
        config = IpsecConfig(
            mode="tunnel", start="wait", psk_file="" if ours.get("auth", "psk") != "psk" else str(own / "psk"),
            local_id="node", remote_id=f"swan{self.number}", ike_proposals=(self.ike,), esp_proposals=(self.esp,),
        )  # fmt: skip
        if self.kind == "ipsec":
            nets = {"local_ts": (f"10.1.{self.number}.0/24",), "remote_ts": (f"10.2.{self.number}.0/24",)}
            config = dataclasses.replace(config, **nets)  # type: ignore[arg-type]
        return PlainConfig(
            self.device, self.kind, 4, local=self.node, remote=self.swan, mtu=1300, ipsec=dataclasses.replace(config, **ours)
        )

    def behind(self) -> PlainConfig:
        """The tunnel that stands behind strongSwan."""
        return PlainConfig(f"b{self.number}", self.kind, 4, local=self.swan, remote=self.node, mtu=1300)

    def section(self) -> dict[str, Value]:
        """Their end's connection."""
        nets = (f"10.2.{self.number}.0/24", f"10.1.{self.number}.0/24") if self.kind == "ipsec" else ("dynamic[gre]",) * 2
        children: dict[str, Value] = {self.name: {**child(*nets, esp_proposals=f"{self.esp}-noesn"), **self.theirs_child}}
        made = connection(self.swan, self.node, psk(f"swan{self.number}"), psk("node"), children, proposals=self.ike)
        return {**made, **self.theirs}


def _read(receiving: socket.socket, size_bytes: int) -> bytes:
    """So many bytes, fewer when it ends."""
    got = bytearray()
    while len(got) < size_bytes and (data := receiving.recv(1 << 16)):
        got += data
    return bytes(got)


def _placed(value: Any, directory: str) -> Any:
    """Names of files in a directory made absolute."""
    if isinstance(value, str):
        return value.replace("{dir}", directory)
    return tuple(_placed(one, directory) for one in value) if isinstance(value, tuple) else value


@dataclass(slots=True)
class World:
    """Both ends, running."""

    net: Net
    node_space: Namespace
    swan_space: Namespace
    directory: Path
    peerings: Sequence[Peering]
    charon: Charon
    node: NodeProcess
    behind: NodeProcess | None = None

    @classmethod
    def start(
        cls, net: Net, directory: Path, peerings: Sequence[Peering], *, name: str, options: Mapping[str, Value] | None = None
    ) -> World:
        """Namespaces, addresses, strongSwan with *options*, our process called like *name*."""
        node_space, swan_space = net.namespace("node"), net.namespace("swan")
        net.veth(
            node_space, swan_space, [f"{one.node}/24" for one in peerings], [f"{one.swan}/24" for one in peerings]
        )  # fmt: skip
        for one in peerings:
            if one.kind == "ipsec":
                swan_space.ip("address", "add", f"{one.inside_swan}/32", "dev", "lo")
        charon = Charon.start(InNamespace(swan_space), options)
        try:
            world = cls(
                net, node_space, swan_space, directory, peerings, charon,
                NodeProcess.start(node_space, net.unique(name), directory, [one.plain(directory) for one in peerings]),
            )  # fmt: skip
        except BaseException:
            charon.close(str(directory / "charon.log"))
            raise
        world.load()
        world.devices_up()
        world.devices_behind()
        return world

    def devices_behind(self) -> None:
        """Tunnels that stand behind strongSwan, if any do."""
        tunnels = [one for one in self.peerings if one.kind != "ipsec"]
        if not tunnels:
            return
        self.behind = NodeProcess.start(
            self.swan_space, self.net.unique("bhnd"), self.directory, [one.behind() for one in tunnels]
        )
        for one in tunnels:
            self.behind.up((f"b{one.number}", f"{one.inside_swan}/32"))
            self.swan_space.ip("route", "add", f"10.1.{one.number}.0/24", "dev", f"b{one.number}", "src", one.inside_swan)

    def load(self) -> None:
        """strongSwan's connections (again, after it was killed)."""
        secrets: dict[str, Value] = {f"ike-{one.number}": secret(SECRET, f"swan{one.number}") for one in self.peerings}
        files: dict[str, bytes] = {}
        for one in self.peerings:
            files |= one.their_files
        self.charon.load({one.name: one.section() for one in self.peerings}, secrets, files)

    def devices_up(self) -> None:
        """Addresses and routes of our devices (again, after our process was killed)."""
        for one in self.peerings:
            self.node.up((one.device, f"{one.inside_node}/32"))
            self.node_space.ip("route", "add", f"10.2.{one.number}.0/24", "dev", one.device, "src", one.inside_node)

    def revive(self) -> None:
        """Our process is started anew, as it was."""
        plain = [one.plain(self.directory) for one in self.peerings]
        self.node = NodeProcess.start(self.node_space, self.node.config.name, self.directory, plain)
        self.devices_up()

    def place(self) -> Place:
        """Where strongSwan runs."""
        return self.charon.place

    # ------------------------------------------------------------ what tests ask

    def command(self, peering: Peering, what: str) -> None:
        """initiate, terminate, rekey or rekey-ike at our end."""
        answer = self.node.ask(op=what, tunnel=peering.device)
        assert "error" not in answer, answer

    def ours_up(self, peering: Peering, within_s: float = UP_S) -> None:
        """Initiate from here and wait until strongSwan has the child."""
        self.command(peering, "initiate")
        self.up(peering, within_s)

    def up(self, peering: Peering, within_s: float = UP_S) -> dict[str, Any]:
        """Wait until strongSwan has one child; it. Both logs' ends when it has not."""
        try:
            return installed(self.charon, peering.name, within_s=within_s)[0]
        except AssertionError as missing:
            raise AssertionError(f"{missing}\n--- ginnel:\n{self.node.said()[-4000:]}") from None

    def gone(self, peering: Peering, within_s: float = UP_S) -> None:
        """Wait until strongSwan has no IKE SA of it."""
        wait_until(lambda: all(one["name"] != peering.name for one in self.charon.associations()), within_s, f"no {peering.name}")

    def carries(self, peering: Peering, count: int = 3) -> None:
        """Pings from both ends come back."""
        assert self.node_space.ping(peering.inside_swan, count=count, options=["-I", peering.inside_node]), self.why(peering)
        assert self.swan_space.ping(peering.inside_node, count=count, options=["-I", peering.inside_swan]), self.why(peering)

    def transfers(self, peering: Peering, size_bytes: int = 2_000_000) -> None:
        """Random bytes pass each way by TCP: super-packets at our end, segments at theirs."""
        data = os.urandom(size_bytes)
        with inside(self.swan_space), socket.create_server((peering.inside_swan, 0)) as listener:
            with inside(self.node_space):
                ours = socket.create_connection(listener.getsockname(), 20, (peering.inside_node, 0))
            theirs, _ = listener.accept()
        with ours, theirs:
            theirs.settimeout(20)
            for sending, receiving in ((ours, theirs), (theirs, ours)):
                thread = threading.Thread(target=sending.sendall, args=(data,))
                thread.start()
                got = _read(receiving, size_bytes)
                thread.join()
                assert got == data, f"{len(got)} bytes"

    def why(self, peering: Peering) -> str:
        """What there is to read when something is wrong."""
        # What we asked it ourselves says nothing, and there is much of it.
        lines = [line for line in self.charon.said().splitlines() if " vici client " not in line]
        ours, theirs = self.node.said()[-3000:], "\n".join(lines)[-12_000:]
        held = self.charon.associations()
        return f"{self.node.show(peering.device)}\n--- ginnel:\n{ours}\n--- strongSwan:\n{theirs}\n{held}"

    def stop(self) -> None:
        """Both are gone; strongSwan's log stays in the directory."""
        for process in (self.node, self.behind):
            if process is not None and process.process.poll() is None:
                process.stop()
        self.charon.close(str(self.directory / "charon.log"))
