"""
What docs/howto/ipsec-with-strongswan.md shows, as it stands there, between ginnel and strongSwan; and the defaults of both.

strongSwan runs with its ESP in user space, which is tunnel mode alone: the page's connection with the page's children of
networks. Of its GRE in transport mode the configuration is loaded here; that it carries is seen in the guest
(test_ipsec_ike_kernel.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ginnel.config import nodefile
from namespaces import Namespace, Net, wait_until
from peers.node_running import NodeProcess
from peers.strongswan import Charon, InNamespace, installed

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "ipsec-with-strongswan.md").read_text()
SWANCTL, CHILDREN = re.findall(r"(?ms)^```\n((?:connections| +children) .*?)^```$", PAGE)
GRE, NETWORKS = re.findall(r"(?ms)^```toml\n(.*?)^```$", PAGE)
SECRET = "the line of gre1.psk"

NETWORKS_THERE = re.sub(r"(?ms)^    children \{\n.*?^    \}\n", lambda _: CHILDREN, SWANCTL)


def without(text: str, *keys: str) -> str:
    """A configuration of either without some keys: what is left out has its default."""
    return re.sub(rf"(?m)^ *({'|'.join(keys)}) = .*\n", "", text)


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Namespace, Namespace, Charon]]:
    """Two hosts with the page's addresses and networks, and strongSwan on the second."""
    with Net.create() as net:
        node, swan = net.namespace("node"), net.namespace("swan")
        link = net.veth(node, swan, ["203.0.113.10/24"], ["198.51.100.20/24"])
        node.ip("route", "add", "198.51.100.0/24", "dev", link.left)
        swan.ip("route", "add", "203.0.113.0/24", "dev", link.right)
        node.ip("address", "add", "10.20.0.1/32", "dev", "lo")
        swan.ip("address", "add", "10.30.0.1/32", "dev", "lo")
        charon = Charon.start(InNamespace(swan))
        yield node, swan, charon
        charon.close()


def load(charon: Charon, text: str) -> str:
    charon.place.write(f"{charon.directory}/swanctl.conf", text.encode(), 0o600)
    for name in ("x509", "x509ca", "x509crl", "private", "pubkey"):
        charon.place.run("mkdir", "-p", f"{charon.directory}/{name}")
    return charon.ask("--load-all", "--clear", "--file", f"{charon.directory}/swanctl.conf")


def new_child(charon: Charon, before: str) -> dict[str, Any]:
    """The one child, once it is another; nothing until then."""
    found = charon.children()
    return found[0] if len(found) == 1 and found[0]["spi-in"] != before else {}


@pytest.mark.parametrize(
    ("ours", "theirs", "suite"),
    [
        (NETWORKS, NETWORKS_THERE, "aes256gcm16-x25519"),
        (without(NETWORKS, "peer"), NETWORKS_THERE, "aes256gcm16-x25519"),
        # strongSwan answers in its own order of preference, and 5.9.8 has no PFS among its defaults.
        (NETWORKS, without(NETWORKS_THERE, "proposals", "esp_proposals"), "aes128gcm16"),
        (without(NETWORKS, "peer"), without(NETWORKS_THERE, "proposals", "esp_proposals"), "aes128gcm16"),
    ],
    ids=["as the page has it", "our defaults", "the profile and its defaults", "the defaults of both"],
)
def test_the_page_and_the_defaults_carry(
    ends: tuple[Namespace, Namespace, Charon], tmp_path: Path, ours: str, theirs: str, suite: str
) -> None:
    node, swan, charon = ends
    psk = tmp_path / "gre1.psk"
    psk.write_text(f"{SECRET}\n")
    psk.chmod(0o600)
    load(charon, theirs)
    config = nodefile.parse(ours, str(tmp_path / "edge.toml"))
    process = NodeProcess.start(node, "page", tmp_path, config.plain)
    try:
        node.ip("link", "set", "site1", "up")
        node.ip("route", "add", "10.30.0.0/24", "dev", "site1", "src", "10.20.0.1")
        (child,) = installed(charon)
        assert process.show("site1")["ipsec"]["child"]["suite"] == suite
        for rekey in (lambda: charon.rekey_child("net"), lambda: process.ask(op="rekey", tunnel="site1")):
            assert node.ping("10.30.0.1", count=2, options=["-I", "10.20.0.1"]), process.said()[-3000:]
            assert swan.ping("10.20.0.1", count=2, options=["-I", "10.30.0.1"]), process.said()[-3000:]
            before = child["spi-in"]
            rekey()
            child = wait_until(lambda b=before: new_child(charon, b), 10, "a rekeyed child")
        # Each side prefers its own order, whoever asks.
        assert process.show("site1")["ipsec"]["child"]["suite"].startswith(("aes256gcm16", "aes128gcm16"))
        assert node.ping("10.30.0.1", count=2, options=["-I", "10.20.0.1"]), process.said()[-3000:]
    finally:
        process.stop()
    wait_until(lambda: not charon.children(), 10, "the end of it")


def test_the_page_of_gre_is_what_both_take(ends: tuple[Namespace, Namespace, Charon]) -> None:
    _, _, charon = ends
    # A trap policy is the kernel's; here there is none.
    said = load(charon, SWANCTL.replace("start_action = trap", "start_action = none"))
    assert "successfully loaded 1 connections" in said
    (tunnel,) = nodefile.parse(GRE, "/edge.toml").plain
    assert tunnel.ipsec is not None
    assert (tunnel.kind, tunnel.ipsec.mode) == ("gre", "transport")
