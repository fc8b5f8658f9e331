"""
What is rendered for Compose, run with what a container would have: the capabilities that the service names and no others, the
kernel's settings read-only, a /run of its own, the files where the service mounts them.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from ginnel.network import Compilation, Lock, allocate, parse_network
from ginnel.network.render import File, Secrets, docker
from ginnel.units import PublicKey
from namespaces import Namespace, Net, wait_until
from peers.node_files import GINNEL

NETWORK = """\
[network]
name = "acme"
pool = ["10.10.0.0/24"]

[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]

[node.app]
{extra}
"""
KEY = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="


def rendered(extra: str, kind: str) -> dict[str, File]:
    network = parse_network(NETWORK.format(extra=extra).replace("pool", f'kind = "{kind}"\npool', 1), "network.toml")
    keys = {node.name: PublicKey(bytes([index + 1]) * 32) for index, node in enumerate(network.nodes)}
    description = Compilation(network, allocate(network, Lock()), keys).node("app")
    return {file.name: file for file in docker.files(description, Secrets(KEY, {}, {"paris": "a secret of some length"}))}


@pytest.mark.parametrize(
    ("extra", "kind", "device"),
    [('exit = "paris"', "wireguard", "wg0"), ("", "gre+ipsec", "gre-paris"), ("", "gre", "gre-paris")],
)
def test_a_service_has_what_it_needs(extra: str, kind: str, device: str, tmp_path: Path) -> None:
    made = rendered(extra, kind)
    compose = made["compose.yaml"].text
    for name, file in made.items():
        (tmp_path / name).write_bytes(file.content)
        (tmp_path / name).chmod(0o600 if file.secret else 0o644)
    capabilities = re.findall(r"cap_add: \[(.*)\]", compose)[0].lower().split(", ")
    (path,) = re.findall(r'command: \[run, "(.*)"\]', compose)
    mounted = re.findall(r'"\./([^:]+):([^:]+):ro"', compose)
    secret = re.findall(r'target: "([^"]+/)([^"]+)"', compose)
    settings = re.findall(r'^      (net\.[^:]+): "(.*)"$', compose, re.MULTILINE)
    # Where the files are mounted: a directory that is left only if it was there.
    directory = Path(path).parent
    made_here = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        run_service(tmp_path, path, capabilities, mounted, secret, settings, device)
    finally:
        if made_here:
            with contextlib.suppress(OSError):  # somebody uses it by now
                directory.rmdir()


def run_service(
    tmp_path: Path, path: str, capabilities: list[str], mounted: list[tuple[str, str]], secret: list[tuple[str, str]],
    settings: list[tuple[str, str]], device: str,
) -> None:  # fmt: skip
    """The command of the service, until it carries; then it is stopped, and leaves nothing."""
    with Net.create() as net:
        space, other = net.namespace("app"), net.namespace("out")
        net.veth(space, other, ["192.0.2.1/24"], ["192.0.2.2/24"])
        space.ip("route", "add", "default", "via", "192.0.2.2")
        lines = [f"sysctl -qw {name}={value}" for name, value in settings]
        lines += ["mount --bind /proc/sys /proc/sys", "mount -o remount,ro,bind /proc/sys", "mount -t tmpfs tmpfs /run"]
        lines.append(f"mount -t tmpfs tmpfs {path.rpartition('/')[0]}")
        lines += [f"cp -p {tmp_path}/{source} {target}" for source, target in mounted]
        lines += [f"cp -p {tmp_path}/{name} {where}{name}" for where, name in secret]
        kept = "".join(f",+{name}" for name in capabilities)
        lines.append(f"exec setpriv --bounding-set=-all{kept} --inh-caps=-all {shlex.quote(GINNEL)} run {path}")
        log = tmp_path / "log"
        with log.open("wb") as output:
            argv = ("unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", "\n".join(lines))
            process = space.popen(*argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_until(lambda: process.poll() is not None or is_routed(space, device), 30, f"a route through {device}")
            assert process.poll() is None, log.read_text()
            wait_until(lambda: has_address(space.ip_json("address", "show"), device), 10, f"an address of {device}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)
        # Stopped while it still comes up or afterwards: either way it undoes what it did.
        assert not has_address(space.ip_json("address", "show"), device), log.read_text()


def has_address(links: list[dict[str, object]], device: str) -> bool:
    return any(link.get("ifname") == device and link.get("addr_info") and "UP" in str(link["flags"]) for link in links)


def is_routed(space: Namespace, device: str) -> bool:
    routes = space.ip_json("route", "show", "table", "all")
    return any(route.get("dev") == device and route["dst"] in ("default", "10.20.0.0/24") for route in routes)
