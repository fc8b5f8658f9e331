"""`genkey`, `genpsk`, `pubkey`: byte for byte what `wg` prints, with its warnings and its refusals."""

from __future__ import annotations

import os
import stat
import sys

import click

from ginnel.cli import ui
from ginnel.crypto import Secret, public_key
from ginnel.errors import GinnelError


@click.command()
def genkey() -> None:
    """Print a new private key."""
    _warn_of_readers()
    click.echo(Secret.random().clamp().reveal_base64())


@click.command()
def genpsk() -> None:
    """Print a new preshared key."""
    _warn_of_readers()
    click.echo(Secret.random().reveal_base64())


@click.command()
def pubkey() -> None:
    """Print the public key of the private key on stdin."""
    if sys.stdin.isatty():
        sys.stderr.write("Reading a private key from the terminal; end it with Enter.\n")
        text = sys.stdin.readline()
    else:
        text = sys.stdin.read(4096)
    try:
        private = Secret.from_base64(text.strip())
    except ValueError:
        raise GinnelError(
            f"expected a private key of 44 base64 characters on stdin, found {len(text.strip())} characters"
        ) from None
    click.echo(public_key(private.clamp()).base64())


def _warn_of_readers() -> None:
    """As `wg`: a secret is about to go into a file that others can read."""
    status = os.fstat(sys.stdout.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        mode = f"{status.st_mode & 0o777:04o}"
        ui.warn(f"writing a secret to a file that others can read (mode {mode}): `umask 077` before, and try again")
