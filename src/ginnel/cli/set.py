"""
`set`: change a running interface in the words of `wg set`.

Keys are read from files, never from arguments, which everybody on the host can see. A peer may be given by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ginnel.cli import devices, ui
from ginnel.cli.show import configured_names
from ginnel.config.wgquick import HostPort, parse_allowed_ip, parse_endpoint, parse_fwmark, parse_keepalive
from ginnel.crypto import Secret
from ginnel.errors import GinnelError, UsageError
from ginnel.linux.backend import control
from ginnel.linux.device_lines import port_number
from ginnel.linux.endpoints import resolve
from ginnel.linux.uapi import NO_KEY
from ginnel.units import PublicKey

_GRAMMAR = (
    "ginnel set NAME [listen-port PORT] [fwmark MARK] [private-key FILE]\n"
    "         [peer KEY|NAME [remove] [preshared-key FILE] [endpoint HOST:PORT] [persistent-keepalive SECONDS|off]\n"
    "                        [allowed-ips [+|-]PREFIX[,…]]]…"
)


@click.command(name="set", context_settings={"ignore_unknown_options": True})
@click.argument("interface", metavar="NAME")
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="[listen-port PORT] [fwmark MARK] [private-key FILE] [peer …]…"
)
def set_(interface: str, words: tuple[str, ...]) -> None:
    """
    Change a running interface, as `wg set`.

    Each peer: peer KEY|NAME [remove] [preshared-key FILE] [endpoint HOST:PORT] [persistent-keepalive SECONDS|off]
    [allowed-ips [+|-]PREFIX[,…]]. Without a sign allowed-ips replaces all that the peer had.
    """
    if not words:
        raise UsageError(f"expected something to set\n  {_GRAMMAR}")
    request = _Request(interface)
    request.read(words)
    devices.write(interface, "".join(f"{line}\n" for line in request.lines))
    if request.hosts:
        _tell_hosts(interface, request.hosts)


class _Request:
    """The words, taken one by one, and the lines they mean."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.lines: list[str] = []
        #: Public key to the endpoint that was given by name.
        self.hosts: dict[str, str] = {}
        self._peer = ""

    def read(self, words: tuple[str, ...]) -> None:
        rest = iter(words)
        for word in rest:
            try:
                self._option(word, rest)
            except ValueError as error:
                raise GinnelError(f"{word}: {error}") from None

    def _option(self, word: str, rest: Iterator[str]) -> None:
        lines = self.lines
        match word:
            case "peer":
                self._peer = self._public_key(_next(rest, word))
                lines.append(f"public_key={PublicKey.from_base64(self._peer).hex()}")
            case "listen-port" if not self._peer:
                lines.append(f"listen_port={_port(_next(rest, word))}")
            case "fwmark" if not self._peer:
                lines.append(f"fwmark={parse_fwmark(_next(rest, word))}")
            case "private-key" if not self._peer:
                lines.append(f"private_key={_key_from(_next(rest, word))}")
            case "remove" if self._peer:
                lines.append("remove=true")
            case "preshared-key" if self._peer:
                lines.append(f"preshared_key={_key_from(_next(rest, word))}")
            case "endpoint" if self._peer:
                self._endpoint(parse_endpoint(_next(rest, word)))
            case "persistent-keepalive" if self._peer:
                lines.append(f"persistent_keepalive_interval={parse_keepalive(_next(rest, word))}")
            case "allowed-ips" if self._peer:
                self._allowed_ips(_next(rest, word))
            case _:
                place = "after a peer" if self._peer else "before the first peer"
                raise UsageError(f"expected an option that may stand {place}, found '{ui.printable(word)}'\n  {_GRAMMAR}")

    def _public_key(self, word: str) -> str:
        try:
            return PublicKey.from_base64(word).base64()
        except ValueError:
            named = [key for key, name in configured_names(self.interface).items() if name == word]
            if len(named) == 1:
                return named[0]
            found = "a name that several peers have" if named else "neither"
            raise ValueError(f"expected a key of 44 base64 characters or the name of a peer, found {found}") from None

    def _endpoint(self, where: HostPort) -> None:
        endpoint = resolve(where, ui.StderrConsole().note)
        self.lines.append(f"endpoint={endpoint}")
        if not where.is_numeric:
            self.hosts[self._peer] = f"{where.host}:{endpoint.port}"

    def _allowed_ips(self, value: str) -> None:
        entries = [parse_allowed_ip(item.strip()) for item in value.split(",")] if value.strip() else []
        if not any(entry.sign for entry in entries):
            self.lines.append("replace_allowed_ips=true")
        self.lines += [f"allowed_ip={'-' if entry.sign == '-' else ''}{entry.prefix}" for entry in entries]


def _tell_hosts(interface: str, hosts: dict[str, str]) -> None:
    """Our daemon keeps host names and asks for them again; other implementations cannot."""
    answer = control(interface, {"op": "show"})
    if answer is None:
        return
    names = {
        peer["public_key"]: {"name": peer["name"], "endpoint_host": hosts.get(peer["public_key"], peer["endpoint_host"])}
        for peer in answer["tunnel"]["peers"]
    }
    control(interface, {"op": "names", "peers": names})


def _next(rest: Iterator[str], word: str) -> str:
    value = next(rest, None)
    if value is None:
        raise UsageError(f"expected a value after {word}, found nothing\n  {_GRAMMAR}")
    return value


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text[:9]) > 65535:
        raise ValueError(f"expected a port from 0 to 65535, found '{text[:9]}'")
    return port_number(text)


def _key_from(path: str) -> str:
    """The key in a file, in hexadecimal; an empty file, as /dev/null, clears the key."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(4096)
    except OSError as error:
        raise GinnelError(
            f"{ui.printable(path)}: {error.strerror}\n  hint: keys are read from files, so that no list of processes shows them"
        ) from None
    text = raw.decode("ascii", "replace").strip()
    if not text:
        return NO_KEY
    try:
        return Secret.from_base64(text).reveal_hex()
    except ValueError:
        raise GinnelError(f"{ui.printable(path)}: expected a key of 44 base64 characters, found {len(text)} characters") from None
