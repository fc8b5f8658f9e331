"""
The network file: TOML text in, a `Network` out, or every mistake of the file at once.

    text -> tomllib -> tables (form: unknown keys, types, each value by itself) -> model -> check (sense, across nodes)

Form and sense both report through `ConfigError`: file, line, column, what was expected, what was found, how to mend it.
Nothing is guessed: an unknown key is a mistake, with the nearest known one as a hint. No secret belongs in this file;
a line whose key looks like one is refused without being quoted. What the keys are is written in `language.tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from ginnel.errors import ConfigError, Mistake
from ginnel.network import model
from ginnel.network.check import check
from ginnel.network.language.meaning import network_of
from ginnel.network.language.mistakes import form_mistakes, in_reading_order, table_mistakes
from ginnel.network.language.sources import MAX_FILE_BYTES, Sources
from ginnel.network.language.tables import NetworkFile
from ginnel.network.language.values import parse_milliseconds, parse_ratio

__all__ = [
    "MAX_FILE_BYTES",
    "Parsed",
    "parse_milliseconds",
    "parse_network",
    "parse_network_files",
    "parse_ratio",
    "read_form",
    "read_network",
]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A network, and where its file or files say what: `sources.place(("node", "paris", "lans", 0))`."""

    network: model.Network
    sources: Sources


def parse_network(text: str, source: str) -> model.Network:
    """
    Read a network file.

    Args:
        text: the TOML text.
        source: how to call the file in messages.

    Returns:
        the network, checked for form and for sense.

    Raises:
        ConfigError: every mistake of the file (form first; sense once the form is right).
    """
    return read_network([(source, text)], source).network


def parse_network_files(files: Sequence[tuple[str, str]], source: str) -> model.Network:
    """
    Read a network from several files.

    Args:
        files: what each is called, and its text, in the order that counts.
        source: how to call the whole, for mistakes of none of them.

    Raises:
        ConfigError: as of `parse_network`; each mistake names its own file.
    """
    return read_network(files, source).network


def read_network(files: Sequence[tuple[str, str]], source: str) -> Parsed:
    """The same, with the places of all that is said."""
    parsed = read_form(files, source)
    mistakes = check(parsed.network, parsed.sources)
    if mistakes:
        raise ConfigError(source, parsed.sources.settled(mistakes))
    return parsed


def read_form(files: Sequence[tuple[str, str]], source: str) -> Parsed:
    """
    The network as the files say, before `check` has looked at its sense.

    Raises:
        ConfigError: every mistake of form.
    """
    sources = Sources(files, source)
    if "tunnel" in sources.document and "network" not in sources.document:
        hint = "`ginnel up FILE` brings its tunnels up; a network file has [network] and [node.NAME]"
        raise ConfigError(source, [Mistake("expected a network file, found a node file", hint=hint, code="G0906")])
    if "version" in sources.document and "network" not in sources.document:
        hint = "name the network file that it lies beside: NAME.toml for NAME.lock.toml"
        raise ConfigError(source, [Mistake("expected a network file, found a lock file", hint=hint, code="G0906")])
    try:
        parsed = NetworkFile.model_validate(sources.document)
    except ValidationError as error:
        raise ConfigError(source, sources.settled(in_reading_order(form_mistakes(error, sources)))) from None
    mistakes = in_reading_order(table_mistakes(parsed, sources))
    if mistakes:
        raise ConfigError(source, sources.settled(mistakes))
    return Parsed(network_of(parsed), sources)
