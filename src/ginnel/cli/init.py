"""
`ginnel init` and `ginnel schema`: a network file to begin with, and what an editor needs to help with it.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from ginnel.cli import ui


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--name", metavar="NAME", help="What the network is called (default: the directory's name).")
@click.option("--pool", "pools", multiple=True, metavar="PREFIX", help="Where tunnel addresses come from; several: one of each.")
@click.option("--no-schema", is_flag=True, help="Leave out network.schema.json, which editors read.")
def init(file: Path | None, name: str | None, pools: tuple[str, ...], no_schema: bool) -> int:
    """
    Write a network file to begin with.

    FILE is ./network.toml when none is given. It has every section, most of them commented out, and two nodes to be replaced by
    yours. Beside it comes network.schema.json, by which editors complete keys. Nothing is ever overwritten.
    """
    from ginnel.cli.network import DEFAULT
    from ginnel.cli.replace import write_new
    from ginnel.errors import ConfigError, GinnelError, UsageError
    from ginnel.network import parse_network
    from ginnel.network.language.values import parse_name, parse_prefix
    from ginnel.network.schema import schema_text
    from ginnel.network.starter import SCHEMA_FILE, starting_file

    path = DEFAULT if file is None else file
    if path.is_dir():
        path /= DEFAULT
    if path.suffix != ".toml" or path.name.endswith(".lock.toml"):
        raise UsageError(f"{path}: expected the name of a network file, such as network.toml")
    if path.exists() or path.is_symlink():
        hint = f"`ginnel node add {shlex.quote(str(path))} NAME` adds to it"
        raise GinnelError(f"{path}: exists already, and is not overwritten\n  hint: {hint}")
    try:
        called = parse_name(name) if name is not None else _usual_name(path)
        prefixes = [parse_prefix(pool) for pool in pools or ("10.10.0.0/24", "fd10:10::/64")]
        text = starting_file(called, prefixes)
        if no_schema:
            text = text.partition("\n")[2]
        parse_network(text, str(path))
    except ValueError as error:
        raise UsageError(str(error)) from None
    except ConfigError as error:
        raise UsageError(f"a network of these would have mistakes:\n{error}") from None
    write_new(path, text)
    click.echo(f"wrote {ui.printable(str(path))}: the network {called}, with two nodes to be replaced by yours")
    schema = path.with_name(SCHEMA_FILE)
    if not no_schema and not schema.exists():
        write_new(schema, schema_text())
        click.echo(f"wrote {ui.printable(str(schema))}: for editors")
    shown = "" if path == DEFAULT else f" {shlex.quote(str(path))}"
    click.echo(f"next: edit it, then `ginnel check{shown}`; `ginnel lab{shown}` rehearses it", err=True)
    return ui.DONE


def _usual_name(path: Path) -> str:
    """The directory's name as far as a network may be called so, else "network"."""
    from ginnel.network.language.values import parse_name

    try:
        return parse_name(path.absolute().parent.name.lower().replace("_", "-").replace(".", "-"))
    except ValueError:
        return "network"


@click.command()
def schema() -> int:
    """
    Print the JSON Schema of the network file.

    Editors read it where a network file's first line is `#:schema network.schema.json` (or have it in their settings).
    """
    from ginnel.network.schema import schema_text

    sys.stdout.write(schema_text())
    return ui.DONE
