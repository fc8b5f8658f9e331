"""The files beside a daemon's own, by who reads them: nft, sysctl and systemd."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ginnel.network.render import NONE, File, renderer
from namespaces import Net
from unit.network.render.render_networks import node

NODES = [("sites", "paris"), ("sites", "phone"), ("plain", "amber"), ("six", "elder"), ("hidden", "north"), ("hidden", "cellar")]


def of(network: str, name: str, form: str, ending: str) -> list[File]:
    return [file for file in renderer(form).files(node(network, name), NONE) if file.name.endswith(ending)]


@pytest.mark.parametrize(("network", "name"), NODES)
def test_nft_takes_the_table_and_takes_it_again(net: Net, tmp_path: Path, network: str, name: str) -> None:
    space = net.namespace("nft")
    files = of(network, name, "networkd", ".nft")
    for file in files:
        path = tmp_path / file.name
        path.write_bytes(file.content)
        space.run("nft", "-f", str(path))
        once = space.run("nft", "list", "ruleset")
        assert once.startswith(f"table inet ginnel-{network} {{")
        space.run("nft", "-f", str(path))
        assert space.run("nft", "list", "ruleset") == once
    # The script's one line makes the very same.
    (script,) = of(network, name, "iproute2", ".sh")
    lines = [line.strip() for line in script.text.splitlines() if line.strip().startswith("nft ")]
    assert bool(lines) == bool(files)
    for line in lines:
        space.run("sh", "-c", line)
        assert space.run("nft", "list", "ruleset") == once
    for line in script.text.splitlines():
        if line.strip().startswith("gone nft "):
            space.run("sh", "-c", line.strip().removeprefix("gone "))
    assert space.run("nft", "list", "ruleset") == ""


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    found = [of(network, name, "networkd", ".service") for network, name in NODES]
    found += [of("hidden", "cellar", "networkmanager", ".service"), of("sites", "paris", "netplan", ".service")]
    for number, files in enumerate(found):
        for file in files:
            path = tmp_path / str(number) / file.name
            path.parent.mkdir()
            path.write_bytes(file.content)
            command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, [line for line in done.stderr.splitlines() if path.name in line]) == (0, [])


def test_sysctl_takes_the_settings(net: Net, tmp_path: Path) -> None:
    space = net.namespace("sysctl")
    for device in ("wg0", "wg-south"):
        space.ip("link", "add", device, "type", "bridge")
    (file,) = of("hidden", "cellar", "networkd", "60-ginnel-hidden.conf")
    path = tmp_path / file.name
    path.write_bytes(file.content)
    space.run("sysctl", "-p", str(path))
    assert space.run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv4.conf.wg0.rp_filter").split() == ["1", "2"]
    assert space.run("sysctl", "-n", "net.ipv4.conf.wg-south.rp_filter").strip() == "2"
