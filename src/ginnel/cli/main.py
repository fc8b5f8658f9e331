"""
`ginnel`: a table of subcommands, each imported only when it is called.

`--help` and completion must not cost what netlink or tables on the screen cost, so this file imports click and nothing heavy; a
test looks at sys.modules. All errors that ginnel raises on purpose end here, as text and an exit code.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from ginnel.cli import ui
from ginnel.errors import GinnelError, UsageError

#: Name: module and attribute of the command, and its line in the help.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("ginnel.cli.tunnel", "up", "Bring tunnels up, from a wg-quick file or a node file."),
    "down": ("ginnel.cli.tunnel", "down", "Take them down: exactly what `up` did."),
    "run": ("ginnel.cli.tunnel", "run", "The same as `up`, in the foreground, for systemd."),
    "show": ("ginnel.cli.show", "show", "What runs: state and why, by name; or as `wg show` prints it."),
    "initiate": ("ginnel.cli.ipsec", "initiate", "Negotiate IPsec for a tunnel now."),
    "terminate": ("ginnel.cli.ipsec", "terminate", "End the IPsec SAs of a tunnel, and tell the peer."),
    "rekey": ("ginnel.cli.ipsec", "rekey", "Replace the keys of an IPsec tunnel now."),
    "set": ("ginnel.cli.set", "set_", "Change a running interface, as `wg set`."),
    "save": ("ginnel.cli.tunnel", "save", "Write what runs back to its file."),
    "strip": ("ginnel.cli.tunnel", "strip", "Print a file without wg-quick's own keys, for `wg syncconf`."),
    "genkey": ("ginnel.cli.keys", "genkey", "Print a new private key."),
    "pubkey": ("ginnel.cli.keys", "pubkey", "Print the public key of the private key on stdin."),
    "genpsk": ("ginnel.cli.keys", "genpsk", "Print a new preshared key."),
    "mtu": ("ginnel.cli.mtu", "mtu_", "How large packets may be inside a tunnel, layer by layer; and the proof."),
    "init": ("ginnel.cli.init", "init", "Write a network file to begin with."),
    "node": ("ginnel.cli.node", "node", "Put nodes into the network file, take them out, rename them, list them."),
    "schema": ("ginnel.cli.init", "schema", "Print the JSON Schema of the network file, for editors."),
    "keys": ("ginnel.cli.network_keys", "keys", "The keys of a network: made, looked at, replaced."),
    "check": ("ginnel.cli.check", "check", "What is wrong with a network, or with the configurations of several hosts."),
    "path": ("ginnel.cli.path", "path", "How a packet gets from one place of a network to another, or what stops it."),
    "render": ("ginnel.cli.render", "render", "What each host is to have, as files of what runs there."),
    "import": ("ginnel.cli.importing", "import_", "Make a network file of the configurations of hosts that run already."),
    "plan": ("ginnel.cli.plan", "plan", "What is to be done on which host, so that what is becomes what the file says."),
    "graph": ("ginnel.cli.graph", "graph", "The network as a drawing: SVG, Graphviz or Mermaid."),
    "lab": ("ginnel.cli.lab", "lab", "Rehearse a whole network on this machine."),
}


#: How the help groups them: by what they are about.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Tunnels of this host": (
        *("up", "down", "run", "show", "set", "save", "strip", "initiate", "terminate", "rekey", "mtu"),
        *("genkey", "pubkey", "genpsk"),
    ),
    "A whole network, from one file": (
        *("init", "import", "node", "check", "path", "graph", "lab", "keys", "render", "plan", "schema"),
    ),
}


class _Table(click.Group):
    """A group that knows its commands' names and lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise click.UsageError(f"No such command '{ui.printable(args[0])}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(map(len, COMMANDS))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", COMMANDS[name][2]) for name in names])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"ginnel {version('ginnel')}")
        ctx.exit()


@click.group(cls=_Table, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version.")
def cli() -> None:
    """Build, run, watch and explain tunnels: WireGuard, GRE, IP in IP and IPsec, of one host or a whole network, from a file."""


def run(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    try:
        result: Any = cli.main(arguments, prog_name="ginnel", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ui.USAGE
    except click.ClickException as error:
        text = ui.printable_lines(error.format_message())
        if isinstance(error, click.UsageError):
            click.UsageError(text, error.ctx).show()
            return ui.USAGE
        click.ClickException(text).show()
        return ui.FAILED
    except (click.Abort, KeyboardInterrupt):
        ui.complain("interrupted")
        return ui.FAILED
    except UsageError as error:
        ui.complain(str(error))
        return ui.USAGE
    except GinnelError as error:
        ui.complain(str(error))
        return ui.FAILED
    except BrokenPipeError:
        # The reader had enough; nothing more can be said to it, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ui.FAILED
    except OSError as error:
        # Whatever a file or the host refuses and nobody had a better word for: a full disk behind stdout, say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        ui.complain(f"{error.filename or 'output'}: {error.strerror or error}")
        return ui.FAILED
    return result if isinstance(result, int) else ui.DONE


def main() -> NoReturn:
    """The `ginnel` command."""
    _open_standard_streams()
    # A file may be in any encoding: what cannot be shown is shown as an escape, never as a traceback.
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            ui.complain(f"output: {error.strerror}")
        code = ui.FAILED
    sys.exit(code)


def _open_standard_streams() -> None:
    """Those that the caller closed lead nowhere: else the next file to be opened would be written to as stdout."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, "r", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":
    main()
