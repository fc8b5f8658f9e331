"""
`ginnel path`: how a packet gets from one place of a network to another, hop by hop, and its answer back; or what stops it.

Nothing is sent: it is worked out from the network file, or from the configurations that hosts run already. What runs may differ;
`ginnel lab` rehearses it.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from ginnel.cli import ui
from ginnel.cli.network import open_network, split_file
from ginnel.errors import UsageError

if TYPE_CHECKING:
    from ginnel.network import Compilation
    from ginnel.network.reach import Fleet, Verdict
    from ginnel.network.reach.standby import Standby


@click.command()
@click.argument("words", metavar="[FILE] FROM TO", nargs=-1, required=True)
@click.option("--without", metavar="NODE", help="As it is while NODE is down, and what it carried goes another way.")
@click.option(
    "--hosts",
    multiple=True,
    metavar="[HOST=]PATH",
    help="Follow the packet through configurations that hosts run, as `ginnel import` reads them, instead of FILE.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, schema ginnel.path/1.")
def path(words: tuple[str, ...], without: str | None, hosts: tuple[str, ...], as_json: bool) -> int:
    """
    Say how a packet gets from FROM to TO and its answer back, hop by hop, or which rule stops it.

    FILE is a network file (./network.toml without one). FROM and TO are nodes or addresses, TO perhaps with a port: lyon,
    10.20.0.5, 10.20.0.5:443, [fd10::5]:443. Exit code 1: it does not get there.
    """
    if hosts:
        if len(words) != 2 or without is not None:
            raise UsageError("--hosts takes the place of FILE, and goes with FROM and TO alone")
        return _say(_verdict(_running(hosts), *words), (), as_json=as_json)
    file, (source, target) = split_file(words, 2, "[FILE] FROM TO")
    compilation = open_network(file).compiled()
    from ginnel.network.reach.expect import fleet_of
    from ginnel.network.reach.standby import standby

    if without is not None:
        return _say(_verdict(_after(compilation, without), source, target), (), as_json=as_json)
    verdict = _verdict(fleet_of(compilation), source, target)
    ready = tuple(standby(compilation, verdict)) if verdict.reaches else ()
    return _say(verdict, ready, as_json=as_json)


def _after(compilation: Compilation, failed: str) -> Fleet:
    """The hosts when a node has failed and the others have moved what it carried."""
    from ginnel.network.reach.expect import fleet_of

    if all(node.name != failed for node in compilation.network.nodes):
        raise UsageError(f"--without: there is no node {ui.printable(failed)!r}")
    return fleet_of(compilation.without(failed), down=(failed,))


def _running(paths: tuple[str, ...]) -> Fleet:
    """The hosts as their own files have them."""
    from ginnel.cli.importing import read_sources, show_findings
    from ginnel.network.importing import read_hosts
    from ginnel.network.reach import Fleet
    from ginnel.network.reach.behind import with_lans

    imported = read_hosts(read_sources(paths))
    show_findings([finding for finding in imported.findings if finding.severity == "error"])
    return Fleet(with_lans(imported.hosts))


def _verdict(fleet: Fleet, source: str, target: str) -> Verdict:
    from ginnel.network.reach import reach, resolve
    from ginnel.network.reach.routes import Routings

    try:
        return reach(Routings(fleet), resolve(fleet, source), resolve(fleet, target))
    except ValueError as error:
        known = ", ".join(list(fleet.hosts)[:12])
        raise UsageError(f"{ui.printable(str(error))}\n  hint: nodes are {ui.printable(known)}") from None


def _say(verdict: Verdict, ready: tuple[Standby, ...], *, as_json: bool) -> int:
    from ginnel.network.reach.text import held_ready, render

    if as_json:
        document = verdict.to_json()
        document["standby"] = [
            {"without": each.without, "reaches": each.verdict.reaches, "why": each.verdict.why} for each in ready
        ]
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        sys.stdout.write(_coloured(render(verdict) + held_ready(ready)))
    return ui.DONE if verdict.reaches else ui.FAILED


def _coloured(text: str) -> str:
    if not ui.has_colour(sys.stdout):
        return text
    first, *rest = text.split("\n")
    lines = [ui.paint(line, "red", on=True) if line.startswith("  ✗") else line for line in rest]
    style = "red" if " does not reach " in first else "green"
    return "\n".join([ui.paint(first, style, on=True), *lines])
