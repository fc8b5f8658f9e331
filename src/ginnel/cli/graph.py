"""`ginnel graph`: the network as a drawing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ginnel.cli import ui
from ginnel.cli.network import open_network
from ginnel.errors import GinnelError, UsageError

if TYPE_CHECKING:
    from ginnel.network.graph.scene import Scene

FORMATS = ("svg", "dot", "mermaid")


@click.command(name="graph")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--as", "format_", type=click.Choice(FORMATS), default="svg", help="Which language; svg unless said.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to; standard output unless said.")
@click.option("--relayed", is_flag=True, help="Also the pairs that reach each other through a relay, as thin dots.")
def graph(file: Path | None, format_: str, output: Path | None, relayed: bool) -> int:
    """
    Draw the network: nodes with their roles, links by kind, relays, NAT, regions.

    FILE is a network file; ./network.toml unless given. The drawing is one file without scripts or fonts, light or dark as the
    reader has it.
    """
    if output is None and format_ == "svg" and sys.stdout.isatty():
        raise UsageError("a drawing is nothing for a terminal\n  hint: -o network.svg, or --as mermaid for a text")
    text = draw(file, format_, relayed=relayed)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise GinnelError(f"{output}: {error.strerror}") from None
    return ui.DONE


def draw(file: Path | None, format_: str, *, relayed: bool) -> str:
    """The text of the drawing."""
    from ginnel.network.graph.scene import RELAYED_MAX, see

    opened = open_network(file)
    with ui.working(f"drawing {opened.file}"):
        scene = see(opened.compiled(), relayed=relayed)
        text = _text(scene, format_)
    if relayed and len(scene.relayed) == RELAYED_MAX:
        ui.warn(f"only the first {RELAYED_MAX} pairs that reach each other through a relay are drawn")
    return text


def _text(scene: Scene, format_: str) -> str:
    from ginnel.network.graph import dot, mermaid, picture, svg

    match format_:
        case "dot":
            return dot.render(scene)
        case "mermaid":
            return mermaid.render(scene)
    return svg.render(picture.draw(scene))
