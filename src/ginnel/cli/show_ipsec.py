"""
`show` for what protects a tunnel: who the peer is, which SAs there are, how old they are, what was refused and why, the MTU sum.

Everything comes judged and worded from the node's process (`ginnel.watch.ipsec`); nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ginnel.cli import ui
from ginnel.cli.text import size_text
from ginnel.watch.health import age_text

_NAT = {
    "none": "no NAT found",
    "us": "we are behind a NAT",
    "peer": "the peer is behind a NAT",
    "both": "both ends are behind a NAT",
}


def ipsec_lines(tunnel: dict[str, Any], *, colour: bool) -> Iterator[str]:
    """The section of one tunnel; nothing for an unprotected one."""
    view = tunnel["ipsec"]
    if view is None:
        return
    yield f"  protection: {ui.printable(view['why'])}"
    if view["keys_written"]:
        yield f"    {ui.paint('DEBUG:', 'red', on=colour)} its keys are written to {ui.printable(view['keys_written'])}"
    yield f"    identities: we are {ui.printable(view['local_id'])}, the peer {_peer(view)}"
    yield f"    path: {', '.join(_path(view))}"
    if view["ike"] is not None:
        ike = view["ike"]
        yield f"    ike: {ike['spi_i']}:{ike['spi_r']} ({ike['role']}) · {ike['proposal']} · {_times(ike)}"
    if view["child"] is not None:
        child = view["child"]
        esn = "ESN" if child["esn"] else "no ESN"
        spis = f"in {child['spi_in']}, out {child['spi_out']}"
        yield f"    esp: {spis} · {child['suite']} · {child['mode']} · {esn} · {_times(child)}"
        yield f"    selectors: {ui.printable(child['local_ts'])} ↔ {ui.printable(child['remote_ts'])}"
    yield from (f"    {_association(each)}" for each in view["associations"])
    if view["rekeyings"] or view["ike_rekeyings"]:
        yield f"    rekeyed: esp {view['rekeyings']} times, ike {view['ike_rekeyings']} times"
    if view["layers"]:
        parts = ", ".join(f"{layer['size_bytes']} {layer['name']}" for layer in view["layers"] if layer["size_bytes"])
        yield f"    mtu: {tunnel['mtu']} inside is {view['wire_bytes']} on the way: {parts}"
    if view["unsent"]:
        yield f"    {ui.paint('not sent:', 'yellow', on=colour)} {ui.printable(view['unsent'])}"
    if view["refusal"]:
        age = f", {age_text(view['refusal_age_s'])} ago" if view["refusal_age_s"] is not None else ""
        yield f"    {ui.paint('refused', 'red', on=colour)} (by {_by(view['refused_by'])}{age}):"
        yield from (f"      {ui.printable(line)}" for line in view["refusal"])


def ike_lines(node: dict[str, Any]) -> Iterator[str]:
    """What was refused of IKE messages and belongs to no tunnel; nothing when nothing was."""
    ike = node["ike"]
    if ike is None:
        return
    counted = {**{reason: ike.get(reason, 0) for reason in ("beyond_share", "queue_full", "at_socket")}, **ike["drops"]}
    dropped = ", ".join(f"{reason} {count}" for reason, count in counted.items() if count)
    half_open = f"{ike['half_open']} half open" if ike["half_open"] else ""
    if dropped or half_open:
        yield "  ike: " + ", ".join(filter(None, [half_open, f"messages dropped: {dropped}" if dropped else ""]))


def _peer(view: dict[str, Any]) -> str:
    peer, method = ui.printable(view["peer_id"]), view["remote_auth"]
    if view["ike"] is not None:
        return f"{peer} (proven by {method})"
    return f"is to prove itself as {peer} by {method}" if peer else f"may be anybody who proves itself by {method}"


def _path(view: dict[str, Any]) -> Iterator[str]:
    yield f"{view['local'] or 'any'} → {view['remote'] or 'any'}" + (
        f" port {view['remote_port']}" if view["remote_port"] else ""
    )
    if view["encapsulation"]:
        yield "ESP in UDP" if view["encapsulation"] == "udp" else "ESP as protocol 50"
    if view["nat"]:
        yield _NAT[view["nat"]]


def _times(view: dict[str, Any]) -> str:
    rekey = f"rekeyed in {age_text(view['rekey_in_s'])}" if view["rekey_in_s"] is not None else "never rekeyed"
    return f"{age_text(view['age_s'])} old, {rekey}"


def _association(view: dict[str, Any]) -> str:
    last = f", last {age_text(view['last_age_s'])} ago" if view["last_age_s"] is not None else ""
    drops = "".join(f", {reason} {count}" for reason, count in view["drops"].items() if count)
    return f"{view['direction']} {view['spi']}: {view['packets']} packets, {size_text(view['bytes'])}{last}{drops}"


def _by(who: str) -> str:
    return "the peer" if who == "peer" else "us"
