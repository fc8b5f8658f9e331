"""
The truth table: a report for people.

The same tables twice: drawn with rich where a terminal reads, plain aligned columns otherwise (for logs and pipes; nobody should
parse them: there is `--json`). Words, not colours, carry the meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ginnel.lab.report import Finding, LabReport, MtuReport, ReachReport

#: Beyond this many places a matrix is wider than a screen: then only what is not as the file says is listed.
MAX_MATRIX = 8


@dataclass(frozen=True, slots=True)
class Table:
    """A title, column heads, and rows of text."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: LabReport) -> Iterator[Table]:
    """The report as tables, in the order in which they are read."""
    yield Table(
        "nodes",
        ("node", "runs", "address", "outside", "mtu", "up"),
        tuple(
            (
                node.name,
                node.runs,
                " ".join(address.partition("/")[0] for address in node.address),
                "behind NAT" if node.behind_nat else "reachable",
                str(node.mtu),
                f"yes, {node.seconds:.1f} s" if node.up.ok else "NO",
            )
            for node in report.nodes
        ),
    )
    if report.links:
        # The kind is told where there is one to tell.
        kinds = any(link.kind != "wireguard" for link in report.links)
        yield Table(
            "links",
            ("link", *(("kind",) if kinds else ()), "configured", "alive", "carrying"),
            tuple(
                (
                    " — ".join(link.between),
                    *((link.kind,) if kinds else ()),
                    _said(link.configured),
                    _said(link.alive),
                    _said(link.carrying),
                )
                for link in report.links
            ),
        )
    if report.reachability:
        yield from _reachability(report.reachability)
    if report.expectations:
        yield Table(
            "expectations",
            ("from", "to", "expected", "found"),
            tuple(
                (item.source, item.target, "reaches" if item.reaches else "does not reach", _said(item.finding))
                for item in report.expectations
            ),
        )
    for protect in report.protects:
        title = f"{protect.origin} behind {', '.join(protect.edges)}: {', '.join(protect.addresses)}"
        yield Table(title, ("trial", "as it should be"), tuple((what, _said(finding)) for what, finding in protect.trials))
    if report.mtu:
        yield from _mtus(report.mtu)
    rest: list[tuple[str, ...]] = [(f"names on {item.node}", _said(item.finding)) for item in report.dns]
    if report.throughput is not None:
        item = report.throughput
        rate = f"{item.gbit_s:.2f} Gbit/s: {item.measured.evidence}" if item.measured.ok else _said(item.measured)
        rest.append(("throughput", f"{item.source} → {item.target}, {rate}"))
    if report.capture is not None:
        rest.append(("underlay", _said(report.capture.clean)))
    if rest:
        yield Table("besides", ("what", "found"), tuple(rest))


def _mtus(found: Sequence[MtuReport]) -> Iterator[Table]:
    """One table for each different derivation: nearly always one."""
    for arithmetic in dict.fromkeys(item.arithmetic for item in found):
        rows = tuple((" — ".join(item.between), _said(item.proven)) for item in found if item.arithmetic == arithmetic)
        yield Table(f"MTU: {arithmetic}", ("link", "proven"), rows)


def _said(finding: Finding) -> str:
    return f"{'yes' if finding.ok else 'NO'}: {finding.evidence}"


def _reachability(reaches: Sequence[ReachReport]) -> Iterator[Table]:
    sources = list(dict.fromkeys(reach.source for reach in reaches))
    targets = list(dict.fromkeys([*sources, *(reach.target for reach in reaches)]))
    targets = [name for name in targets if any(reach.target == name for reach in reaches)]
    if len(targets) > MAX_MATRIX:
        wrong = [reach for reach in reaches if not reach.ok]
        rows = tuple((reach.source, reach.target, f"IPv{reach.version}", reach.said) for reach in wrong)
        good = len(reaches) - len(wrong)
        yield Table(f"reachability: {good} of {len(reaches)} ways as the file says", ("from", "to", "over", "found"), rows)
        return
    cells: dict[tuple[str, str], list[ReachReport]] = {}
    for reach in reaches:
        cells.setdefault((reach.source, reach.target), []).append(reach)
    yield Table(
        "reachability (from row to column, IPv4 and IPv6)",
        ("", *targets),
        tuple((source, *(_cell(cells.get((source, target), [])) for target in targets)) for source in sources),
    )


def _cell(reaches: Sequence[ReachReport]) -> str:
    if not reaches:
        return "·"
    words = []
    for reach in reaches:
        if reach.found:
            word = f"{reach.rtt_ms:.1f} ms" if reach.expected else f"v{reach.version} REACHES"
        else:
            word = f"v{reach.version} NO" if reach.expected else "apart"
        words.append(word)
    # Both families answering is the ordinary case: then the slower one's time says it all.
    if all(reach.found and reach.expected for reach in reaches):
        return f"{max(reach.rtt_ms for reach in reaches):.1f} ms ({'+'.join(str(reach.version) for reach in reaches)})"
    return " ".join(dict.fromkeys(words))


def verdict(report: LabReport) -> list[str]:
    """The last lines: all is well, or each thing that is not, with what to look at."""
    failures = report.failures
    if not failures:
        return [f"{report.network}: all is as the file says ({report.seconds:.1f} s)"]
    lines = [f"{report.network}: {len(failures)} {'thing is' if len(failures) == 1 else 'things are'} not as the file says"]
    for failure in failures:
        lines += [f"  ✗ {failure.what}", f"    look at {failure.look_at}"]
    return lines


def plain(report: LabReport) -> str:
    """All tables as aligned text."""
    out: list[str] = []
    for table in tables(report):
        widths = [max(map(len, column)) for column in zip(table.heads, *table.rows, strict=True)]
        out.append(table.title)
        out += [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (table.heads, *table.rows)
        ]
        out.append("")
    return "\n".join([*out, *verdict(report)]) + "\n"


def draw(report: LabReport) -> None:
    """All tables on the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    console = Console(highlight=False)
    for table in tables(report):
        drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in table.heads:
            drawn.add_column(head, overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(cell, style="red" if _bad(cell) else "") for cell in row))
        console.print(Text(table.title, style="bold"))
        console.print(drawn)
    style = "green" if report.ok else "red"
    for number, line in enumerate(verdict(report)):
        console.print(Text(line, style=f"bold {style}" if number == 0 else ""))


def _bad(cell: str) -> bool:
    return cell.startswith("NO") or " NO" in cell or "REACHES" in cell
