"""
`mtu`: the sum of a stack's layers, and its proof.

    ginnel mtu gre+key --link 1500        what it takes, over IPv4 and over IPv6
    ginnel mtu gre1                       of the tunnel that runs under this name, over the path that it has now
    ginnel mtu gre1 --prove 10.10.10.2    and whether packets of that size, and none larger, really pass there and back

HOST is inside the tunnel when the route to it leads through one; then the inner MTU is put to the proof, otherwise the link's.
The exit code is 0 when what is said holds, 1 when a proof says otherwise.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import click

from ginnel import mtu
from ginnel.cli import ui
from ginnel.errors import GinnelError, UsageError
from ginnel.linux.links import Link
from ginnel.mtu.layers import MAX_LINK_MTU, MIN_IPV4_MTU, Family
from ginnel.mtu.proof import Proof, sentences
from ginnel.mtu.text import describe

SCHEMA = "ginnel.mtu/1"
_OVER: dict[str, Family] = {"ipv4": 4, "ipv6": 6}
#: The link of a stack in words when none is given.
_ETHERNET_MTU = 1500
Where = Literal["inside", "outside"]


@click.command()
@click.argument("what", metavar="STACK|NAME")
@click.option(
    "--link", "link_mtu", type=click.IntRange(68, MAX_LINK_MTU), help="What the link carries.  [default: 1500; NAME: its path]"
)
@click.option("--over", type=click.Choice(list(_OVER)), help="What the stack runs over.  [default: both]")
@click.option("--json", "as_json", is_flag=True, help="As JSON, schema ginnel.mtu/1.")
@click.option("--prove", "host", metavar="HOST", help="Send probes to HOST, of the size that fits and larger.")
@click.option("--inside", "where", flag_value="inside", help="HOST is inside the tunnel, whatever its route says.")
@click.option("--outside", "where", flag_value="outside", help="HOST is outside.")
def mtu_(what: str, link_mtu: int | None, over: str | None, as_json: bool, host: str | None, where: Where | None) -> int:
    """
    How large packets may be inside a tunnel, layer by layer.

    STACK is a tunnel with its options, the innermost first: gre, gre+key+seq, gretap+vlan, ipip, sit, ip6tnl, gre-in-udp,
    ip6gre+encaplimit, eoip, wireguard, esp(aes256gcm16), gre+esp(aes128-sha256,nat-t), gre+wireguard, gre+pppoe.
    NAME is the interface of a tunnel that runs here.
    """
    if where is not None and host is None:
        raise UsageError("--inside and --outside say where HOST of --prove is")
    found = _stacks(what, link_mtu, _OVER[over] if over else None)
    address = _resolve(host, _OVER[over] if over else None) if host is not None else None
    if not as_json:
        click.echo("\n".join(_table(found, colour=ui.has_colour(sys.stdout))), color=True)
        sys.stdout.flush()
    proven = _prove(found, address, where, quiet=as_json) if address is not None else None
    if as_json:
        click.echo(json.dumps(_json(found, proven), indent=2))
    elif proven is not None:
        click.echo("\n".join(_proof_lines(proven, colour=ui.has_colour(sys.stdout))), color=True)
    return ui.DONE if proven is None or proven.proof.agrees else ui.FAILED


class _Found:
    """What was asked for: a stack over one or both families, and what is known of the tunnel when one runs."""

    def __init__(self, text: str, stacks: dict[Family, mtu.Stack], link: int) -> None:
        self.text, self.stacks, self.link = text, stacks, link
        self.sums = [(family, stack.sum(link)) for family, stack in stacks.items()]
        self.device: Link | None = None
        self.learned = 0

    def warnings(self) -> Iterator[str]:
        """What differs between the running tunnel and its sum."""
        inner = self.sums[0][1].inner
        if self.device is None:
            return
        name, size = self.device.name, self.device.mtu
        if size > inner:
            yield f"{name} has an MTU of {size}, {size - inner} more than fits: ip link set {name} mtu {inner}"
        elif size < inner:
            yield f"{name} has an MTU of {size}: it could be {inner}"
        if self.learned and self.learned < min(size, inner):
            yield f"the path takes less, as ICMP or probes told: {self.learned}; what is larger is refused or fragmented"


class _Proven:
    """What a proof is about, how it ended, and what follows: the stack's sum over the path that was found, if another."""

    def __init__(self, address: str, where: Where, subject: str, proof: Proof, then: mtu.Sum | None) -> None:
        self.address, self.where, self.subject, self.proof, self.then = address, where, subject, proof, then

    def sentences(self) -> tuple[str, ...]:
        said = sentences(self.proof, self.address, self.subject)
        if self.then is not None:
            said += (f"over a path of {self.then.link} the inner MTU is {self.then.inner}",)
        return said


def _stacks(what: str, link_mtu: int | None, over: Family | None) -> _Found:
    """The stack that *what* names: in words, or of a tunnel that runs."""
    try:
        described = describe(what)
    except mtu.StackError as error:
        from ginnel.cli import stacks

        running = stacks.running(what)
        if running is None:
            raise _neither(what, error) from None
    else:
        families = (over,) if over is not None else described.families
        return _Found(described.text, {family: described.over(family) for family in families}, link_mtu or _ETHERNET_MTU)
    if over is not None and over != running.stack.family:
        raise UsageError(f"--over: {what} runs over IPv{running.stack.family}")
    path = link_mtu or running.path
    if path is None:
        raise GinnelError(f"{what}: there is no way to its remote now, so nobody knows what it carries\n  hint: give --link 1500")
    assert running.stack.family is not None
    found = _Found(running.stack.text, {running.stack.family: running.stack}, path)
    found.device, found.learned = running.link, running.learned
    return found


def _neither(what: str, error: mtu.StackError) -> mtu.StackError:
    if what.isidentifier() or "-" in what:
        return mtu.StackError(f"no interface here is called '{ui.printable(what)}', and as a stack: {error}")
    return error


# ---------------------------------------------------------------- proof


def _resolve(host: str, over: Family | None) -> str:
    """*host* as a numeric address; of a link-local one with its scope."""
    kind = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[over]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise GinnelError(f"--prove {ui.printable(host)}: {getattr(error, 'strerror', None) or error}") from None
    wanted = [each for each in found if kind in {socket.AF_UNSPEC, each[0]}] or found
    return str(wanted[0][4][0])


def _prove(found: _Found, address: str, where: Where | None, *, quiet: bool) -> _Proven:
    from ginnel.cli import stacks
    from ginnel.linux import echo

    family: Family = 6 if ":" in address else 4
    packed = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, address.partition("%")[0])
    if where is None:
        through, _ = stacks.way_mtu(packed)
        if found.device is not None:
            where = "inside" if through is not None and through.index == found.device.index else "outside"
        else:
            where = "inside" if through is not None and through.kind in stacks.TUNNEL_KINDS else "outside"
    expected, subject = (found.link, "the link says") if where == "outside" else _expected_inside(found)
    if not quiet and sys.stderr.isatty():
        sys.stderr.write(f"probing {address} ...\n")
    device = found.device.name if found.device is not None and where == "inside" else ""
    proof = echo.prove(address, expected, device=device)
    stack = found.stacks.get(family)
    narrowest = min(proof.found, proof.whole)
    then = None
    if where == "outside" and stack is not None and narrowest not in {0, expected} and stack.inner(narrowest) >= MIN_IPV4_MTU:
        then = stack.sum(narrowest)
    return _Proven(address, where, subject, proof, then)


def _expected_inside(found: _Found) -> tuple[int, str]:
    """The size that is put to the proof, and who says so."""
    sizes = {one.inner for _, one in found.sums}
    if len(sizes) > 1:
        raise UsageError(
            "--prove inside the tunnel: over IPv4 and over IPv6 the sum differs\n  hint: say --over ipv4 or --over ipv6"
        )
    inner = sizes.pop()
    if found.device is not None and found.device.mtu < inner:
        return found.device.mtu, f"{found.device.name} says"
    return inner, "the sum says"


# ---------------------------------------------------------------- output


def _table(found: _Found, *, colour: bool) -> Iterator[str]:
    title = f"{found.device.name}: {found.text}" if found.device is not None else found.text
    on = f"on a path of {found.link}" if found.device is not None else f"on a link of {found.link}"
    yield f"{ui.paint(title, 'bold', on=colour)} {on}"
    yield ""
    sums = [one for _, one in found.sums]
    rows: list[tuple[str, list[str], str]] = [
        ("", [f"over IPv{family}" for family, _ in found.sums], "dim"),
        ("link", [str(one.link) for one in sums], ""),
    ]
    for slot, name in _slots(sums):
        sizes = [next((layer.size_bytes for at, layer in _slotted(one) if at == slot), None) for one in sums]
        rows.append((name, ["" if size is None else f"-{size}" if size else "0" for size in sizes], ""))
    rows.append(("inner MTU", [str(one.inner) for one in sums], "bold"))
    rows.append(("TCP MSS, IPv4 inside", [_or_dash(one.mss4) for one in sums], ""))
    rows.append(("TCP MSS, IPv6 inside", [_or_dash(one.mss6) for one in sums], ""))
    rows.append(("first size that breaks", [str(one.broken) for one in sums], ""))
    rows.append(("its size on the link", [str(one.broken_wire) for one in sums], "dim"))
    left = max(len(name) for name, _, _ in rows)
    right = max(len(cell) for _, cells, _ in rows for cell in cells)
    for name, cells, style in rows:
        if name == "inner MTU":
            yield "  " + " " * left + "".join("  " + ("─" * 5).rjust(right) for _ in cells)
        line = f"  {name.ljust(left)}" + "".join(f"  {cell.rjust(right)}" for cell in cells)
        yield ui.paint(line, style, on=colour) if style else line
    for family, one in found.sums:
        which = f"over IPv{family}: " if len(found.sums) > 1 else ""
        yield from (f"  {ui.paint('note:', 'cyan', on=colour)} {which}{text}" for text in one.notes)
    yield from (f"  {ui.paint('warning:', 'yellow', on=colour)} {ui.printable(text)}" for text in found.warnings())


def _or_dash(size: int | None) -> str:
    return "–" if size is None else str(size)


def _slotted(one: mtu.Sum) -> list[tuple[tuple[str, int], mtu.Layer]]:
    """Each layer with what makes it the same in another family's sum: its slot or name, and the how manieth of those."""
    seen: dict[str, int] = {}
    found = []
    for layer in one.layers:
        key = layer.slot or layer.name
        seen[key] = seen.get(key, 0) + 1
        found.append(((key, seen[key]), layer))
    return found


def _slots(sums: Sequence[mtu.Sum]) -> Iterator[tuple[tuple[str, int], str]]:
    """The rows of all *sums* together, and their names."""
    slotted = [_slotted(one) for one in sums]
    longest = max(slotted, key=len)
    for slot, _ in longest:
        names = {layer.name for one in slotted for at, layer in one if at == slot}
        yield slot, f"{names.pop() if len(names) == 1 else slot[0]} header" if slot[0] == "IP" else names.pop()


def _proof_lines(proven: _Proven, *, colour: bool) -> Iterator[str]:
    yield ""
    place = "inside the tunnel" if proven.where == "inside" else "outside the tunnel"
    yield f"Proof: {proven.address}, {place}"
    first, *rest = proven.sentences()
    good = proven.proof.agrees
    yield f"  {ui.paint('✓' if good else '✗', 'green' if good else 'red', on=colour)} {ui.printable(first)}"
    yield from (f"    {ui.printable(text)}" for text in rest)


def _json(found: _Found, proven: _Proven | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "stack": found.text,
        "interface": found.device.name if found.device is not None else None,
        "interface_mtu": found.device.mtu if found.device is not None else None,
        "learned_mtu": found.learned or None,
        "link": found.link,
        "sums": [
            {
                "over": f"ipv{family}",
                "layers": [{"name": layer.name, "bytes": layer.size_bytes} for layer in one.layers],
                "inner_mtu": one.inner,
                "mss_ipv4": one.mss4,
                "mss_ipv6": one.mss6,
                "wire_bytes": one.wire,
                "breaks_at": one.broken,
                "breaks_wire_bytes": one.broken_wire,
                "notes": list(one.notes),
            }
            for family, one in found.sums
        ],
        "warnings": list(found.warnings()),
        "proof": None if proven is None else _proof_json(proven),
    }


def _proof_json(proven: _Proven) -> dict[str, Any]:
    proof = proven.proof
    beyond = None
    if proof.beyond is not None:
        beyond = {
            "size": proof.beyond.size,
            "end": proof.beyond.end,
            "by": proof.beyond.by or None,
            "mtu": proof.beyond.mtu or None,
            "why": proof.beyond.why or None,
        }
    return {
        "host": proven.address,
        "where": proven.where,
        "expected": proof.expected,
        "agrees": proof.agrees,
        "reached": proof.reached,
        "finished": proof.finished,
        "passes": proof.found or None,
        "passes_back_whole": proof.whole or None,
        "largest_fragment_back": proof.fragment or None,
        "beyond": beyond,
        "black_hole": proof.black_hole,
        "sentences": list(proven.sentences()),
    }
