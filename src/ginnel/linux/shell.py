"""
Hooks: lines of the configuration, run by bash as wg-quick runs them.

`%i` is the interface. wg-quick evaluates a hook in a subshell of a script that has `set -e -o pipefail`, `extglob` and LC_ALL=C;
so does this: the first command that fails ends the hook, and a hook that fails ends `up`. The line is one argument of bash:
nothing is put together from parts.
"""

from __future__ import annotations

import os
import subprocess

from ginnel.errors import GinnelError


class HookError(GinnelError):
    """A hook ended with something else than 0."""


def expand(line: str, interface: str) -> str:
    """The hook with `%i` replaced."""
    return line.replace("%i", interface)


class Bash:
    """`host.Shell`."""

    def run(self, line: str, interface: str) -> None:
        """See `host.Shell`."""
        command = ["bash", "-e", "-o", "pipefail", "-O", "extglob", "-c", expand(line, interface)]
        try:
            code = subprocess.run(command, check=False, env={**os.environ, "LC_ALL": "C"}).returncode
        except FileNotFoundError:
            raise HookError("hooks need bash, which is not installed: `apt install bash`") from None
        if code != 0:
            how = f"ended with {code}" if code > 0 else f"was ended by signal {-code}"
            # The line was printed before it ran; it is not repeated, since what is raised may be logged.
            raise HookError(f"the hook {how}")
