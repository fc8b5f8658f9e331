"""
`ginnel check`: everything that is wrong with a network, each with a stable code, its places, what comes of it and what to do.

Of a network file: its form, its sense, the hosts that it compiles to, and its expectations, judged by the model. Of anybody's
other configurations (node files too): the hosts together, so give those of several. A path is a network file when it is TOML and
no node file, or a directory with such a file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ginnel.cli import ui
from ginnel.cli.progress import Progress
from ginnel.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from ginnel.network.findings import Finding
    from ginnel.network.host import Host
    from ginnel.network.language.sources import Sources
    from ginnel.network.model import Network

SCHEMA = "ginnel.check/1"
_NETWORK = re.compile(r"^[ \t]*\[[ \t]*network[ \t]*\]", re.MULTILINE)
_TUNNEL = re.compile(r"^[ \t]*\[[ \t]*tunnel[ \t]*\.", re.MULTILINE)
_STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}


def _explain(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    from ginnel.network.codes.reference import explain, reference

    click.echo(reference() if value == "all" else explain(_code(value)), nl=False)
    ctx.exit()


def _code(text: str) -> str:
    from ginnel.network.codes.reference import find

    code = find(text)
    if code is None:
        raise UsageError(f"expected a code such as G0102 or its name, found {ui.printable(text)!r}\n  hint: `--explain all`")
    return code


@click.command()
@click.argument("paths", metavar="[FILE|DIR|[HOST=]FOREIGN]...", nargs=-1)
@click.option(
    "--ignore", "ignored", metavar="CODE", multiple=True, help="Leave out what has this code (several times for several)."
)
@click.option("--strict", is_flag=True, help="Warnings fail as well.")
@click.option("--json", "as_json", is_flag=True, help=f"As JSON, schema {SCHEMA}.")
@click.option(
    "--explain", metavar="CODE", is_eager=True, expose_value=False, callback=_explain, help="Say what a code means; or `all`."
)
def check(paths: tuple[str, ...], ignored: tuple[str, ...], strict: bool, as_json: bool) -> int:
    """
    Find what is wrong with a network: a network file, or the configurations of several hosts given together.

    Without a path it is ./network.toml. Foreign configurations are what `ginnel import` reads. Exit code 1 when there are errors.
    """
    left_out = frozenset(map(_code, ignored))
    result = _Result()
    networks, foreign = _sorted(paths)
    with ui.working("checking"):
        for path in networks:
            _check_network(path, result)
        if foreign:
            _check_hosts(foreign, result)
    return _say(result, left_out, strict=strict, as_json=as_json)


@dataclass(slots=True)
class _Result:
    """What was looked at, and what was found."""

    files: int = 0
    nodes: int = 0
    findings: list[Finding] = field(default_factory=list)


def _sorted(paths: tuple[str, ...]) -> tuple[list[Path | None], list[str]]:
    """Network files (None: the usual one), and what others wrote."""
    if not paths:
        return [None], []
    networks: list[Path | None] = []
    foreign: list[str] = []
    for text in paths:
        path = Path(text)
        if _is_network(path):
            networks.append(path)
        elif path.exists() or "=" in text:
            foreign.append(text)
        else:
            raise UsageError(f"{ui.printable(text)}: No such file or directory")
    return networks, foreign


def _is_network(path: Path) -> bool:
    if path.is_dir():
        return any(_is_network(file) for file in path.glob("*.toml") if not file.name.endswith(".lock.toml") and file.is_file())
    if path.suffix != ".toml":
        return False
    from ginnel.network.language.sources import MAX_FILE_BYTES

    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_FILE_BYTES + 1).decode("utf-8", errors="replace")
    except OSError:
        return False
    # A file of TOML that is no node file is meant to be one; the parser says what it lacks.
    return _NETWORK.search(text) is not None or _TUNNEL.search(text) is None


# ---------------------------------------------------------------- a network file


def _check_network(file: Path | None, result: _Result) -> None:
    from ginnel.cli.network import files_of, find, read
    from ginnel.network.check import check as sense
    from ginnel.network.check import remarks_on
    from ginnel.network.file import read_form
    from ginnel.network.findings import of_mistake

    path = find(file)
    files = files_of(path)
    result.files += len(files)
    try:
        parsed = read_form([(str(each), read(each)) for each in files], str(path))
    except ConfigError as error:
        result.findings += (of_mistake(mistake, error.source) for mistake in error.mistakes)
        return
    network, sources = parsed.network, parsed.sources
    result.nodes += len(network.nodes)
    mistakes = sources.settled(sense(network, sources))
    result.findings += (of_mistake(mistake, str(path)) for mistake in mistakes or sources.settled(remarks_on(network, sources)))
    if not mistakes:
        _check_compiled(path, network, sources, result)


def _check_compiled(path: Path, network: Network, sources: Sources, result: _Result) -> None:
    from ginnel.cli.network import lock_of, read
    from ginnel.network import Compilation, Lock, allocate, parse_lock
    from ginnel.network.findings import of_mistake
    from ginnel.network.lint import lint
    from ginnel.network.reach import expect
    from ginnel.network.reach.fleet import Fleet
    from ginnel.network.reach.routes import Routings

    lock_file = lock_of(path)
    try:
        lock = parse_lock(read(lock_file), str(lock_file)) if lock_file.exists() else Lock()
        lock = allocate(network, lock)
    except ConfigError as error:
        result.findings += (of_mistake(mistake, error.source, "G0913") for mistake in error.mistakes)
        return
    with Progress("compiling") as progress:
        hosts = list(progress.over(expect.hosts_of(Compilation(network, lock)), len(network.nodes)))
        progress.stage("looking at what they do together")
        result.findings += _placed(lint(hosts), network, sources)
    if network.expects:
        outcomes = expect.judge(network, Routings(Fleet(hosts)))
        result.findings += expect.findings(outcomes, lambda each: sources.place(("expect", each.row)))


def _placed(findings: Iterable[Finding], network: Network, sources: Sources) -> Iterator[Finding]:
    """Hosts that were compiled stand nowhere; what is said of them is in the file that they are compiled from."""
    from dataclasses import replace

    rows = {frozenset(link.between): link.row for link in network.links}
    nodes = {node.name for node in network.nodes}
    for finding in findings:
        if finding.places:
            yield finding
            continue
        named = [name for name in finding.nodes if name in nodes][:2]
        places = [sources.place(("node", name), key=True) for name in named]
        row = rows.get(frozenset(named))
        if row is not None:
            places.insert(0, sources.place(("link", row)))
        mend = finding.mend
        if finding.code in ("G0202", "G0203") and named:
            # In a network file's words, not in those of each host's.
            mend = f"keepalive = 25 in [node.{named[0]}], or for this link in its ends.{named[0]}"
        yield replace(finding, places=tuple(dict.fromkeys(places)), mend=mend)


# ---------------------------------------------------------------- anybody's hosts


def _check_hosts(paths: list[str], result: _Result) -> None:
    from ginnel.cli.importing import read_sources
    from ginnel.network.importing import read_hosts
    from ginnel.network.lint import lint

    sources = read_sources(paths)
    if not sources:
        hint = "`ginnel init` writes a network file to begin with"
        raise UsageError(f"{ui.printable(paths[0])}: nothing there to check\n  hint: {hint}")
    imported = read_hosts(sources)
    hosts: tuple[Host, ...] = imported.hosts
    result.files += len(sources)
    result.nodes += len(hosts)
    result.findings += imported.findings
    result.findings += lint(hosts)


# ---------------------------------------------------------------- the answer


def _say(result: _Result, left_out: frozenset[str], *, strict: bool, as_json: bool) -> int:
    from ginnel.network.findings import ordered

    findings = [finding for finding in ordered(result.findings) if finding.code not in left_out]
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in _STYLES}
    if as_json:
        from ginnel.cli.importing import finding_json

        whole = {"schema": SCHEMA, "files": result.files, "nodes": result.nodes}
        whole |= {f"{severity}s": count for severity, count in counts.items()}
        print(json.dumps({**whole, "findings": [finding_json(finding) for finding in findings]}, indent=1, ensure_ascii=False))
    else:
        _print(result, findings, counts, len(result.findings) - len(findings))
    return ui.FAILED if counts["error"] or (strict and counts["warning"]) else ui.DONE


def _print(result: _Result, findings: list[Finding], counts: dict[str, int], fewer: int) -> None:
    from ginnel.network.findings import paragraph

    on = ui.has_colour(sys.stdout)
    for finding in findings:
        head, *rest = paragraph(finding)
        word = f"{finding.severity} {finding.code} {finding.slug}"
        print(head.replace(word, ui.paint(word, _STYLES[finding.severity], on=on), 1))
        for line in rest:
            print(ui.paint(line, "red", on=on and not line.strip(" ^")) if "^" in line else line)
        print()
    told = ", ".join(f"{count} {word}{'s' if count != 1 else ''}" for word, count in counts.items() if count) or "nothing to mend"
    where = f"{result.files} file{'s' if result.files != 1 else ''}, {result.nodes} node{'s' if result.nodes != 1 else ''}"
    ignored = f" ({fewer} left out)" if fewer else ""
    print(f"{ui.paint(told, 'red' if counts['error'] else 'yellow' if findings else 'green', on=on)} in {where}{ignored}")
