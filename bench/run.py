#!/usr/bin/env python3
"""
`make bench`: every implementation on the same bed, in turns, medians and ratios in one table.

    bench/run.py [--scene NAME ...] [--impl NAME ...] [--rounds N] [--seconds S] [--quick] [--no-save]

A round measures every implementation once; the next round begins with the next one, so that nobody is always first. A figure
is the median of its rounds; ± is half the span from the lowest to the highest, as a share of it. Ratios are to wireguard-go in
the same run, in the scenes of plain tunnels to what they name. All rounds and the machine go to
bench/results/<date>-<scene>.json, the table to bench/results/<date>.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bed import BUILDERS, Bed, Implementation
from ike_scenes import SCENES as IKE_SCENES
from machine import facts
from network_scenes import SCENES as NETWORK_SCENES
from scenes import SCENES as TUNNEL_SCENES
from scenes import Figures, Metric, Scene

SCENES = {**TUNNEL_SCENES, **IKE_SCENES, **NETWORK_SCENES}
RESULTS = Path(__file__).resolve().parent / "results"
Rounds = dict[str, list[Figures]]


def measure(bed: Bed, scene: Scene, implementations: list[Implementation], rounds: int, seconds: float) -> Rounds:
    """All rounds of one scene."""
    taking_part = [one for one in implementations if one.name in scene.among and one.name not in scene.without]
    results: Rounds = {one.name: [] for one in taking_part}
    for number in range(rounds):
        shift = number % len(taking_part)
        for implementation in taking_part[shift:] + taking_part[:shift]:
            figures = scene.measure(bed, implementation, seconds)
            results[implementation.name].append(figures)
            shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
            print(f"  {scene.name} {number + 1}/{rounds} {implementation.name:<13} {shown}", file=sys.stderr)
    return results


def median(rounds: list[Figures], metric: Metric) -> float:
    """The figure."""
    return statistics.median(figures[metric.name] for figures in rounds)


def spread(rounds: list[Figures], metric: Metric) -> float:
    """Lowest to highest, as a share of the median."""
    values = [figures[metric.name] for figures in rounds]
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def table(results: dict[str, Rounds]) -> str:
    """Markdown: a table for each circle of implementations that were measured against each other."""
    circles: dict[tuple[str, ...], dict[str, Rounds]] = {}
    for scene_name, rounds in results.items():
        circles.setdefault(SCENES[scene_name].among, {})[scene_name] = rounds
    return "\n".join(_table(among, scenes) for among, scenes in circles.items())


def _table(among: tuple[str, ...], results: dict[str, Rounds]) -> str:
    """One line a metric, one column an implementation, each with its ratio to the scene's reference."""
    names = [name for name in among if any(name in rounds for rounds in results.values())]
    lines = ["| scene | figure | " + " | ".join(names) + " | rounds |", "| --- | --- |" + " ---: |" * (len(names) + 1)]
    for scene_name, rounds in results.items():
        scene = SCENES[scene_name]
        for metric in scene.metrics:
            cells = []
            base = median(rounds[scene.reference], metric) if rounds.get(scene.reference) else 0.0
            for name in names:
                if not rounds.get(name):
                    cells.append("")
                    continue
                value = median(rounds[name], metric)
                ratio = f" ({value / base:.2f}x)" if base and name != scene.reference else ""
                cells.append(f"{value:.3g} ±{spread(rounds[name], metric) / 2:.0%}{ratio}")
            count = min(len(list_) for list_ in rounds.values())
            lines.append(f"| {scene_name} | {metric.unit} | " + " | ".join(cells) + f" | {count} |")
    return "\n".join(lines) + "\n"


def kept(day: str) -> dict[str, Rounds]:
    """All scenes of a day, in the order of the scenes: runs of single scenes add up."""
    found: dict[str, Rounds] = {}
    for name in SCENES:
        path = RESULTS / f"{day}-{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text())["rounds"]
    return found


def save(
    scene: str, rounds: Rounds, implementations: list[Implementation], machine: dict[str, str | int], seconds: float
) -> Path:
    """One scene with all its rounds."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y-%m-%d')}-{scene}.json"
    document = {
        "schema": "ginnel.bench/1",
        "scene": scene,
        "seconds": seconds,
        "machine": machine,
        "versions": {one.name: one.version for one in implementations},
        "rounds": rounds,
        "medians": {name: {m.name: median(done, m) for m in SCENES[scene].metrics} for name, done in rounds.items()},
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scene", action="append", choices=SCENES, help="only these; may be given several times")
    parser.add_argument("--impl", action="append", choices=BUILDERS, help="only these; may be given several times")
    parser.add_argument("--rounds", type=int, help="rounds of every scene (default 5, fewer where a scene says so)")
    parser.add_argument("--seconds", type=float, help="length of each load (default: the scene's)")
    parser.add_argument("--quick", action="store_true", help="one round of two seconds: does it work, not how fast is it")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = options.rounds or 1, options.seconds or 2.0
    scenes = [SCENES[name] for name in options.scene or SCENES]
    wanted = [name for name in options.impl or BUILDERS if any(name in scene.among for scene in scenes)]
    implementations = [BUILDERS[name]() for name in wanted]
    machine = facts()
    results: dict[str, Rounds] = {}
    with Bed.create() as bed:
        for scene in scenes:
            name = scene.name
            if not any(one.name in scene.among for one in implementations):
                continue
            rounds = options.rounds or scene.rounds or 5
            seconds = options.seconds or scene.seconds
            results[name] = measure(bed, scene, implementations, rounds, seconds)
            if not options.no_save:
                save(name, results[name], implementations, machine, seconds)
    text = table(results)
    print(text)
    if not options.no_save:
        head = "\n".join(f"- {key}: {value}" for key, value in machine.items())
        versions = "\n".join(f"- {one.name}: {one.version}" for one in implementations)
        day = time.strftime("%Y-%m-%d")
        path = RESULTS / f"{day}.md"
        body = table(kept(day))
        path.write_text(f"# Measured {machine['when']}\n\n{body}\n## Machine\n\n{head}\n\n## Versions\n\n{versions}\n")
        print(f"written: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
