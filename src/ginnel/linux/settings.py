"""sysctl through /proc/sys: read first, written only where needed, in the network namespace of the process."""

from __future__ import annotations

import errno
from pathlib import Path

from ginnel.config.node_host import parts_of
from ginnel.errors import KernelError

_ROOT = Path("/proc/sys")


class ProcSettings:
    """`host.Settings`."""

    def read(self, name: str) -> str | None:
        """See `host.Settings`."""
        try:
            return self._path(name).read_text("ascii").strip()
        except OSError:
            return None

    def write(self, name: str, value: str) -> None:
        """See `host.Settings`."""
        try:
            self._path(name).write_text(value, "ascii")
        except OSError as error:
            hint = (
                "/proc/sys is read-only here, as containers have it: set it where the container is started"
                if (error.errno == errno.EROFS)
                else "this needs root"
            )
            raise KernelError(f"sysctl -q {name}={value}", error.errno or errno.EIO, hint) from None

    def _path(self, name: str) -> Path:
        """As sysctl(8): the first of dot and slash in the name is what separates; the other stands for a dot inside of a part."""
        by_slash = name.find("/") >= 0 and ("." not in name or name.find("/") < name.find("."))
        return _ROOT.joinpath(*name.split("/")) if by_slash else _ROOT.joinpath(*parts_of(name))
