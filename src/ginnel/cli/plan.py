"""
`ginnel plan`: what would have to be done on which host, so that what is becomes what the network file says; nothing is done.

What is: foreign configurations or rendered files (`--against DIR`), an older network file with its lock file
(`--against OLD.toml`), or the network itself with one node gone (`--without NODE`, what the others would do).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ginnel.cli import ui
from ginnel.cli.network import Opened, open_network
from ginnel.cli.progress import Progress
from ginnel.errors import UsageError

if TYPE_CHECKING:
    from ginnel.network import Compilation
    from ginnel.network.plan import Plan


@click.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="[HOST=]PATH", multiple=True, help="What is: configurations, a directory of them, an older network file."
)
@click.option("--without", metavar="NODE", help="What the others would do if NODE failed.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is something to do.")
@click.option("--short", is_flag=True, help="Without the commands.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, schema ginnel.network-plan/1.")
def plan(file: Path | None, against: tuple[str, ...], without: str | None, exit_code: bool, short: bool, as_json: bool) -> int:
    """
    Say what would have to be done on each host, in order, and whether sessions survive.

    FILE is the network file as it is to be (./network.toml without one). Nothing is done, and nothing is asked of any host. Exit
    code 1 when something of PATH could not be read.
    """
    from ginnel.network.plan.text import render

    if bool(against) == (without is not None):
        raise UsageError("expected --against PATH (what is), or --without NODE")
    opened = open_network(file)
    found, whole = (_without(opened, without), True) if without is not None else _against(opened, against)
    if as_json:
        print(json.dumps(found.json(), indent=1, ensure_ascii=False))
    else:
        sys.stdout.write(_coloured(render(found, commands=not short)))
    return ui.FAILED if not whole or (exit_code and not found.empty) else ui.DONE


def _without(opened: Opened, name: str) -> Plan:
    from ginnel.network.plan import HostPlan, Plan, plan_compilations

    if name not in opened.lock.nodes:
        raise UsageError(
            f"--without: there is no node {ui.printable(name)!r}\n  hint: nodes are {', '.join(list(opened.lock.nodes)[:12])}"
        )
    with Progress("compiling") as progress:
        compiled = _made(opened.compiled(), progress)
        progress.stage("comparing")
        found = plan_compilations(compiled, compiled.without(name))
    gone: list[HostPlan] = [host for host in found.hosts if host.name != name]
    return Plan(tuple(gone), found.unchanged)


def _against(opened: Opened, paths: Sequence[str]) -> tuple[Plan, bool]:
    """The plan, and whether all of what is could be read."""
    from ginnel.cli.importing import read_sources, show_findings
    from ginnel.network.importing import read_hosts
    from ginnel.network.plan import plan as plan_hosts
    from ginnel.network.plan import plan_compilations

    if len(paths) == 1 and _is_network(Path(paths[0])):
        with Progress("reading") as progress:
            old, new = (_made(each.compiled(), progress) for each in (open_network(Path(paths[0])), opened))
            progress.stage("comparing")
            return plan_compilations(old, new), True
    imported = read_hosts(read_sources(paths))
    # Of what is read here only what was lost on the way can make the plan wrong.
    show_findings([finding for finding in imported.findings if finding.severity != "note"])
    whole = all(finding.severity != "error" for finding in imported.findings)
    compiled = [node.host() for node in opened.compiled().nodes() if node.node.runs != "other"]
    return plan_hosts(imported.hosts, compiled), whole


def _made(compilation: Compilation, progress: Progress) -> Compilation:
    """With every description made, in sight of whoever waits."""
    progress.stage("compiling")
    for _ in progress.over(compilation.nodes(), len(compilation.network.nodes)):
        pass
    return compilation


def _is_network(path: Path) -> bool:
    """Whether a path is a network file, or a directory of one: those have a `[network]`."""
    from ginnel.cli.network import files_of, read

    if path.is_dir():
        if not any(path.glob("*.toml")):
            return False
    elif path.suffix != ".toml":
        return False
    return any(line.strip().startswith("[network]") for each in files_of(path) for line in read(each).splitlines())


def _coloured(text: str) -> str:
    styles = {"+": "green", "-": "red", "~": "yellow"}
    lines = []
    on = ui.has_colour(sys.stdout)
    for line in map(ui.printable, text.split("\n")):
        style = styles.get(line[:1], "dim" if line.startswith("        ") else "")
        lines.append(ui.paint(line, style, on=on) if style else line)
    return "\n".join(lines)
