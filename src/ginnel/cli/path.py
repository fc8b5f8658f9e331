"""
`ginnel path`: how a packet gets from one place of a network to another, hop by hop, and its answer back; or what stops it.

Nothing is sent: it is worked out from the network file. What runs may differ; `ginnel lab` rehearses it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ginnel.cli import ui
from ginnel.cli.network import open_network, split_file
from ginnel.errors import UsageError

if TYPE_CHECKING:
    from ginnel.network.reach import Fleet, Verdict


@click.command()
@click.argument("words", metavar="[FILE] FROM TO", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, schema ginnel.path/1.")
def path(words: tuple[str, ...], as_json: bool) -> int:
    """
    Say how a packet gets from FROM to TO and its answer back, hop by hop, or which rule stops it.

    FILE is a network file (./network.toml without one). FROM and TO are nodes or addresses, TO perhaps with a port: lyon,
    10.20.0.5, 10.20.0.5:443, [fd10::5]:443. Exit code 1: it does not get there.
    """
    file, (source, target) = split_file(words, 2, "[FILE] FROM TO")
    return _say(_verdict(_of_network(file), source, target), as_json=as_json)


def _of_network(file: Path | None) -> Fleet:
    from ginnel.network.reach.expect import fleet_of

    return fleet_of(open_network(file).compiled())


def _verdict(fleet: Fleet, source: str, target: str) -> Verdict:
    from ginnel.network.reach import reach, resolve
    from ginnel.network.reach.routes import Routings

    try:
        return reach(Routings(fleet), resolve(fleet, source), resolve(fleet, target))
    except ValueError as error:
        known = ", ".join(list(fleet.hosts)[:12])
        raise UsageError(f"{ui.printable(str(error))}\n  hint: nodes are {ui.printable(known)}") from None


def _say(verdict: Verdict, *, as_json: bool) -> int:
    from ginnel.network.reach.text import render

    if as_json:
        print(json.dumps(verdict.to_json(), indent=1, ensure_ascii=False))
    else:
        sys.stdout.write(_coloured(render(verdict)))
    return ui.DONE if verdict.reaches else ui.FAILED


def _coloured(text: str) -> str:
    if not ui.has_colour(sys.stdout):
        return text
    first, newline, rest = text.partition("\n")
    lines = [ui.paint(line, "red", on=line.startswith("  ✗")) if line.startswith("  ✗") else line for line in rest.split("\n")]
    style = "red" if " does not reach " in first else "green"
    return ui.paint(first, style, on=True) + newline + "\n".join(lines)
