"""
Ginnel by its own commands: a node file, `up`, `show`, `down`, in a namespace.

Names of node files are the machine's, not the namespace's (what runs is known under /run/ginnel), so each gets one of its own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from namespaces import Namespace, Net

GINNEL = str(Path(sys.executable).with_name("ginnel"))


@dataclass(slots=True)
class NodeFile:
    """One node file and the namespace that it is for; a context manager that takes it down."""

    space: Namespace
    path: Path

    @classmethod
    def write(cls, net: Net, space: Namespace, directory: Path, text: str) -> NodeFile:
        """Under a name that nobody else has."""
        path = directory / f"{net.unique('nf')}.toml"
        path.write_text(text)
        return cls(space, path)

    @property
    def name(self) -> str:
        """As `show` knows it."""
        return self.path.stem

    def up(self, *options: str) -> str:
        """`ginnel up`; what it printed."""
        return self.space.run(GINNEL, "up", *options, str(self.path))

    def down(self) -> str:
        """`ginnel down`; what it printed."""
        return self.space.run(GINNEL, "down", str(self.path))

    def text(self) -> str:
        """`ginnel show`, for people."""
        return self.space.run(GINNEL, "show", self.name)

    def show(self, tunnel: str) -> dict[str, Any]:
        """One tunnel of `ginnel show --json`."""
        answer = json.loads(self.space.run(GINNEL, "show", self.name, "--json"))
        (found,) = [one for one in answer["tunnels"] if one["name"] == tunnel]
        assert isinstance(found, dict)
        return found

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *exc: object) -> None:
        self.down()
