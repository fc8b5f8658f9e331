"""
`initiate`, `terminate`, `rekey`: what a person may want of a protected tunnel at once, instead of when its time comes.

All three ask the node's process and return when it has begun: the peer's answer takes its time, `ginnel show` tells it. A tunnel
that was terminated stays so until `initiate`, its first packet where it says `start = "trap"`, or the peer; what leaves by it
meanwhile is dropped.
"""

from __future__ import annotations

import click

from ginnel.cli import devices
from ginnel.errors import GinnelError
from ginnel.linux.backend import control

_NODE = click.argument("node", metavar="NODE|TUNNEL")
_TUNNEL = click.argument("tunnel", required=False, metavar="[TUNNEL]")


@click.command()
@_NODE
@_TUNNEL
def initiate(node: str, tunnel: str | None) -> None:
    """Negotiate the IPsec SAs of a tunnel now, or those of all protected tunnels of a node."""
    _ask("initiate", node, tunnel)


@click.command()
@_NODE
@_TUNNEL
def terminate(node: str, tunnel: str | None) -> None:
    """End the IPsec SAs of a tunnel, telling the peer, or those of all protected tunnels of a node."""
    _ask("terminate", node, tunnel)


@click.command()
@_NODE
@_TUNNEL
@click.option("--ike", is_flag=True, help="The IKE SA, in place of the ESP SAs that it made.")
def rekey(node: str, tunnel: str | None, ike: bool) -> None:
    """Replace the keys of a tunnel now, or those of all protected tunnels of a node; nothing is lost."""
    _ask("rekey-ike" if ike else "rekey", node, tunnel)


def _ask(what: str, node: str, tunnel: str | None) -> None:
    if tunnel is None and (owner := devices.node_of(node)) is not None:
        node, tunnel = owner, node
    answer = control(node, {"op": what, **({"tunnel": tunnel} if tunnel is not None else {})})
    if answer is None:
        devices.refuse_killed(node)
        raise GinnelError(f"no node or tunnel is called {node}\n  hint: `ginnel show` lists those that are up")
    click.echo(" ".join(answer["tunnels"]))
