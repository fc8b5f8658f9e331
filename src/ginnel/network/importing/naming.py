"""
Whose file it is: a host told by the path alone.

    HOST/etc/wireguard/wg0.conf        what stands before `etc`, whatever stands below
    HOST/wg0.conf, HOST/wg-dump.txt    the directory, when nothing of the file's name is left once the name of an interface
                                       (wg0, gre1 …) and the words of the command that wrote it are taken off
    HOST.conf, HOST-wg0.conf, HOST-ip-addr.json, wg0-client-HOST.conf
                                       else what is left of the file's name

Directories that hold configuration on every host (etc, wireguard, network, system-connections, *.d …) name none: the one above
them does. A file of which a host has several (networkd, NetworkManager) is always its directory's. Two files are one host's when
they come out at one place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_INTERFACE = re.compile(r"(?:wg|tun|vpn|gre|gretap|ipip|sit|ipsec|vti|xfrm|utun|tunnel|awg)\d{1,6}", re.IGNORECASE)
#: Words of the commands whose output is kept in files.
_WORDS = frozenset(
    {
        "wg", "wireguard", "quick", "show", "all", "dump", "showconf", "setconf", "swanctl", "ip", "link", "links", "tunnel",
        "tunnels", "addr", "address", "addresses", "route", "routes", "json", "txt", "node", "d", "s", "conf", "config",
    }
)  # fmt: skip
_CONTAINERS = frozenset(
    {
        "etc", "run", "usr", "lib", "wireguard", "amneziawg", "systemd", "network", "networkmanager", "system-connections",
        "swanctl", "strongswan", "ginnel", "conf", "config", "configs", ".", "..", "",
    }
)  # fmt: skip
_ENDINGS = re.compile(r"\.(?:conf|txt|json|dump|out|nmconnection|netdev|network|toml|cfg|ini)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Whose a file is.

    key: the same for all files of one host. name: what it is called, "" if the path does not say. interface: which of its
    interfaces the file's name is about, "" if none. by_stem: the file's own name named it.
    """

    key: str
    name: str
    interface: str
    by_stem: bool = False


def origin(path: str, host: str = "", *, by_directory: bool = False) -> Origin:
    """
    Tell whose a file is.

    Args:
        path: where it lies.
        host: whose it is, where that was said outright.
        by_directory: it is of a format of which a host has several files side by side, so that its own name says nothing.
    """
    *directories, base = path.replace("\\", "/").split("/")
    stem = _ENDINGS.sub("", base)
    rest, interface = _taken_apart(stem)
    if host:
        return Origin(f"={host}", host, interface)
    lowered = [part.lower() for part in directories]
    if "etc" in lowered or "run" in lowered:
        first = min(lowered.index(part) for part in ("etc", "run") if part in lowered)
        name = directories[first - 1] if first and directories[first - 1] not in ("", ".", "..") else ""
        return Origin("/".join(directories[:first]) + "/etc", name, interface or stem)
    if rest and not by_directory:
        return Origin("/".join([*directories, rest]), rest, interface, by_stem=True)
    while directories and (directories[-1].lower() in _CONTAINERS or directories[-1].lower().endswith(".d")):
        directories.pop()
    return Origin("/".join(directories) + "/", directories[-1] if directories else "", interface)


def in_directory(path: str) -> Origin:
    """
    Whose a file is whose name is that of an interface after all: files called alike lie in directories called after their hosts.
    """
    found = origin(path, by_directory=True)
    return replace(found, interface=_ENDINGS.sub("", path.replace("\\", "/").rpartition("/")[2]))


def _taken_apart(stem: str) -> tuple[str, str]:
    """What of a file's name is a host's, and what an interface's."""
    parts = re.split(r"([-_.])", stem)
    interface = ""
    found = [index for index in range(0, len(parts), 2) if _INTERFACE.fullmatch(parts[index])]
    if found:
        interface = parts[found[0]]
        if found[0] == 0 and len(parts) > 2 and parts[2].lower() in {"client", "peer"} and len(parts) > 4:
            return "".join(parts[4:]), interface
        for index in reversed(found):
            del parts[max(index - 1, 0) : index + 1]
        if parts and parts[0] in {"-", "_", "."}:
            del parts[0]
    while parts and parts[-1].lower() in _WORDS:
        del parts[-2:]
    while parts and parts[0].lower() in _WORDS:
        del parts[:2]
    return "".join(parts), interface
