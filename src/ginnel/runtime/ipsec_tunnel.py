"""
The protection of one tunnel: when its connection exists, and with which ends.

    the device is up, its ends are known      the IKE machine has the connection: it negotiates, or waits for the peer
    other ends (DHCP, a name resolved anew)   the connection is changed
    the device is down, or gone               the peer is told (one DELETE), the connection is forgotten

Our end is the file's `local`, else the source address of the route to the peer; as long as neither is known nothing is
negotiated. When the route is lost, the last one is kept: it mostly comes back, and the peer is asked at that address meanwhile.

Nothing here decides whether packets may pass: without an SA the engine sends and takes nothing, whatever happens here.
"""

from __future__ import annotations

from ginnel import mtu
from ginnel.config.node import PlainConfig
from ginnel.engine.plain import PlainTunnelLike
from ginnel.ikev2.connection import Believing, Connection, Proving
from ginnel.runtime import ipsec_connection, ipsec_view
from ginnel.runtime.ipsec import Ipsec, Member
from ginnel.watch.ipsec import IpsecView


class Protection:
    """See the module."""

    def __init__(
        self, ipsec: Ipsec, config: PlainConfig, tunnel: PlainTunnelLike, proving: Proving, believing: Believing
    ) -> None:
        """
        Args:
            config: with its `ipsec`.
            tunnel: protected.
        """
        assert config.ipsec is not None
        self.ipsec, self.config, self.name = ipsec, config, config.name
        self._tunnel = tunnel
        self._proving, self._believing = proving, believing
        self._up = False
        self._ends: tuple[bytes | None, bytes | None] | None = None
        self._connection: Connection | None = None
        ipsec.join(Member(self.name, tunnel, config.ipsec))

    def set_up(self, up: bool) -> None:
        """The device was set up or down."""
        self._up = up
        self._look()

    def set_ends(self, local: bytes | None, remote: bytes | None, *, known: bool) -> None:
        """
        Where the ends are now.

        Args:
            local: None while no route says it.
            remote: None for anybody.
            known: False while the remote's name was not resolved.
        """
        if not known or (local is None and remote is not None):
            return  # keep what there was
        if (local, remote) != self._ends:
            self._ends = local, remote
            self._look()

    def close(self) -> None:
        """The peer is told, the connection forgotten; the tunnel is the engine's to close."""
        self._up = False
        self._look()
        self.ipsec.leave(self.name)

    def command(self, what: str) -> None:
        """
        See `Ipsec.command`.

        Raises:
            ValueError: not possible now; why.
        """
        if self._connection is None:
            raise ValueError(f"{self.name}: there is nothing to {what}: {self._missing()}")
        self.ipsec.command(what, self.name)

    def view(self, link_mtu: int) -> IpsecView:
        """
        Everything that is shown of it.

        Args:
            link_mtu: of the device, 0 while unknown.
        """
        ipsec = self.ipsec
        return ipsec_view.view(
            self.config,
            ipsec.view(self.name) if self._connection is not None else None,
            self._tunnel.associations(),
            ipsec.now(),
            ends=self._ends or (None, None),
            missing=self._missing(),
            link_mtu=link_mtu,
            unsent=ipsec.unsent.get(self.name, ""),
            keys_written=ipsec.keys.directory if ipsec.keys is not None else "",
        )

    def room(self, delivery: int) -> int:
        """The largest packet inside a packet of *delivery* bytes on the way: under the SA that there is, else under any."""
        connection = self.ipsec.view(self.name) if self._connection is not None else None
        return mtu.room(ipsec_view.stacks(self.config, connection), delivery)

    def _missing(self) -> str:
        """Why there is no connection."""
        return "its ends are not known yet" if self._up else "its device is down"

    def _look(self) -> None:
        if not self._up or self._ends is None:
            if self._connection is not None:
                self._connection = None
                self.ipsec.remove(self.name)
            return
        wanted = ipsec_connection.connect(self.config, self._proving, self._believing, *self._ends)
        if wanted == self._connection:
            return
        if self._connection is not None:
            self.ipsec.change(wanted)
        else:
            self.ipsec.add(wanted)
        self._connection = wanted
