"""
`ginnel node`: nodes put into a network file, taken out, renamed, listed.

The file keeps its comments, its order and every byte that the change is not about. What would come out is checked before
anything is written; a network that would have mistakes stays as it is. The lock file goes along: a new node's addresses are
pinned at once, a renamed node keeps its own. So does the directory of keys, where there is one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from ginnel.cli import ui
from ginnel.cli.keyring import Keyring, beside
from ginnel.cli.network import Opened, files_of, find, lock_of, open_network, read, split_file
from ginnel.cli.replace import difference, replace_texts
from ginnel.errors import ConfigError, GinnelError, UsageError
from ginnel.network import Lock, allocate, parse_lock
from ginnel.network.edit import add_node, remove_node, rename_node
from ginnel.network.file import read_form, read_network
from ginnel.network.language.sources import Sources
from ginnel.network.language.values import parse_name

SCHEMA = "ginnel.node-list/1"

_dry_run = click.option("--dry-run", "-n", is_flag=True, help="Print what would change, and change nothing.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def node() -> None:
    """Put a node into the network file, take it out, rename it; list them all."""


# ---------------------------------------------------------------- add


@node.command()
@click.argument("words", nargs=-1, required=True, metavar="[FILE] NAME")
@click.option("--endpoint", metavar="HOST[:PORT]", help="Where others reach it; without one it is behind NAT.")
@click.option("--lan", "lans", multiple=True, metavar="PREFIX", help="A LAN behind it; SEEN=REAL for one that is mapped.")
@click.option("--relay", is_flag=True, help="It may carry between nodes that have no link.")
@click.option("--exit", "exit_", metavar="NODE", help="All its traffic leaves through that node.")
@click.option("--region", metavar="REGION", help="Whose relays and hub it prefers.")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="A group that it becomes a member of.")
@click.option("--runs", metavar="WHAT", help='What runs it: "wg-quick", "networkd", "routeros" …')
@click.option("--dns", "resolvers", multiple=True, metavar="ADDRESS", help="Its resolvers.")
@click.option("--address", "addresses", multiple=True, metavar="ADDRESS", help="A tunnel address that it must have.")
@click.option("--listen-port", type=int, metavar="PORT", help="Where it listens.")
@click.option("--into", metavar="FILE", help="Of a directory: which of its files; else the last that has nodes.")
@_dry_run
def add(
    words: tuple[str, ...],
    endpoint: str | None,
    lans: tuple[str, ...],
    relay: bool,
    exit_: str | None,
    region: str | None,
    groups: tuple[str, ...],
    runs: str | None,
    resolvers: tuple[str, ...],
    addresses: tuple[str, ...],
    listen_port: int | None,
    into: str | None,
    dry_run: bool,
) -> int:
    """
    Add a node, behind the last one of the file.

    FILE is ./network.toml when only a NAME is given. Nobody's address changes.
    """
    file, (name,) = split_file(words, 1, "[FILE] NAME")
    keys: dict[str, object] = {
        "endpoint": endpoint,
        "lans": [_lan(text) for text in lans],
        "region": region,
        "relay": relay,
        "runs": runs,
        "exit": exit_,
        "dns": list(resolvers),
        "address": list(addresses),
        "listen_port": listen_port,
    }
    before = _Before(file, adding=_name(name))
    said = {key: value for key, value in keys.items() if value not in (None, False, [])}
    new = add_node(before.texts, name, said, [group.removeprefix("@") for group in groups], before.one(into))
    return before.become(new, {}, name, f"added {name}", dry_run=dry_run)


def _lan(text: str) -> object:
    seen, mapped, real = text.partition("=")
    return {"seen": seen, "real": real} if mapped else text


def _name(text: str) -> str:
    try:
        return parse_name(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


# ---------------------------------------------------------------- remove, rename


@node.command()
@click.argument("words", nargs=-1, required=True, metavar="[FILE] NAME")
@_dry_run
def remove(words: tuple[str, ...], dry_run: bool) -> int:
    """
    Take a node out, with its links and the expectations about it.

    Its addresses are free again. Where something needs it (it is somebody's exit, the only hub) nothing is changed.
    """
    file, (name,) = split_file(words, 1, "[FILE] NAME")
    before = _Before(file)
    return before.become(remove_node(before.texts, name), {}, None, f"removed {ui.printable(name)}", dry_run=dry_run)


@node.command(short_help="Call a node by another name everywhere.")
@click.argument("words", nargs=-1, required=True, metavar="[FILE] OLD NEW")
@_dry_run
def rename(words: tuple[str, ...], dry_run: bool) -> int:
    """
    Call a node by another name, wherever the file names it, and in the lock file.

    It keeps its addresses and its keys. Files that were rendered for it before have the old name in them.
    """
    file, (old, new) = split_file(words, 2, "[FILE] OLD NEW")
    before = _Before(file)
    texts = rename_node(before.texts, old, _name(new))
    return before.become(texts, {old: new}, None, f"renamed {ui.printable(old)} to {new}", dry_run=dry_run)


class _Before:
    """The network as its files are now: of the right form, while its sense may be what the change is to mend."""

    def __init__(self, file: Path | None, adding: str | None = None) -> None:
        self.path = find(file)
        texts = [(str(each), read(each)) for each in files_of(self.path)]
        with ui.working(f"reading {self.path}"):
            sources = Sources(texts, str(self.path))
            first = adding is not None and not {"node", "tunnel"} & set(sources.document)
            read_form([*texts, ("", f"[node.{adding}]")] if first else texts, str(self.path))
        # Of a directory, node files that lie there are none of it.
        self.texts = {name: text for name, text in texts if name in sources.names}
        self.lock_file = lock_of(self.path)
        self.pinned = read(self.lock_file) if self.lock_file.exists() else None

    def one(self, into: str | None) -> str:
        """The file that is meant by `--into`; empty for none."""
        if into is None:
            return ""
        found = [name for name in self.texts if name == into or Path(name).name == into]
        if not found:
            hint = ", ".join(Path(name).name for name in self.texts)
            raise UsageError(f"--into: {ui.printable(into)} is no file of this network\n  hint: it has {hint}")
        return found[0]

    def become(self, new: Mapping[str, str], renames: Mapping[str, str], added: str | None, done: str, *, dry_run: bool) -> int:
        """Check what would come out, and write it with its lock file."""
        texts = {**self.texts, **new}
        lock = parse_lock(self.pinned, str(self.lock_file)) if self.pinned is not None else Lock()
        for before, after in renames.items():
            lock = lock.renamed(before, after) if before in lock.nodes else lock
        try:
            with ui.working(f"checking {self.path}"):
                parsed = read_network(list(texts.items()), str(self.path))
                lock = allocate(parsed.network, lock)
        except ConfigError as error:
            raise GinnelError(f"nothing was changed: the network would have mistakes\n{error}") from None
        if dry_run:
            sys.stdout.write(difference(new, self.texts, colour=ui.has_colour(sys.stdout)))
            return ui.DONE
        keys = [move for before, after in renames.items() for move in Keyring(beside(self.path)).renames(before, after)]
        replace_texts(new, self.texts)
        for key, target in keys:
            key.rename(target)
        if added is not None or self.pinned is not None:
            Opened(self.path, parsed.network, lock, self.lock_file, self.pinned, parsed.sources).pin()
        for name in new:
            click.echo(f"{ui.printable(name)}: {done}")
        if keys:
            click.echo(f"{ui.printable(str(beside(self.path)))}: {' '.join(target.name for _, target in keys)}")
        if added is not None:
            click.echo(f"{ui.printable(str(self.lock_file))}: {_addresses(lock, added)}")
        return ui.DONE


def _addresses(lock: Lock, name: str) -> str:
    """A node's tunnel addresses as text."""
    import ipaddress

    return " ".join(str(ipaddress.ip_address(packed)) for packed in lock.nodes[name].address)


# ---------------------------------------------------------------- list


@node.command("list", short_help="List the nodes, one a line.")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(file: Path | None, as_json: bool) -> int:
    """List the nodes: where they are reached, their addresses, their LANs, what runs them."""
    opened = open_network(file)
    rows = []
    for each in opened.network.nodes:
        endpoint = each.endpoint
        host = f"[{endpoint.host}]" if endpoint and ":" in endpoint.host and endpoint.port else endpoint.host if endpoint else ""
        rows.append(
            {
                "name": each.name,
                "endpoint": f"{host}:{endpoint.port}" if endpoint and endpoint.port else host or None,
                "addresses": _addresses(opened.lock, each.name).split(),
                "lans": [str(lan) for lan in each.lans],
                "region": each.region,
                "relay": each.relay,
                "hub": each.name in opened.network.hubs,
                "exit": each.exit,
                "runs": each.runs,
            }
        )
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "network": opened.network.name, "nodes": rows}, indent=1))
        return ui.DONE
    table = [("NODE", "ENDPOINT", "ADDRESSES", "LANS", "RUNS", "")]
    for row in rows:
        marks = [word for word in ("hub", "relay") if row[word]]
        marks += [f"{word} {row[word]}" for word in ("region", "exit") if row[word]]
        addresses, lans = (" ".join(row[key]) for key in ("addresses", "lans"))  # type: ignore[arg-type]
        table.append(
            (str(row["name"]), str(row["endpoint"] or "behind NAT"), addresses, lans, str(row["runs"]), ", ".join(marks))
        )
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    bold = ui.has_colour(sys.stdout)
    for number, line in enumerate(table):
        text = "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[5]]).rstrip()
        click.echo(ui.paint(text, "bold", on=bold) if number == 0 else text)
    return ui.DONE
