"""
`ginnel render`: what each host is to have, as files of whatever runs there.

For one node to standard output, or into a directory or file; for all nodes into a directory each (see `handout`), where only what
changed is written and named: that is what has to be handed out. Without `--keys` nothing rendered is secret.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from ginnel.cli import ui
from ginnel.cli.handout import Handout, State
from ginnel.cli.keyring import Keyring
from ginnel.cli.network import Opened, open_network
from ginnel.crypto import Secret, public_key
from ginnel.errors import GinnelError, UsageError
from ginnel.network import NodeDescription
from ginnel.network.render import FORMATS, NONE, File, Secrets, interfaces, renderer

SCHEMA = "ginnel.render/1"
#: Why a node is left out that nobody asked to be rendered.
_NOT_OURS = "it runs something that ginnel does not render for"
#: Nothing takes longer than this without a word on a terminal.
_SILENT_S = 0.5


def _formats(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        width = max(map(len, FORMATS))
        for name, (_module, line) in FORMATS.items():
            click.echo(f"{name:<{width}}  {line}")
        ctx.exit()


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--for", "node", metavar="NODE", help="Whose files.")
@click.option("--all", "every", is_flag=True, help="Those of every node, each in a directory of its own.")
@click.option("--as", "form", metavar="FORMAT", help="In which format; without, that of what the node `runs`.")
@click.option("-o", "--output", metavar="PATH", type=click.Path(path_type=Path), help="Write there: a directory, or one file.")
@click.option("--keys", metavar="DIR", type=click.Path(path_type=Path), help="Put the secrets of this directory into the files.")
@click.option("--prune", is_flag=True, help="With --all: remove what was written there before and is no node's any more.")
@click.option("--json", "as_json", is_flag=True, help=f"As JSON, schema {SCHEMA}.")
@click.option("--formats", is_flag=True, is_eager=True, expose_value=False, callback=_formats, help="List the formats.")
def render(
    file: Path | None,
    node: str | None,
    every: bool,
    form: str | None,
    output: Path | None,
    keys: Path | None,
    prune: bool,
    as_json: bool,
) -> int:
    """
    Write the files that hosts are to have.

    FILE is the network file; without one, ./network.toml. `--for NODE` prints that node's, several each behind a comment with its
    name; `--all -o DIR` writes DIR/NODE/..., and says which of them changed.

    Exit code 0: done; 1: a node could not be rendered; 2: wrongly called.
    """
    if every == (node is not None):
        raise UsageError("expected --for NODE or --all\n  hint: `ginnel render --all -o DIR` writes the files of every node")
    if every and output is None:
        raise UsageError("--all: expected -o DIR, where each node gets a directory of its own")
    if prune and not every:
        raise UsageError("--prune goes with --all: one node's files say nothing of the others'")
    if form is not None:
        renderer(form)
    opened = open_network(file)
    rendering = _Rendering(opened, form, None if keys is None else _ring(keys))
    if node is not None:
        return _one(rendering, _known(opened, node), output, as_json)
    assert output is not None  # asked for above
    return _all(rendering, output, prune, as_json)


def _known(opened: Opened, name: str) -> str:
    if all(node.name != name for node in opened.network.nodes):
        import difflib

        near = difflib.get_close_matches(name, [node.name for node in opened.network.nodes], n=1)
        hint = f"\n  hint: did you mean {near[0]}?" if near else ""
        raise UsageError(f"--for: {opened.file} has no node {ui.printable(name)!r}{hint}")
    return name


def _ring(directory: Path) -> Keyring:
    if not directory.is_dir():
        raise UsageError(f"--keys: {directory} is no directory\n  hint: `ginnel keys new` makes one")
    ring = Keyring(directory)
    ring.check()
    return ring


@dataclass(frozen=True, slots=True)
class _Rendering:
    """What is asked of every node alike."""

    opened: Opened
    #: None: what the node runs.
    form: str | None
    ring: Keyring | None

    def files(self, description: NodeDescription) -> tuple[File, ...]:
        """The files of one node; UsageError or GinnelError when there are none to be had."""
        form = self.form or description.node.runs
        if form == "other":
            raise UsageError(f"{description.name} runs something that ginnel does not know\n  hint: --as FORMAT names one")
        return renderer(form).files(description, self.secrets(description))

    def secrets(self, description: NodeDescription) -> Secrets:
        """Those of the node, where a directory was named; a private key that is not the pinned one is refused."""
        if self.ring is None:
            return NONE
        found = self.ring.secrets(description, self.opened.lock)
        for each in description.beside:
            found = replace(found, psk={**found.psk, **self.ring.secrets(each, self.opened.lock).psk})
        if found.private_key and description.public_key is not None:
            ours = public_key(Secret.from_base64(found.private_key).clamp())
            if ours != description.public_key:
                raise GinnelError(
                    f"{self.ring.directory}/{description.name}.key is not the key that the others know of {description.name}\n"
                    f"  hint: `ginnel keys status` shows both; `ginnel keys rotate {description.name}` replaces one"
                )
        for what in _missing(description, found):
            ui.warn(f"{self.ring.directory} has no {what}: the file names where the host has it")
        return found


def _missing(description: NodeDescription, found: Secrets) -> Iterator[str]:
    if interfaces(description) and not found.private_key:
        yield f"private key of {description.name}"
    peers = dict.fromkeys(peer.name for each in interfaces(description) for peer in each.peers if peer.psk)
    yield from (f"preshared key of {description.name} and {name}" for name in peers if name not in found.psk)


# ---------------------------------------------------------------- one node


def _one(rendering: _Rendering, name: str, output: Path | None, as_json: bool) -> int:
    files = rendering.files(rendering.opened.compiled().node(name))
    rendering.opened.pin()
    if output is not None:
        return _written(name, files, output, as_json)
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "node": name, "files": [_described(file) for file in files]}, indent=1))
        return ui.DONE
    if any(file.secret for file in files):
        _warn_of_readers()
    if len(files) == 1:
        _say(_painted(files[0].content) if rendering.form == "qr" and ui.has_colour(sys.stdout) else files[0].content)
        return ui.DONE
    for index, file in enumerate(files):
        mode = f", mode 0{'7' if file.executable else '6'}00" if file.secret else ""
        _say(f"{'' if index == 0 else chr(10)}# ==== {file.where}{file.name}{mode}\n".encode() + file.content)
    return ui.DONE


def _written(name: str, files: tuple[File, ...], output: Path, as_json: bool) -> int:
    """Into a directory; or, one file and a path with its ending, as that file."""
    if len(files) == 1 and output.suffix and output.suffix == Path(files[0].name).suffix and not output.is_dir():
        directory, files = output.parent, (replace(files[0], name=output.name),)
    else:
        directory = output
    with Handout(directory) as handout:
        states = [(name, file, handout.put(file.name, file)) for file in files]
    _report(directory, states, [], [], [], as_json, below=False)
    return ui.DONE


def _painted(code: bytes) -> bytes:
    """A code light on dark, whatever the terminal's colours are: readers want it no other way."""
    return b"".join(b"\x1b[97;40m" + line + b"\x1b[0m\n" for line in code.splitlines())


def _say(content: bytes) -> None:
    """Bytes to standard output; those of a picture not to a terminal."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        if sys.stdout.isatty():
            raise UsageError("a picture is nothing for a terminal\n  hint: -o FILE.png; --as qr draws in the terminal") from None
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        click.echo(text, nl=False)


def _warn_of_readers() -> None:
    """As `genkey` does: a secret is about to go into a file that others can read."""
    status = os.fstat(sys.stdout.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        mode = f"{status.st_mode & 0o777:04o}"
        ui.warn(f"writing a secret to a file that others can read (mode {mode}): `umask 077` before, or -o PATH")


# ---------------------------------------------------------------- all nodes


def _all(rendering: _Rendering, output: Path, prune: bool, as_json: bool) -> int:
    opened = rendering.opened
    compilation = opened.compiled()
    states: list[tuple[str, File, State]] = []
    left_out: list[tuple[str, str]] = []
    failed = False
    with Handout(output) as handout:
        handout.read_manifest()
        progress = _Progress(len(opened.network.nodes))
        for node in opened.network.nodes:
            progress.step(node.name)
            if node.runs == "other" and rendering.form is None:
                left_out.append((node.name, _NOT_OURS))
                continue
            try:
                files = rendering.files(compilation.node(node.name))
            except GinnelError as error:
                failed = True
                left_out.append((node.name, str(error)))
                handout.keep(f"{node.name}/")
                continue
            # Without its content: a thousand nodes of a mesh have a thousand peers each.
            states += [(node.name, replace(file, content=b""), handout.put(f"{node.name}/{file.name}", file)) for file in files]
        progress.end()
        opened.pin()
        stale, pruned = handout.stale(), []
        if prune:
            for path in stale:
                handout.remove(path)
            stale, pruned = [], stale
        handout.write_manifest()
    _report(output, states, stale, pruned, left_out, as_json)
    return ui.FAILED if failed else ui.DONE


class _Progress:
    """A line on a terminal, once it takes longer."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._next = time.monotonic() + _SILENT_S
        self._shown = False

    def step(self, name: str) -> None:
        """One more begins."""
        self._done += 1
        if time.monotonic() >= self._next and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[Krendering {self._done}/{self._total} {name}")
            sys.stderr.flush()
            self._next, self._shown = time.monotonic() + 0.1, True

    def end(self) -> None:
        """The line is gone again."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# ---------------------------------------------------------------- what was done


def _described(file: File) -> dict[str, Any]:
    described = {"name": file.name, "where": file.where, "secret": file.secret, "executable": file.executable}
    try:
        return {**described, "content": file.content.decode("utf-8")}
    except UnicodeDecodeError:
        import base64

        return {**described, "content_base64": base64.b64encode(file.content).decode()}


def _report(
    directory: Path,
    states: list[tuple[str, File, State]],
    stale: list[str],
    pruned: list[str],
    left_out: list[tuple[str, str]],
    as_json: bool,
    *,
    below: bool = True,
) -> None:
    if as_json:
        report = {
            "schema": SCHEMA,
            "directory": str(directory),
            "files": [
                {"node": node, "path": _path(node, file, below), "where": file.where, "secret": file.secret, "state": state}
                for node, file, state in states
            ],
            "stale": stale,
            "pruned": pruned,
            "left_out": [{"node": node, "why": why} for node, why in left_out],
        }
        click.echo(json.dumps(report, indent=1))
        return
    for node, file, state in states:
        if state != "same":
            click.echo(f"{state:<8} {directory / _path(node, file, below)}")
    for path in pruned:
        click.echo(f"removed  {directory / path}")
    for path in stale:
        click.echo(f"stale    {directory / path}")
    if stale:
        ui.warn(f"{len(stale)} files are no node's any more: --prune removes them")
    for node, why in left_out:
        (ui.warn if why == _NOT_OURS else ui.complain)(f"{node}: {why}")
    same = sum(state == "same" for _, _, state in states)
    if same:
        sys.stderr.write(f"{same} of {len(states)} files are as they were\n")


def _path(node: str, file: File, below: bool) -> str:
    return f"{node}/{file.name}" if below else file.name
