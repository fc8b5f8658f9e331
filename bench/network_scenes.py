"""
The scenes of network files: how long it takes from text to plan, of large networks, and of one node more.

Each run is a process of its own on one core, bench/network_load.py, and figures are its processor time: starting Python and
importing is no part of them. `network-wg-meshconf` is different: two programs write the wg-quick files of the same full mesh, and
figures are what somebody waits at the terminal, all in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bed import GINNEL_COMMAND, Bed, Implementation
from scenes import Figures, Metric, Scene

LOAD = str(Path(__file__).with_name("network_load.py"))
MESH, HUB = 1_000, 10_000
#: What `--quick` makes of them.
QUICK_S, QUICK = 2.0, 10
#: Both programs write this many files, with all of the others in each.
COMPARED = 500


def _count(count: int, seconds: float) -> int:
    return count // QUICK if seconds <= QUICK_S else count


def _pinned(*argv: str, cwd: Path | None = None) -> str:
    """What a command prints, that had one core to itself and its children."""
    core = str(max(os.sched_getaffinity(0)))
    done = subprocess.run(["taskset", "-c", core, *argv], check=True, stdout=subprocess.PIPE, text=True, cwd=cwd)
    return done.stdout


def _worked(bed: Bed, shape: str, count: int) -> Figures:
    file = bed.directory / f"{bed.net.unique('network')}.toml"
    file.write_text(_pinned(sys.executable, LOAD, "file", shape, str(count)))
    figures: Figures = json.loads(_pinned(sys.executable, LOAD, "work", str(file)))
    file.unlink()
    return figures


def _mesh(bed: Bed, implementation: Implementation, seconds: float) -> Figures:  # noqa: ARG001 - as all scenes
    return _worked(bed, "mesh", _count(MESH, seconds))


def _hub(bed: Bed, implementation: Implementation, seconds: float) -> Figures:  # noqa: ARG001 - as all scenes
    return _worked(bed, "hub", _count(HUB, seconds))


def _add_one(bed: Bed, implementation: Implementation, seconds: float) -> Figures:  # noqa: ARG001 - as all scenes
    """Only what the new node touches is made anew."""
    found: Figures = {}
    for shape, count in (("mesh", MESH), ("hub", HUB)):
        figures = _worked(bed, shape, _count(count, seconds))
        found |= {f"{shape}_{name.removeprefix('more_')}": value for name, value in figures.items() if name.startswith("more_")}
    return found


def _meshconf(bed: Bed, implementation: Implementation, seconds: float) -> Figures:
    """From what each keeps on disk (a network file, its lock and keys; a database with keys) to a directory of wg-quick files."""
    count, directory = _count(COMPARED, seconds), bed.directory / bed.net.unique("mesh")
    directory.mkdir()
    file = directory / "network.toml"
    file.write_text(_pinned(sys.executable, LOAD, "file", "mesh", str(count)))
    _pinned(GINNEL_COMMAND, "keys", "new", str(file), "--dir", str(directory / "keys"))
    if implementation.name == "ginnel":
        argv = (GINNEL_COMMAND, "render", str(file), "--all", "--as", "wg-quick", "--keys", str(directory / "keys"))
        argv = (*argv, "-o", str(directory / "out"))
    else:
        (directory / "database.csv").write_text(_database(directory / "keys", count))
        argv = (*implementation.program, "-d", str(directory / "database.csv"), "genconfig", "-o", str(directory / "out"))
    began = time.perf_counter()
    _pinned(*argv, cwd=directory)
    took = time.perf_counter() - began
    written = list((directory / "out").rglob("*.conf"))
    peers = sum(path.read_text().count("[Peer]") for path in written)
    if (len(written), peers) != (count, count * (count - 1)):
        raise RuntimeError(f"{implementation.name} wrote {len(written)} files with {peers} peers")
    shutil.rmtree(directory)
    return {"seconds": took, "files_s": count / took}


def _database(keys: Path, count: int) -> str:
    """The same mesh as wg-meshconf's `addpeer` writes it, with the keys that ginnel has made."""
    fields = (
        "Name Address Endpoint AllowedIPs ListenPort PersistentKeepalive FwMark PrivateKey DNS MTU Table PreUp PostUp PreDown"
    )
    names = [*fields.split(), "PostDown", "SaveConfig"]
    rows = [",".join(f'"{name}"' for name in names)]
    for index in range(count):
        row = {
            "Name": f"n{index}",
            "Address": f"10.0.{(index + 1) >> 8}.{(index + 1) & 255}/9,fd10::{index + 1:x}/48",
            "Endpoint": f"198.18.{index // 250}.{index % 250 + 1}",
            "ListenPort": "51820",
            "PrivateKey": (keys / f"n{index}.key").read_text().strip(),
        }
        rows.append(",".join(f'"{row.get(name, "")}"' for name in names))
    return "\n".join(rows) + "\n"


_STEPS = (
    Metric("total_s", "s: parse, check, allocate, compile, lint, plan", higher_is_better=False),
    Metric("parse_s", "s of it: text to model, checked", higher_is_better=False),
    Metric("compile_s", "s of it: compile", higher_is_better=False),
    Metric("lint_s", "s of it: lint of all hosts", higher_is_better=False),
    Metric("plan_s", "s of it: plan", higher_is_better=False),
    Metric("peak_mb", "MB resident at most", higher_is_better=False),
    Metric("links", "links", higher_is_better=True),
)


def _parts(shape: str) -> tuple[Metric, ...]:
    """What the total of one node more is made of, and lint of all hosts as it would be without what was found before."""
    steps = {
        "sense": "s of it: check of the network's sense",
        "allocate": "s of it: allocate",
        "compile": "s of it: compile",
        "lint": "s of it: lint, going on from what was found before",
        "plan": "s of it: plan",
        "lint_afresh": "s, no part of it: lint of all hosts",
    }
    return tuple(Metric(f"{shape}_{step}_s", words, higher_is_better=False) for step, words in steps.items())


SCENES = {
    scene.name: scene
    for scene in (
        Scene("network-mesh-1000", _mesh, _STEPS, among=("ginnel",), reference="ginnel"),
        Scene("network-hub-10000", _hub, _STEPS, among=("ginnel",), reference="ginnel"),
        Scene(
            "network-add-one",
            _add_one,
            (
                Metric("mesh_total_s", "s: sense, allocate, compile, lint, plan; 1,000 in a full mesh", higher_is_better=False),
                *_parts("mesh"),
                Metric("hub_total_s", "s: sense, allocate, compile, lint, plan; 10,000 at 20 hubs", higher_is_better=False),
                *_parts("hub"),
                Metric("hub_same", "nodes whose description is the same object", higher_is_better=True),
            ),
            among=("ginnel",),
            reference="ginnel",
        ),
        Scene(
            "network-wg-meshconf",
            _meshconf,
            (
                Metric("seconds", f"s: wg-quick files of a mesh of {COMPARED}", higher_is_better=False),
                Metric("files_s", "files/s", higher_is_better=True),
            ),
            among=("ginnel", "wg-meshconf"),
            reference="wg-meshconf",
        ),
    )
}
