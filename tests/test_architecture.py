"""
The layers hold: what ARCHITECTURE.md draws is what the imports say.

The table of layers is read from ARCHITECTURE.md itself, so the drawing cannot go stale: each layer imports only from those
above it; names joined by `|` are siblings and do not import each other. Every import counts, also those inside functions
and for types only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ginnel"
#: All but the package's own __init__, which may re-export anything.
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")

#: The machines and everything they are made of take time, chance and bytes as arguments.
PURE = {"wire", "crypto", "mtu", "wireguard", "gre", "ikev2", "network"}
#: Pure functions on addresses that happen to live in `socket`.
PURE_NAMES = {"socket.AF_INET", "socket.AF_INET6", "socket.inet_ntop", "socket.inet_pton"}
IMPURE_MODULES = {"socket", "asyncio", "time", "random", "secrets", "os", "threading", "subprocess", "select", "selectors"}


class Import(NamedTuple):
    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def imports(path: Path) -> Iterator[Import]:
    """Every module that a file imports; `from ginnel import x` counts as `ginnel.x`, and `from socket import x` as `socket.x`."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        match node:
            case ast.Import(names=names):
                yield from (Import(path, node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                assert module is not None
                if module in {"ginnel", "socket"}:
                    yield from (Import(path, node.lineno, f"{module}.{name.name}") for name in names)
                else:
                    yield Import(path, node.lineno, module)
            case ast.ImportFrom():
                pytest.fail(f"{path.relative_to(ROOT)}:{node.lineno}: relative imports hide the layer")


def layers() -> list[list[set[str]]]:
    """The lines of the drawing, top to bottom: lists of siblings, each a set of names that may import one another."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    (drawing,) = re.findall(r"src/ginnel, each layer importing only from those above it:\n((?:      .+\n)+)", text)
    return [
        [set(sibling.split()) for sibling in re.split(r"\s\|\s", re.split(r"\s{2,}", line.strip())[0])]
        for line in drawing.splitlines()
    ]


LAYERS = layers()
HEIGHT = {name: height for height, siblings in enumerate(LAYERS) for sibling in siblings for name in sibling}
SIBLINGS = {name: sibling for siblings in LAYERS for sibling in siblings for name in sibling}


def layer_of(path: Path) -> str:
    """`wireguard` for src/ginnel/wireguard/peer.py, `units` for src/ginnel/units.py."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def layer_imported(found: Import) -> str | None:
    parts = found.module.split(".")
    return parts[1] if parts[0] == "ginnel" and len(parts) > 1 else None


def test_the_drawing_was_read() -> None:
    assert len(LAYERS) >= 8
    assert {"units", "wire", "wireguard", "network", "engine", "runtime", "cli", "testing"} <= set(HEIGHT)


def test_every_file_is_in_the_drawing() -> None:
    strange = [str(path.relative_to(ROOT)) for path in FILES if layer_of(path) not in HEIGHT]
    assert strange == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_from_layers_above_it(path: Path) -> None:
    own = layer_of(path)
    wrong = []
    for found in imports(path):
        layer = layer_imported(found)
        if layer in {None, "_native", "__version__"} or layer in SIBLINGS[own]:
            continue
        if HEIGHT.get(str(layer), len(LAYERS)) >= HEIGHT[own]:
            wrong.append(str(found))
    assert wrong == []


def test_machines_and_what_they_are_made_of_have_no_clock_no_chance_and_no_io() -> None:
    wrong = [
        str(found)
        for path in FILES
        if layer_of(path) in PURE
        for found in imports(path)
        if found.module.split(".")[0] in IMPURE_MODULES and found.module not in PURE_NAMES
    ]
    assert wrong == []


def test_only_units_may_use_socket_among_the_small_values() -> None:
    wrong = [
        str(found)
        for path in FILES
        if layer_of(path) in {"units", "errors"}
        for found in imports(path)
        if found.module.split(".")[0] in IMPURE_MODULES - {"socket"} and not (path.name == "errors.py" and found.module == "os")
    ]
    assert wrong == []


def test_only_the_runtime_knows_asyncio() -> None:
    wrong = [
        str(found)
        for path in FILES
        if layer_of(path) != "runtime"
        for found in imports(path)
        if found.module.split(".")[0] == "asyncio"
    ]
    assert wrong == []


def test_only_crypto_and_engine_reach_the_native_module() -> None:
    wrong = [
        str(found)
        for path in FILES
        if layer_of(path) not in {"crypto", "engine"}
        for found in imports(path)
        if layer_imported(found) == "_native"
    ]
    assert wrong == []


def test_nothing_that_ships_imports_the_testing_kit_or_a_tests_tool() -> None:
    wrong = [
        str(found)
        for path in FILES
        for found in imports(path)
        if found.module.split(".")[0] in {"scapy", "pytest", "hypothesis"}
        or (layer_imported(found) == "testing" and layer_of(path) != "testing")
    ]
    assert wrong == []
