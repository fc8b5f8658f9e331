"""
The process that carries one faulty wire: `python -m ginnel.lab.relay LEFT RIGHT SEED SETTINGS`.

It runs in the wire's own namespace, so that it ends with it; it says `ready` when both ends are open, then sleeps while the
native relay works.
"""

from __future__ import annotations

import json
import signal
import sys

from ginnel.engine import Relay


def main(argv: list[str]) -> int:
    """Run until killed; 1 with one line on stdout when an end cannot be opened."""
    left, right, seed, settings = argv
    try:
        relay = Relay(left, right, seed=int(seed))
        relay.configure(**json.loads(settings))
    except (OSError, ValueError) as error:
        print(error, flush=True)  # noqa: T201  the parent reads it
        return 1
    print("ready", flush=True)  # noqa: T201  the parent waits for it
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    relay.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
