"""
`ginnel keys rotate`: a key is replaced while the network runs, step by step (`network.rotation` has the why of each).

The lock file knows how far a rotation is, so it can be taken up by somebody else, or the week after.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from ginnel.cli import ui
from ginnel.cli.keyring import Keyring, beside
from ginnel.cli.keys_words import SCHEMA, directory_option, keep, parse_public, split_names
from ginnel.cli.network import Opened, open_network
from ginnel.cli.wanted_keys import Shared, today, wanted
from ginnel.crypto import Secret, public_key
from ginnel.errors import GinnelError, UsageError
from ginnel.network import rotation
from ginnel.network.lock import Pinned
from ginnel.units import PublicKey


@click.command(short_help="Replace a key while the network runs.")
@click.argument("words", nargs=-1, metavar="[FILE] NODE | [FILE] --psk A B")
@click.option("--psk", "shared", nargs=2, metavar="A B", help="The preshared key (or the IPsec secret) of this link instead.")
@click.option("--do", is_flag=True, help="Do the next step, instead of only saying what it is.")
@click.option("--cancel", is_flag=True, help="Give up a rotation whose second step has not been done.")
@click.option("--public", metavar="KEY", help="The key to come was born on the node.")
@click.option("--json", "as_json", is_flag=True, help=f"Print JSON, schema {SCHEMA}.")
@directory_option
def rotate(
    words: tuple[str, ...],
    shared: tuple[str, str] | None,
    do: bool,
    cancel: bool,
    public: str | None,
    as_json: bool,
    directory: Path | None,
) -> int:
    """
    Replace a key while the network runs: says the steps, who needs which file next, and what becomes of sessions.

    Nothing changes without --do, which does the next step in the lock file and in the directory of keys; `ginnel render` then has
    the files to hand out.
    """
    file, nodes = split_names(words)
    opened = open_network(file)
    ring = Keyring(directory or beside(opened.file))
    ring.check()
    if shared is not None:
        if nodes or public is not None or cancel:
            raise click.UsageError("--psk A B takes no NODE, --public or --cancel")
        return _rotate_shared(opened, ring, shared, do, as_json)
    if len(nodes) != 1:
        raise click.UsageError("expected one NODE, or --psk A B")
    (node,) = nodes
    if node not in opened.lock.nodes:
        raise UsageError(f"there is no node {ui.printable(node)!r} in {opened.file}")
    pin = opened.lock.nodes[node]
    if pin.public_key is None:
        raise GinnelError(f"{node} has no key yet\n  hint: `ginnel keys new {node}`")
    steps = rotation.key_steps(opened.compiled(), node)
    if cancel:
        if pin.next_key is None:
            raise GinnelError(f"no rotation of {node} has begun")
        keep(opened, rotation.cancelled(opened.lock, node))
        ring.drop([f"{node}.next.key"])
        click.echo(f"given up; its peers may forget {pin.next_key.base64()}: hand out {', '.join(steps[0].files)} again")
        return ui.DONE
    interrupted = _is_interrupted(ring, node, pin)
    now = 1 if interrupted or pin.next_key is not None else 0
    if do and interrupted:
        ring.promote(node)
    elif do and now == 0:
        keep(opened, rotation.prepared(opened.lock, node, _key_to_come(ring, node, pin.public_key, public)))
    elif do:
        if public is not None:
            raise click.UsageError("--public goes with the first step; this is the second")
        _switch(opened, ring, node)
    _tell(node, steps, now, do, as_json)
    return ui.DONE


def _is_interrupted(ring: Keyring, node: str, pin: Pinned) -> bool:
    """Whether the second step ended between its halves: everybody knows the key, and here it still waits for its turn."""
    waiting = ring.private_key(node, following=True) if pin.next_key is None else None
    return waiting is not None and public_key(waiting) == pin.public_key


def _key_to_come(ring: Keyring, node: str, present: PublicKey, public: str | None) -> PublicKey:
    if public is not None:
        key = parse_public(public)
    elif ring.private_key(node) is None:
        raise GinnelError(
            f"the private key of {node} is on the node, and so should the next one be\n"
            f"  hint: make it there in a file of its own, then `ginnel keys rotate {node} --do --public KEY`"
        )
    else:
        key = public_key(ring.private_key(node, following=True) or ring.new_private_key(node, following=True))
    if key == present:
        raise GinnelError(f"that is the key that {node} has")
    return key


def _switch(opened: Opened, ring: Keyring, node: str) -> None:
    """The lock first: a key in the directory that nothing names yet is found again, a key that is lost is not."""
    waiting: Secret | None = ring.private_key(node, following=True)
    coming = opened.lock.nodes[node].next_key
    if waiting is not None and public_key(waiting) != coming:
        raise GinnelError(
            f"{ring.directory / node}.next.key is not the key that its peers were told of\n  hint: --cancel, and begin anew"
        )
    keep(opened, rotation.switched(opened.lock, node, today()))
    if waiting is not None:
        ring.promote(node)


def _rotate_shared(opened: Opened, ring: Keyring, shared: tuple[str, str], do: bool, as_json: bool) -> int:
    left, right = shared
    found = [want for want in wanted(opened, shared) if isinstance(want, Shared) and {want.left, want.right} == {left, right}]
    peers = opened.compiled().node(left).peers if opened.network.has(left) else ()
    derived = opened.network.psk == "derived" and any(peer.psk and peer.name == right for peer in peers)
    if not found and not derived:
        raise GinnelError(f"the link between {ui.printable(left)} and {ui.printable(right)} has no preshared key")
    ipsec = not derived and found[0].ipsec
    step = rotation.ipsec_step(left, right) if ipsec else rotation.psk_step(left, right)
    if do:
        if ipsec:
            ring.new_ipsec(left, right, replace=True)
        elif not derived:
            ring.new_psk(left, right, replace=True)
        if not ipsec:
            keep(opened, rotation.renewed(opened.lock, left, right, today()))
    _tell(f"{left} — {right}", (step,), 0, do, as_json)
    return ui.DONE


def _tell(who: str, steps: Sequence[rotation.Step], now: int, done: bool, as_json: bool) -> None:
    """The steps, and where in them one is."""
    states = ["done" if number < now + done else "next" if number == now + done else "then" for number in range(len(steps))]
    if as_json:
        listed = [
            {
                "step": number,
                "state": state,
                "what": step.what,
                "files": step.files,
                "order": step.order,
                "sessions_survive": step.survive,
                "sessions": step.sessions,
            }
            for number, (step, state) in enumerate(zip(steps, states, strict=True), 1)
        ]
        click.echo(json.dumps({"schema": SCHEMA, "rotation": who, "steps": listed}, indent=1))
        return
    for number, (step, state) in enumerate(zip(steps, states, strict=True), 1):
        click.echo(f"{number}  {state}  {step.what}")
        click.echo(f"         new files: {', '.join(step.files)} ({step.order})")
        click.echo(f"         sessions: {step.sessions}")
    if done:
        handed = " ".join(f"--for {name}" for name in steps[now].files[:1])
        click.echo(f"hand out the files of {', '.join(steps[now].files)}: ginnel render {handed} …", err=True)
    elif now < len(steps):
        click.echo("nothing was changed: --do does the next step", err=True)
