"""
`show` for the plain tunnels: a node's as one line each, one by itself with everything there is to say.

What is shown is what the node's process tells, already judged (`ginnel.watch.plain`); nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ginnel.cli import ui
from ginnel.cli.show_ipsec import ike_lines, ipsec_lines
from ginnel.cli.text import size_text
from ginnel.watch.health import age_text

_HEAD = ("TUNNEL", "KIND", "STATE", "REMOTE", "MTU", "RX", "TX", "WHY")
_RIGHT = frozenset({4, 5, 6})


def judged(tunnel: dict[str, Any]) -> tuple[str, str, str]:
    """The best that is proven of a tunnel, why it is no better, and a colour."""
    configured, alive, carrying = tunnel["configured"], tunnel["alive"], tunnel["carrying"]
    if tunnel["state"] == "down":
        return "down", configured["why"], "red"
    if configured["answer"] == "no":
        return "not configured", configured["why"], "red"
    if carrying["answer"] == "no":
        return "not carrying", carrying["why"], "red"
    if alive["answer"] == "no":
        return "dead", alive["why"], "red"
    if carrying["answer"] == "yes":
        return "carrying", carrying["why"], "green"
    if alive["answer"] == "yes":
        return "alive", alive["why"], "green"
    return "up", carrying["why"], "yellow"


def node_lines(node: dict[str, Any], tunnels: list[dict[str, Any]], *, colour: bool) -> Iterator[str]:
    """A header for the node, one line a tunnel, and what concerns all of them."""
    head = f"{ui.paint(ui.printable(node['name']), 'bold', on=colour)}: node, {len(tunnels)} tunnel{'s' * (len(tunnels) != 1)}"
    yield f"{head} · {ui.printable(node['config'])}" if node["config"] else head
    rows = [_HEAD]
    styles = ["dim"]
    for tunnel in tunnels:
        state, why, style = judged(tunnel)
        rows.append(
            (
                ui.printable(tunnel["name"]),
                kind_text(tunnel),
                state,
                ui.printable(remote_text(tunnel)),
                str(tunnel["path_mtu"] or tunnel["mtu"]),
                size_text(tunnel["rx_bytes"]),
                size_text(tunnel["tx_bytes"]),
                ui.printable(why),
            )
        )
        styles.append(style)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row, style in zip(rows, styles, strict=True):
        cells = [
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        if style == "dim":
            yield ui.paint(("  " + "  ".join(cells)).rstrip(), "dim", on=colour)
        else:
            cells[2] = ui.paint(cells[2], style, on=colour)
            yield ("  " + "  ".join(cells)).rstrip()
    lost = node["carrier"]["at_socket"]
    if lost:
        yield f"  lost before we could read them: {lost} packets; the host is too busy, or its receive buffers are too small"
    yield from ike_lines(node)
    for text in node["warnings"]:
        yield f"  {ui.paint('warning:', 'yellow', on=colour)} {ui.printable(text)}"


def tunnel_lines(tunnel: dict[str, Any], *, colour: bool) -> Iterator[str]:
    """Everything about one tunnel."""
    state, why, style = judged(tunnel)
    name = ui.paint(ui.printable(tunnel["name"]), "bold", on=colour)
    head = [
        f"{name}: {kind_text(tunnel)}, {tunnel['backend']}, {ui.paint(state, style, on=colour)}",
        f"mtu {tunnel['mtu']}",
        f"node {ui.printable(tunnel['node'])}",
    ]
    yield " · ".join(head)
    yield f"  why: {ui.printable(why)}"
    port = f" port {tunnel['remote_port']}" if tunnel["encapsulation"] else ""
    yield f"  ends: {tunnel['local'] or 'any'} → {ui.printable(remote_text(tunnel))}{port}"
    options = list(_options(tunnel))
    if options:
        yield f"  options: {', '.join(options)}"
    yield from ipsec_lines(tunnel, colour=colour)
    if tunnel["path_mtu"]:
        yield f"  path: takes packets of {tunnel['path_mtu']} bytes, learned from the way to {tunnel['remote']}"
    if tunnel["keepalive"] is not None:
        yield f"  keepalive: {_keepalive(tunnel['keepalive'])}"
    for word, packets, size, age in (
        ("received", tunnel["rx_packets"], tunnel["rx_bytes"], tunnel["last_receive_age_s"]),
        ("sent", tunnel["tx_packets"], tunnel["tx_bytes"], tunnel["last_send_age_s"]),
    ):
        last = f", last {age_text(age)} ago" if age is not None else ""
        yield f"  {word}: {packets} packets, {size_text(size)}{last}"
    for part in ("configured", "alive", "carrying"):
        verdict = tunnel[part]
        yield f"  {part}: {verdict['answer']} ({ui.printable(verdict['why'])})"
    dropped = {reason: count for reason, count in tunnel["drops"].items() if count}
    if dropped:
        yield "  dropped: " + ", ".join(f"{reason} {count}" for reason, count in dropped.items())
    for text in tunnel["warnings"]:
        yield f"  {ui.paint('warning:', 'yellow', on=colour)} {ui.printable(text)}"


def kind_text(tunnel: dict[str, Any]) -> str:
    """`gre`, `gre in udp`, `gre over ipsec`."""
    if tunnel["ipsec"] is not None and tunnel["kind"] != "ipsec":
        return f"{tunnel['kind']} over ipsec"
    return f"{tunnel['kind']} in {tunnel['encapsulation']}" if tunnel["encapsulation"] else str(tunnel["kind"])


def remote_text(tunnel: dict[str, Any]) -> str:
    """The remote as configured by name, and its address."""
    address = tunnel["remote"] or "any"
    return f"{tunnel['remote_host']} ({address})" if tunnel["remote_host"] else str(address)


def _options(tunnel: dict[str, Any]) -> Iterator[str]:
    """In iproute2's words, those that are set."""
    for word in ("key", "csum", "seq"):
        inward, outward = tunnel[f"i{word}"], tunnel[f"o{word}"]
        value = "" if isinstance(inward or outward, bool) else " {}"
        if inward == outward:
            if not (inward is None or inward is False):  # 0 is a key
                yield word + value.format(inward)
        else:
            for side, each in (("i", inward), ("o", outward)):
                if not (each is None or each is False):
                    yield side + word + value.format(each)
    yield f"ttl {tunnel['ttl'] or 'inherit'}"
    yield f"tos {'inherit' if tunnel['tos'] is None else hex(tunnel['tos'])}"
    if not tunnel["pmtudisc"]:
        yield "nopmtudisc"
    if tunnel["fwmark"]:
        yield f"fwmark 0x{tunnel['fwmark']:x}"


def _keepalive(keepalive: dict[str, Any]) -> str:
    retries = f"dead after {keepalive['retries']}" if keepalive["retries"] else "not judged"
    age = keepalive["last_returned_age_s"]
    last = f", last {age_text(age)} ago" if age is not None else ""
    return (
        f"{keepalive['state']}, every {keepalive['interval_s']} s, {retries}; "
        f"sent {keepalive['sent']}, came back {keepalive['returned']}{last}; answered {keepalive['answered']}"
    )
