"""
What the commands of `ginnel keys` have in common: which file and which nodes are meant, where the keys lie, what is pinned.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from ginnel.cli.network import Opened
from ginnel.errors import UsageError
from ginnel.network import Lock
from ginnel.units import PublicKey

SCHEMA = "ginnel.keys/1"

directory_option = click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Where the secrets lie; network.toml has network.keys."
)


def split_names(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """`[FILE] NAME...`: the first word is a file when it is no name of a node: they have no dot and no slash."""
    if words and ("." in words[0] or os.sep in words[0] or Path(words[0]).is_dir()):
        return Path(words[0]), list(words[1:])
    return None, list(words)


def parse_public(text: str) -> PublicKey:
    """What stands after --public."""
    try:
        return PublicKey.from_base64(text.strip())
    except ValueError as error:
        raise UsageError(f"--public: {error}") from None


def keep(opened: Opened, lock: Lock) -> None:
    """Pin *lock*; here it is an error when that cannot be done."""
    replace(opened, lock=lock).pin(must=True)
