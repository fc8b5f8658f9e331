"""
`ginnel lab [FILE]`: rehearse a network on this machine, and say what is true of it.

Exit code 0 only when everything is as the file says; 1 when something is not (each thing named, with what to look at); 2 when the
file or the call is wrong. The tables go to stdout, progress to stderr.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ginnel.cli import ui
from ginnel.errors import UsageError


def _percent(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from ginnel.network.file import parse_ratio

    return None if value is None else _parsed(parameter, parse_ratio, value)


def _milliseconds(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from ginnel.network.file import parse_milliseconds

    return None if value is None else _parsed(parameter, parse_milliseconds, value)


def _parsed(parameter: click.Parameter, parse: object, value: str) -> float:
    try:
        return float(parse(value))  # type: ignore[operator]
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


@click.command()
@click.argument("words", nargs=-1, metavar="[FILE] [COMMAND]...")
@click.option("--keep", is_flag=True, help="Leave it up, and say how to look around and how to end it.")
@click.option("--down", is_flag=True, help="End the lab of FILE that was left up.")
@click.option("--enter", metavar="NODE", help="Open a shell (or run -- COMMAND) in a namespace of the lab that was left up.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, schema ginnel.lab/1.")
@click.option("--throughput", metavar="SECONDS", type=click.FloatRange(0, 60), default=3.0, help="Load on one link; 0: none.")
@click.option("--loss", metavar="SHARE", callback=_percent, help="Every underlay link loses so much, such as 1%.")
@click.option(
    "--delay", metavar="TIME", callback=_milliseconds, help="Every underlay link delays so much each way, such as 20ms."
)
@click.option("--jitter", metavar="TIME", callback=_milliseconds, help="The delay varies by so much.")
@click.option("--reorder", metavar="SHARE", callback=_percent, help="So many frames arrive late.")
@click.option("--duplicate", metavar="SHARE", callback=_percent, help="So many frames arrive twice.")
@click.option(
    "--seed", metavar="NUMBER", type=click.IntRange(0), help="Of the faults: the same seed does the same to the same packets."
)
@click.option("--all-wg-quick", is_flag=True, help="Run stock wg-quick on every node, as hosts without ginnel would.")
def lab(
    words: tuple[str, ...],
    keep: bool,
    down: bool,
    enter: str | None,
    as_json: bool,
    throughput: float,
    loss: float | None,
    delay: float | None,
    jitter: float | None,
    reorder: float | None,
    duplicate: float | None,
    seed: int | None,
    all_wg_quick: bool,
) -> int:
    """
    Rehearse a whole network on this machine.

    FILE is a network file or a directory of them, ./network.toml when none is given. Every node becomes a namespace that runs the
    real thing; between them are an internet, and NAT before nodes without an endpoint. At the end stands the truth table: what is
    configured, alive and carrying, who reaches whom, which MTU, how fast, and that nothing was in clear.
    """
    from ginnel.cli.network import find

    named = bool(words) and (enter is None or words[0].endswith(".toml") or Path(words[0]).is_dir())
    file = find(Path(words[0]) if named else None)
    command = words[1:] if named else words
    if command and enter is None:
        raise click.UsageError("COMMAND goes with --enter")
    if sum((keep, down, enter is not None)) > 1:
        raise click.UsageError("--keep, --down and --enter exclude one another")
    if down:
        return _down(file)
    if enter is not None:
        return _enter(file, enter, command)
    from ginnel.lab.namespaces import enter_user_namespace

    enter_user_namespace([sys.executable, *sys.orig_argv[1:]])
    overrides = {
        "loss": loss,
        "delay_ms": delay,
        "jitter_ms": jitter,
        "reorder": reorder,
        "duplicate": duplicate,
    }
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    return _rehearse(file, keep, as_json, throughput, given, seed, all_wg_quick)


def _rehearse(
    file: Path, keep: bool, as_json: bool, throughput: float, faults: dict[str, Any], seed: int | None, all_wg_quick: bool
) -> int:
    from ginnel.cli.network import open_network
    from ginnel.lab import table
    from ginnel.lab.keep import recall, remember
    from ginnel.lab.rehearse import Options, Rehearsal
    from ginnel.lab.require import require

    opened = open_network(file)
    network = opened.network
    if faults or seed is not None:
        of_node = {name: replace(item, **faults) for name, item in network.lab.of_node.items()}
        settings = replace(
            network.lab,
            faults=replace(network.lab.faults, **faults),
            of_node=of_node,
            seed=network.lab.seed if seed is None else seed,
        )
        network = replace(network, lab=settings)
    if all_wg_quick and network.kinds != {"wireguard"}:
        raise UsageError(f"{file}: --all-wg-quick: not all links are WireGuard, and wg-quick knows nothing else")
    if all_wg_quick:
        network = replace(network, nodes=tuple(replace(node, runs="wg-quick") for node in network.nodes))
    require(network, throughput > 0)
    if keep and (up := recall(file)):
        raise UsageError(f"a lab of {file} is already up ({up[0].lab_id})\n  hint: ginnel lab {shlex.quote(str(file))} --down")
    opened.pin()
    began = time.monotonic()

    def progress(text: str) -> None:
        stamp = ui.paint(f"{time.monotonic() - began:5.1f} s", "dim", on=ui.has_colour(sys.stderr))
        sys.stderr.write(f"{stamp}  {text}\n")
        sys.stderr.flush()

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    rehearsal = Rehearsal(network, opened.lock, Options(keep, throughput), progress)
    report = rehearsal.run()
    if as_json:
        print(json.dumps(report.to_json(), indent=1))
    elif sys.stdout.isatty():
        table.draw(report)
    else:
        sys.stdout.write(table.plain(report))
    if keep and rehearsal.went_up:
        held = rehearsal.world.namespaces.held
        first = network.nodes[0].name
        description = rehearsal.descriptions[first]
        interface = network.interface if description.wireguard else description.tunnels[0].config.name
        remember(file, rehearsal.lab_id, interface, held)
        _say_how_to_look(file, first, interface, held[first].pid)
    return ui.DONE if report.ok else ui.FAILED


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def _down(file: Path) -> int:
    from ginnel.lab.keep import end, recall

    records = recall(file)
    if not records:
        raise UsageError(f"no lab of {file} is up")
    for record in records:
        end(record)
        sys.stderr.write(f"ended lab {record.lab_id}: {len(record.held)} namespaces\n")
    return ui.DONE


def _enter(file: Path, name: str, command: tuple[str, ...]) -> int:
    from ginnel.lab.keep import enter_command, recall

    records = recall(file)
    if not records:
        raise UsageError(f"no lab of {file} is up\n  hint: ginnel lab {shlex.quote(str(file))} --keep")
    argv = [*enter_command(records[-1].find(name).pid), "--", *(command or (os.environ.get("SHELL", "/bin/sh"),))]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
    return subprocess.run(argv, check=False, env=environment).returncode


def _say_how_to_look(file: Path, node: str, interface: str, pid: int) -> None:
    from ginnel.lab.keep import enter_command

    name = shlex.quote(str(file))
    look = [
        (f"ginnel lab {name} --enter {node}", f"a shell on {node}"),
        (f"ginnel lab {name} --enter {node} ginnel show {interface}", f"what {node} runs"),
        (f"ginnel lab {name} --enter lan-{node} -- ping -c3 ADDRESS", "from a host in its LAN"),
        (f"{shlex.join(enter_command(pid))} ip route", "any program, without ginnel"),
    ]
    width = max(len(command) for command, _ in look)
    lines = ["", "It is left up. To look around:"]
    lines += [f"  {command.ljust(width)}   {what}" for command, what in look]
    lines += ["To end it:", f"  ginnel lab {name} --down"]
    sys.stderr.write("\n".join(lines) + "\n")
