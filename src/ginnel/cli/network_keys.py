"""
`ginnel keys`: which keys a network needs, where they are, how old they are, and how one is replaced.

A private key is best born on its node and stays there: `ginnel keys new --here` makes it there and prints the public key, which
`ginnel keys new FILE NODE --public KEY` pins in the lock file. Or it is made into the directory beside the network file
(`keyring`), from
which `ginnel render --keys` puts it into files. No command prints a secret, and none takes one as an argument.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ginnel.cli import ui
from ginnel.cli.files import CONFIG_DIR, write_secret
from ginnel.cli.keyring import Keyring, beside
from ginnel.cli.keys_words import SCHEMA, directory_option, keep, parse_public, split_names
from ginnel.cli.network import Opened, open_network
from ginnel.cli.rotate import rotate
from ginnel.cli.wanted_keys import Private, Root, Shared, Wanted, is_there, make, today, wanted, with_key
from ginnel.config.wgquick import is_interface_name
from ginnel.crypto import generate_private_key, public_key
from ginnel.errors import GinnelError, UsageError
from ginnel.network import Lock

#: What `status` calls old, days, unless it is told.
OLD_DAYS = 365


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def keys() -> None:
    """The keys of a network: made, looked at, replaced."""


# ---------------------------------------------------------------- new


@keys.command()
@click.argument("words", nargs=-1, metavar="[FILE] [NODE]...")
@click.option("--public", metavar="KEY", help="Pin the public key of one NODE whose private key was born there.")
@click.option("--here", metavar="INTERFACE", help="Make the private key of this host's interface; prints its public key.")
@directory_option
def new(words: tuple[str, ...], public: str | None, here: str | None, directory: Path | None) -> int:
    """
    Make the keys that are missing.

    For all nodes of FILE or for the NODEs named: private keys, preshared keys and secrets of IPsec links, into a directory that
    only you can read; public keys are pinned in the lock file. What is there already stays as it is.
    """
    if here is not None:
        if words or public is not None or directory is not None:
            raise click.UsageError("--here goes alone: it makes the key of an interface of this host")
        return _new_here(here)
    file, nodes = split_names(words)
    opened = open_network(file)
    known = [node.name for node in opened.network.nodes]
    for name in nodes:
        if name not in known:
            raise UsageError(f"there is no node {ui.printable(name)!r} in {opened.file}")
    if public is not None:
        if len(nodes) != 1:
            raise click.UsageError("--public is the key of one NODE")
        return _pin_public(opened, nodes[0], public)
    ring = Keyring(directory or beside(opened.file))
    ring.check()
    lock, made = opened.lock, 0
    for want in wanted(opened, nodes or known):
        if is_there(want, ring, lock):
            continue
        lock = make(want, ring, lock)
        made += 1
        click.echo(f"{want.who}  {want.what}  {ring.directory / want.file}")
    keep(opened, lock)
    if not made:
        click.echo("nothing was missing", err=True)
    return ui.DONE


def _new_here(interface: str) -> int:
    if not is_interface_name(interface):
        raise UsageError(f"--here: expected the name of an interface such as wg0, found {ui.printable(interface)!r}")
    path = CONFIG_DIR / f"{interface}.key"
    if path.exists():
        hint = f"`ginnel pubkey < {path}` shows its public key"
        raise GinnelError(f"{path} exists, and a key that is in use must not be lost\n  hint: {hint}")
    try:
        CONFIG_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise GinnelError(f"{CONFIG_DIR}: {error.strerror}") from None
    private = generate_private_key()
    write_secret(path, private.reveal_base64() + "\n")
    pin = "ginnel keys new NODE --public KEY"
    ui.StderrConsole().note(f"{path} has the private key, and stays here; where the network file is: {pin}")
    click.echo(public_key(private).base64())
    return ui.DONE


def _pin_public(opened: Opened, node: str, text: str) -> int:
    key = parse_public(text)
    pinned = opened.lock.nodes[node]
    if pinned.public_key == key:
        click.echo("nothing to do: it is pinned", err=True)
        return ui.DONE
    if pinned.public_key is not None:
        raise GinnelError(
            f"{node} has the public key {pinned.public_key.base64()} already, and its peers know that one\n"
            f"  hint: `ginnel keys rotate {node} --public KEY` replaces it step by step"
        )
    owner = next((name for name, pin in opened.lock.nodes.items() if pin.public_key == key), None)
    if owner is not None:
        raise GinnelError(f"that is the public key of {owner}; two nodes with one key take each other's sessions")
    keep(opened, with_key(opened.lock, node, key))
    click.echo(f"{node}  public key  {opened.lock_file}")
    return ui.DONE


# ---------------------------------------------------------------- show, status


@keys.command()
@click.argument("words", nargs=-1, metavar="[FILE] [NODE]...")
@click.option("--json", "as_json", is_flag=True, help=f"Print JSON, schema {SCHEMA}.")
@directory_option
def show(words: tuple[str, ...], as_json: bool, directory: Path | None) -> int:
    """Public keys, and where the private ones are."""
    file, nodes = split_names(words)
    opened = open_network(file)
    _looked_at(opened, nodes, Keyring(directory or beside(opened.file)), as_json)
    return ui.DONE


@keys.command(short_help="Judge them: ages, what is missing.")
@click.argument("words", nargs=-1, metavar="[FILE] [NODE]...")
@click.option("--max-age", metavar="DAYS", type=click.IntRange(1), default=OLD_DAYS, show_default=True, help="Older is too old.")
@click.option("--json", "as_json", is_flag=True, help=f"Print JSON, schema {SCHEMA}.")
@directory_option
def status(words: tuple[str, ...], max_age: int, as_json: bool, directory: Path | None) -> int:
    """Ages, and what is missing, too old or in the middle of a rotation; exit 1 when there is such a thing."""
    file, nodes = split_names(words)
    opened = open_network(file)
    return ui.FAILED if _looked_at(opened, nodes, Keyring(directory or beside(opened.file)), as_json, max_age) else ui.DONE


def _looked_at(opened: Opened, nodes: Sequence[str], ring: Keyring, as_json: bool, max_age: int | None = None) -> bool:
    """Print what there is; whether something is wrong."""
    ring.check()
    known = [node.name for node in opened.network.nodes]
    for name in nodes:
        if name not in known:
            raise UsageError(f"there is no node {ui.printable(name)!r} in {opened.file}")
    rows = [_row(want, opened.lock, ring, max_age) for want in wanted(opened, nodes or known)]
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "network": opened.network.name, "keys": rows}, indent=1))
    else:
        shown = [
            (row["who"], row["what"], row["public_key"] or "", _age(row["age_days"]), row["where"], "; ".join(row["problems"]))
            for row in rows
        ]
        _print_table(("WHO", "WHAT", "PUBLIC KEY", "AGE", "WHERE", "PROBLEM" if max_age is not None else ""), shown)
    return any(row["problems"] for row in rows)


def _row(want: Wanted, lock: Lock, ring: Keyring, max_age: int | None) -> dict[str, Any]:
    problems: list[str] = []
    key, coming, since, where = None, None, "", ""
    match want:
        case Private(node):
            pin = lock.nodes[node]
            key, coming, since = pin.public_key, pin.next_key, pin.key_since
            private = ring.private_key(node)
            where = str(ring.directory / want.file) if private is not None else "on the node" if key is not None else ""
            if private is not None and key is not None and public_key(private) != key:
                problems.append("the private key here is not that of the pinned public key")
            if coming is not None:
                problems.append(f"in rotation: `ginnel keys rotate {node}`")
        case Shared(left, right, _):
            since = "" if want.ipsec else lock.pair(left, right).since
            where = str(ring.directory / want.file) if is_there(want, ring, lock) else ""
        case Root():
            where = str(ring.directory / want.file) if is_there(want, ring, lock) else ""
    age = (dt.date.fromisoformat(today()) - dt.date.fromisoformat(since)).days if since else None
    if not where:
        problems.append("missing: `ginnel keys new`")
    if max_age is not None and age is not None and age > max_age:
        problems.append(f"older than {max_age} days")
    return {
        "who": want.who,
        "what": want.what,
        "public_key": None if key is None else key.base64(),
        "next_key": None if coming is None else coming.base64(),
        "since": since or None,
        "age_days": age,
        "where": where,
        "problems": problems,
    }


def _age(days: int | None) -> str:
    return "?" if days is None else f"{days} d"


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


keys.add_command(rotate)
