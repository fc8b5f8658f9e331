"""
`ginnel import`: the configurations of hosts that run already, made into one network file.

The file (or stdout) gets what could be made of them, stderr whatever is to be said about it; exit code 1 when something of that
is an error, although the file is written. Files of keys are not opened, and no secret is ever written or shown.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ginnel.cli import ui
from ginnel.cli.replace import write_over
from ginnel.errors import UsageError

if TYPE_CHECKING:
    from ginnel.network.findings import Finding
    from ginnel.network.importing import Source
    from ginnel.network.importing.infer import Inferred

#: Of a directory, what is certainly not a configuration. Files that hold nothing but a key are no business of this command.
_NEVER = (".key", ".psk", ".pem", ".crt", ".der", ".p12", ".md", ".png", ".svg", ".pcap", ".lock.toml", ".gpg", ".age")
_NEVER_CALLED = ("MANIFEST", "README", "LICENSE")
#: What takes longer than a second.
_SLOW_BYTES = 2 << 20
_FILES_MAX = 20_000
_SIZE_MAX_BYTES = 32 * 1024 * 1024


@click.command("import")
@click.argument("paths", metavar="[HOST=]FILE|DIR...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write it here, and what is in use beside it, instead of to stdout."
)
@click.option("--force", is_flag=True, help="Write over what is there.")
@click.option("--name", default="", help="What the network is called; without it, what -o says.")
@click.option("--json", "as_json", is_flag=True, help="Print it all as JSON, schema ginnel.import/1.")
def import_(paths: tuple[str, ...], output: Path | None, force: bool, name: str, as_json: bool) -> int:
    """
    Make a network file of the configurations of one host or many.

    They may be wg-quick files, what `wg showconf`, `wg show all dump` and `ip -j` print, systemd-networkd's, NetworkManager's and
    swanctl's. Whose a file is follows from its path: HOST/wg0.conf, HOST.conf, HOST-wg0.conf, HOST/etc/wireguard/wg0.conf; or say
    HOST=FILE.
    """
    from ginnel.network import render_lock
    from ginnel.network.importing import read_hosts
    from ginnel.network.importing.draft import normalised
    from ginnel.network.importing.infer import infer

    lock_file = output.with_name(f"{output.stem}.lock.toml") if output is not None else None
    for file in (output, lock_file):
        if file is not None and file.exists() and not force:
            raise UsageError(f"{file} is there already\n  hint: --force writes over it")
    sources = read_sources(paths)
    size = sum(len(source.content) for source in sources)
    if size > _SLOW_BYTES and sys.stderr.isatty():
        sys.stderr.write(f"reading {len(sources)} files, {size >> 20} MiB …\n")
    imported = read_hosts(sources)
    called = normalised(name or (output.stem if output is not None and output.stem != "network" else ""))
    inferred = infer(imported.hosts, called)
    findings = [*imported.findings, *linted(imported.hosts), *inferred.findings]
    if output is not None and lock_file is not None and inferred.network is not None:
        write_over(output, inferred.text)
        write_over(lock_file, render_lock(inferred.lock))
    if as_json:
        print(json.dumps(_json(inferred, findings), indent=1))
    elif output is None:
        sys.stdout.write(inferred.text)
    if output is not None and lock_file is not None and inferred.network is not None and not as_json:
        count = len(inferred.network.nodes)
        print(f"wrote {ui.printable(str(output))}: the network {inferred.network.name}, {count} node{'' if count == 1 else 's'}")
        print(f"wrote {ui.printable(str(lock_file))}: their addresses, ports and public keys")
    show_findings(findings)
    if inferred.network is None:
        ui.complain("nothing could be made of it that would be a network file")
        return ui.FAILED
    return ui.FAILED if any(finding.severity == "error" for finding in findings) else ui.DONE


def linted(hosts: Sequence[object]) -> list[Finding]:
    """What the linter has to say of the hosts."""
    from ginnel.network.host import Host
    from ginnel.network.lint import lint

    return lint([host for host in hosts if isinstance(host, Host)])


def _json(inferred: Inferred, findings: Sequence[Finding]) -> dict[str, object]:
    from ginnel.network import render_lock

    return {
        "schema": "ginnel.import/1",
        "network": inferred.text,
        "lock": render_lock(inferred.lock) if inferred.network is not None else "",
        "left": inferred.left.json(),
        "findings": [finding_json(finding) for finding in findings],
    }


def finding_json(finding: Finding) -> dict[str, object]:
    """One finding for programs."""
    return {
        "code": finding.code,
        "slug": finding.slug,
        "severity": finding.severity,
        "message": finding.message,
        "places": [
            {
                "source": place.source,
                "line": place.span.line if place.span else None,
                "column": place.span.column if place.span else None,
            }
            for place in finding.places
        ],
        "cause": finding.cause,
        "mend": finding.mend,
        "nodes": list(finding.nodes),
    }


def show_findings(findings: Sequence[Finding]) -> None:
    """To stderr, a paragraph each, the worst first; then how many."""
    if not findings:
        return
    on = ui.has_colour(sys.stderr)
    styles = {"error": "red", "warning": "yellow", "note": "cyan"}
    order = list(styles)
    for finding in sorted(findings, key=lambda each: order.index(each.severity)):
        place = finding.places[0] if finding.places else None
        span = f":{place.span.line}:{place.span.column}" if place is not None and place.span is not None else ""
        where = f"{ui.printable(place.source)}{span}: " if place is not None else ""
        head = ui.paint(f"{finding.severity} {finding.code} {finding.slug}", styles[finding.severity], on=on)
        sys.stderr.write(f"{where}{head}: {ui.printable(finding.message)}\n")
        for word, text in (("because", finding.cause), ("mend", finding.mend)):
            if text:
                sys.stderr.write(f"  {word}: {ui.printable(text)}\n")
    counted = ((severity, sum(finding.severity == severity for finding in findings)) for severity in order)
    words = (f"{number} {severity}{'s' if number != 1 else ''}" for severity, number in counted if number)
    sys.stderr.write(f"{', '.join(words)}\n")


# ---------------------------------------------------------------- reading


def read_sources(paths: Iterable[str]) -> list[Source]:
    """
    The files that are named, and all of the directories that are named, by their names.

    Args:
        paths: files and directories, each perhaps with `HOST=` before it.

    Raises:
        UsageError: one of them cannot be read.
    """
    from ginnel.network.importing import Source

    found: list[Source] = []
    for word in paths:
        host, equals, rest = word.partition("=")
        whose, path = (host, Path(rest)) if equals and not Path(word).exists() else ("", Path(word))
        files = _walk(path) if path.is_dir() else iter([path])
        for file in files:
            if len(found) >= _FILES_MAX:
                raise UsageError(f"{path}: more than {_FILES_MAX} files\n  hint: name the configurations themselves")
            content, mode = _read(file)
            found.append(Source(str(file), content, whose, mode))
    return found


def _walk(directory: Path) -> Iterator[Path]:
    for here, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(names):
            if (
                not name.startswith(".")
                and not name.lower().endswith(_NEVER)
                and name not in _NEVER_CALLED
                and (Path(here) / name).is_file()
            ):
                yield Path(here) / name


def _read(file: Path) -> tuple[bytes, int]:
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            return stream.read(_SIZE_MAX_BYTES + 1), stat.S_IMODE(status.st_mode)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
