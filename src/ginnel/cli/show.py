"""
`show`: what runs.

Three faces. For people: one line a peer, names before keys, the state that is proven (configured, alive, carrying) and why it is
no better. For programs: `--json`, schema ginnel.show/1. For what was written for `wg`: its fields, byte for byte.

Facts come from two sockets: UAPI, which every implementation has, and our daemon's control socket, which alone knows names,
drops, and whether anything comes back. Of another implementation's tunnel only the first can be told, and that is said. Plain
tunnels (GRE, IP in IP) are told by the process of their node file; NAME may be theirs or the node's.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from ginnel.cli import devices, show_plain, ui
from ginnel.cli.text import size_text
from ginnel.errors import ConfigError, GinnelError, UsageError
from ginnel.linux.backend import control
from ginnel.linux.links import link
from ginnel.linux.record import Record, Store
from ginnel.linux.saving import base64_of
from ginnel.linux.uapi import Device, DevicePeer
from ginnel.watch.health import age_text

SCHEMA = "ginnel.show/1"
#: REJECT_AFTER_TIME: an older session cannot carry anything.
SESSION_LIFE_S = 180
#: The columns that hold numbers.
_RIGHT = frozenset({4, 5})


@click.command()
@click.argument("interface", required=False, metavar="[NAME|all|interfaces]")
@click.argument("field", required=False, metavar="[FIELD]")
@click.option("--json", "as_json", is_flag=True, help="As JSON, schema ginnel.show/1.")
@click.option("-k", "--keys", "full_keys", is_flag=True, help="Print public keys in full beside the names.")
def show(interface: str | None, field: str | None, as_json: bool, full_keys: bool) -> None:
    """
    What runs: one line a peer or a plain tunnel, its name, its state and why.

    NAME is an interface, or a node file's name for all of its tunnels.

    With a FIELD (dump, latest-handshakes, transfer, endpoints, allowed-ips, persistent-keepalive, public-key, private-key,
    preshared-keys, listen-port, fwmark, peers) the output is that of `wg show`, byte for byte.
    """
    if interface == "interfaces" and field is None:
        found = devices.names()
        if as_json:
            click.echo(json.dumps({"schema": SCHEMA, "interfaces": found}))
        elif found:
            click.echo(" ".join(found))
        return
    every = interface in {None, "all"}
    if field is not None:
        if as_json:
            raise UsageError("--json goes without a field: it has all of them")
        _show_field(devices.names() if every else [str(interface)], field, prefixed=every)
        return
    colour = ui.has_colour(sys.stdout)
    blocks: list[list[str]] = []
    if every:
        views = [view(name) for name in devices.names()]
        nodes = [answer for answer in map(devices.node, devices.node_names()) if answer is not None]
        killed = devices.killed()
        answer: dict[str, Any] = {"tunnels": [*views, *(tunnel for node in nodes for tunnel in node["tunnels"])]}
        answer["killed"] = [{"name": record.name, "config": record.config} for record in killed]
        blocks += [list(_pretty(each, full_keys=full_keys, colour=colour)) for each in views]
        blocks += [list(show_plain.node_lines(node["node"], node["tunnels"], colour=colour)) for node in nodes]
        blocks += [list(_killed_lines(record, colour=colour)) for record in killed]
    elif (owner := devices.node_of(str(interface))) is not None:
        answer = {"tunnel": devices.plain(owner, str(interface))}
        blocks.append(list(show_plain.tunnel_lines(answer["tunnel"], colour=colour)))
    elif (whole := devices.node(str(interface))) is not None:
        answer = {"node": whole["node"], "tunnels": whole["tunnels"]}
        blocks.append(list(show_plain.node_lines(whole["node"], whole["tunnels"], colour=colour)))
    else:
        answer = {"tunnel": view(str(interface))}
        blocks.append(list(_pretty(answer["tunnel"], full_keys=full_keys, colour=colour)))
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, **answer}, indent=2))
    elif not blocks:
        sys.stderr.write("No tunnel is up here.\n")
    else:
        click.echo("\n\n".join("\n".join(lines) for lines in blocks), color=True)


def _killed_lines(record: Record, *, colour: bool) -> Iterator[str]:
    """Of what `up` made and whose process has ended: how to mend it."""
    head = f"{ui.paint(record.name, 'bold', on=colour)}: {ui.paint('killed', 'red', on=colour)}"
    yield f"{head} · {ui.printable(record.config)}"
    yield f"  {devices.mend_text(record)}"


# ---------------------------------------------------------------- as `wg show`


def _show_field(names: Iterable[str], field: str, *, prefixed: bool) -> None:
    render = _FIELDS.get(field)
    if render is None:
        raise UsageError(f"expected one of {', '.join(_FIELDS)}, found '{ui.printable(field)}'")
    for name in names:
        prefix = f"{name}\t" if prefixed else ""
        sys.stdout.write("".join([f"{prefix}{line}\n" for line in render(devices.read(name))]))


def _key(hexadecimal: str) -> str:
    return base64_of(hexadecimal) if hexadecimal else "(none)"


def _public_key(device: Device) -> str:
    if not device.private_key:
        return "(none)"
    from ginnel.crypto import Secret, public_key

    return public_key(Secret.from_hex(device.private_key)).base64()


def _fwmark(device: Device) -> str:
    return f"0x{device.fwmark:x}" if device.fwmark else "off"


def _endpoint(peer: DevicePeer) -> str:
    """As `wg` prints it: a scope by the name of its interface."""
    if "%" not in peer.endpoint:
        return peer.endpoint or "(none)"
    address, _, rest = peer.endpoint.partition("%")
    scope, _, port = rest.partition("]")
    if scope.isdigit():
        try:
            scope = socket.if_indextoname(int(scope))
        except OSError:
            pass  # the interface is gone; its number is all there is
    return f"{address}%{scope}]{port}"


def _dump(device: Device) -> Iterator[str]:
    yield f"{_key(device.private_key)}\t{_public_key(device)}\t{device.listen_port}\t{_fwmark(device)}"
    for peer in device.peers:
        prefixes = ",".join(peer.allowed_ips) or "(none)"
        yield (
            f"{base64_of(peer.public_key)}\t{_key(peer.preshared_key)}\t{_endpoint(peer)}\t{prefixes}"
            f"\t{peer.handshake_sec}\t{peer.rx_bytes}\t{peer.tx_bytes}\t{peer.keepalive_s or 'off'}"
        )


def _per_peer(value: Callable[[DevicePeer], str]) -> Callable[[Device], Iterable[str]]:
    return lambda device: [f"{base64_of(peer.public_key)}\t{value(peer)}" for peer in device.peers]


_FIELDS: dict[str, Callable[[Device], Iterable[str]]] = {
    "public-key": lambda device: [_public_key(device)],
    "private-key": lambda device: [_key(device.private_key)],
    "listen-port": lambda device: [str(device.listen_port)],
    "fwmark": lambda device: [_fwmark(device)],
    "peers": lambda device: [base64_of(peer.public_key) for peer in device.peers],
    "preshared-keys": _per_peer(lambda peer: _key(peer.preshared_key)),
    "endpoints": _per_peer(_endpoint),
    "allowed-ips": _per_peer(lambda peer: " ".join(peer.allowed_ips) or "(none)"),
    "latest-handshakes": _per_peer(lambda peer: str(peer.handshake_sec)),
    "transfer": _per_peer(lambda peer: f"{peer.rx_bytes}\t{peer.tx_bytes}"),
    "persistent-keepalive": _per_peer(lambda peer: str(peer.keepalive_s or "off")),
    "dump": _dump,
}


# ---------------------------------------------------------------- for people and programs


def view(name: str) -> dict[str, Any]:
    """One tunnel as ginnel.show/1 has it: from our daemon, else what UAPI tells, the rest marked unknown."""
    answer = control(name, {"op": "show"})
    if answer is not None and isinstance(answer.get("tunnel"), dict):
        tunnel: dict[str, Any] = answer["tunnel"]
        return tunnel
    return _view_from_uapi(devices.read(name), configured_names(name))


def configured_names(name: str) -> dict[str, str]:
    """Public key to name, from the file that the tunnel came from, when it can be read; no message where it cannot."""
    from ginnel.cli import files
    from ginnel.config import wgquick

    try:
        record = Store().load(name)
        path = record.config if record is not None else str(files.CONFIG_DIR / f"{name}.conf")
        with Path(path).open("rb") as file:
            text = file.read(files.SIZE_MAX_BYTES).decode("utf-8", "surrogateescape")
        return {key.base64(): title for key, title in wgquick.parse(text).names.items()}
    except (OSError, ConfigError, GinnelError):
        return {}


def _verdict(answer: str, why: str) -> dict[str, str]:
    return {"answer": answer, "why": why}


_UNKNOWN = "another implementation: it does not tell"


def _view_from_uapi(device: Device, names: dict[str, str]) -> dict[str, Any]:
    now = time.time()
    peers = [_peer_view(peer, names, now) for peer in device.peers]
    here = link(device.name)  # None: it was moved to another namespace
    kernel = here is not None and here.kind == "wireguard"
    return {
        "name": device.name,
        "kind": "wireguard",
        "backend": "kernel" if kernel else "other",
        "state": "up" if here is not None and here.is_up else "down",
        "public_key": _public_key(device) if device.private_key else None,
        "listen_port": device.listen_port,
        "fwmark": device.fwmark,
        "mtu": here.mtu if here is not None else 0,
        "configured": _all(peers, "configured"),
        "alive": _all(peers, "alive"),
        "carrying": _verdict("unknown", _UNKNOWN),
        "warnings": _clock_warning(device, now),
        "peers": peers,
    }


def _clock_warning(device: Device, now: float) -> list[str]:
    if any(peer.handshake_sec > now + 1 for peer in device.peers):
        return ["the system clock was set back: a handshake lies in the future, and connection problems may follow"]
    return []


def _peer_view(peer: DevicePeer, names: dict[str, str], now: float) -> dict[str, Any]:
    public_key = base64_of(peer.public_key)
    age = max(0.0, now - peer.handshake_sec - peer.handshake_nsec / 1e9) if peer.handshake_sec else None
    if not peer.allowed_ips:
        configured = _verdict("no", "AllowedIPs is empty: nothing is sent to it or taken from it")
    elif not peer.endpoint:
        configured = _verdict("yes", "no endpoint: it has to speak first")
    else:
        configured = _verdict("yes", "as described")
    if age is None:
        alive = _verdict("no", "no handshake yet")
    elif age < SESSION_LIFE_S:
        alive = _verdict("yes", f"last handshake {age_text(age)} ago")
    else:
        alive = _verdict("no", f"last handshake {age_text(age)} ago")
    return {
        "name": names.get(public_key, ""),
        "public_key": public_key,
        "has_preshared_key": bool(peer.preshared_key),
        "endpoint": peer.endpoint or None,
        "endpoint_host": "",
        "allowed_ips": peer.allowed_ips,
        "keepalive_s": peer.keepalive_s,
        "state": "never" if age is None else "up" if age < SESSION_LIFE_S else "stale",
        "why": alive["why"],
        "configured": configured,
        "alive": alive,
        "carrying": _verdict("unknown", _UNKNOWN),
        "handshake_unix": peer.handshake_sec + peer.handshake_nsec / 1e9,
        "handshake_age_s": age,
        "rx_bytes": peer.rx_bytes,
        "tx_bytes": peer.tx_bytes,
    }


def _all(peers: list[dict[str, Any]], part: str) -> dict[str, str]:
    good = sum(peer[part]["answer"] == "yes" for peer in peers)
    if not peers:
        return _verdict("unknown", "no peers")
    return _verdict("yes" if good == len(peers) else "no", f"{good} of {len(peers)} peers")


def _pretty(tunnel: dict[str, Any], *, full_keys: bool, colour: bool) -> Iterator[str]:
    """A header, then one line a peer in columns, then warnings and what was dropped."""
    head = [
        ui.paint(tunnel["name"], "bold", on=colour) + f": {tunnel['kind']}, {tunnel['backend']}, {tunnel['state']}",
        f"port {tunnel['listen_port']}" if tunnel["listen_port"] else "no port",
        f"mtu {tunnel['mtu']}",
    ]
    if tunnel["fwmark"]:
        head.append(f"fwmark 0x{tunnel['fwmark']:x}")
    head.append(f"public key {tunnel['public_key']}" if tunnel["public_key"] else "no private key")
    yield " · ".join(head)
    rows = [("PEER", "STATE", "HANDSHAKE", "ENDPOINT", "RX", "TX", "WHY")]
    styles = ["dim"]
    for peer in tunnel["peers"]:
        state, why, style = judged(peer)
        age = peer["handshake_age_s"]
        rows.append(
            (
                _title(peer, full_keys=full_keys),
                state,
                f"{age_text(age)} ago" if age is not None else "never",
                _where(peer),
                size_text(peer["rx_bytes"]),
                size_text(peer["tx_bytes"]),
                ui.printable(why),
            )
        )
        styles.append(style)
    if len(rows) == 1:
        yield "  no peers"
    else:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row, style in zip(rows, styles, strict=True):
            cells = [
                cell.rjust(width) if column in _RIGHT else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            if style == "dim":
                yield ui.paint(("  " + "  ".join(cells)).rstrip(), "dim", on=colour)
            else:
                cells[1] = ui.paint(cells[1], style, on=colour)
                yield ("  " + "  ".join(cells)).rstrip()
    dropped = {reason: count for reason, count in tunnel.get("drops", {}).items() if count}
    if dropped:
        yield "  dropped: " + ", ".join(f"{reason} {count}" for reason, count in dropped.items())
    for text in tunnel.get("warnings", []):
        yield f"  {ui.paint('warning:', 'yellow', on=colour)} {ui.printable(text)}"
    if tunnel["backend"] == "other":
        yield "  Another implementation serves this interface: whether it carries, and what it drops, it does not tell."


def judged(peer: dict[str, Any]) -> tuple[str, str, str]:
    """The best that is proven of a peer, why it is no better, and a colour."""
    configured, alive, carrying = peer["configured"], peer["alive"], peer["carrying"]
    if carrying["answer"] == "yes":
        return "carrying", carrying["why"], "green"
    if alive["answer"] == "yes":
        if carrying["answer"] == "no":
            return "not carrying", carrying["why"], "red"
        return "alive", carrying["why"], "green"
    if configured["answer"] == "yes":
        return "configured", alive["why"], "yellow"
    return "not configured", configured["why"], "red"


def _title(peer: dict[str, Any], *, full_keys: bool) -> str:
    key = peer["public_key"] if full_keys else f"{peer['public_key'][:10]}…"
    name = ui.printable(peer["name"])
    if not name:
        return str(key)
    return f"{name} {key}" if full_keys else name


def _where(peer: dict[str, Any]) -> str:
    endpoint = peer["endpoint"] or "(none)"
    return f"{ui.printable(peer['endpoint_host'])} ({endpoint})" if peer["endpoint_host"] else str(endpoint)
