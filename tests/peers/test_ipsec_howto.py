"""
docs/howto/ipsec-with-strongswan.md, done to the letter: its node files by `ginnel up`, its swanctl.conf and its commands in the
guest, on the kernel that most strongSwans run on.

Only the secret's text and the command that loads the file are others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from namespaces import Namespace, Net, wait_until
from peers.guest import ROOT, Guest
from peers.ipsec_kernel import ESP_MODULES
from peers.node_files import NodeFile
from peers.strongswan import Charon, InGuest, installed

PAGE = ROOT / "docs" / "howto" / "ipsec-with-strongswan.md"
SECRET = "a line that nobody guesses"
OURS, THEIRS = "203.0.113.10", "198.51.100.20"
INSIDE, BEYOND = "10.20.0.1", "10.30.0.1"
UP_S = 30.0


@dataclass(slots=True)
class Page:
    """What the page has to be typed, in its order, and where it is typed."""

    blocks: list[tuple[str, str]]
    net: Net
    guest: Guest
    space: Namespace
    charon: Charon
    directory: Path

    def block(self, kind: str, beginning: str) -> str:
        """The first one in that language that begins so."""
        return next(text for word, text in self.blocks if word == kind and text.startswith(beginning))

    def swanctl(self, children: str = "") -> str:
        """Its swanctl.conf, with another section of children."""
        text = self.block("", "connections {").replace("the line of gre1.psk", SECRET)
        if not children:
            return text
        found = re.search(r"^    children \{\n.*?^    \}\n", text, re.DOTALL | re.MULTILINE)
        assert found is not None
        return text.replace(found[0], children)

    def node(self, text: str) -> NodeFile:
        """A node file with its secret beside it."""
        secret = self.directory / "gre1.psk"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        return NodeFile.write(self.net, self.space, self.directory, text)

    def reaches(self, target: str, source: str = "") -> bool:
        """A ping from our side."""
        return self.space.ping(target, count=2, options=["-I", source] if source else [])


@pytest.fixture(scope="module")
def page(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Two hosts that reach each other, with a network behind each; strongSwan runs and knows nothing yet."""
    guest.load("ip_gre", *ESP_MODULES)
    with Net.create() as net:
        space = net.namespace("paris")
        link = guest.join(space, [f"{OURS}/24"])
        space.ip("route", "add", f"{THEIRS}/32", "dev", link.left)
        space.ip("address", "add", f"{INSIDE}/24", "dev", "lo")
        guest.shell(
            f"set -e; ip address add {THEIRS}/32 dev eth0; ip route add {OURS}/32 dev eth0 src {THEIRS};"
            f"ip address add {BEYOND}/24 dev lo"
        )
        charon = Charon.start(InGuest(guest))
        try:
            blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
            yield Page(blocks, net, guest, space, charon, tmp_path_factory.mktemp("howto"))
        finally:
            charon.close()
            guest.shell(
                f"ip link del gre1; ip address del {THEIRS}/32 dev eth0; ip route del {OURS}/32;"
                f"ip address del {BEYOND}/24 dev lo",
                check=False,
            )


def test_gre_in_transport_mode(page: Page) -> None:
    """Both tunnels' addresses and both networks reach each other; the largest packet that the page promises passes whole."""
    commands = [line for line in page.block("", "ip link add").splitlines() if not line.startswith("swanctl")]
    page.guest.shell("\n".join(["set -e", *commands]))
    page.charon.load_text(page.swanctl())
    with page.node(page.block("toml", "[tunnel.gre1]")) as node:
        try:
            wait_until(lambda: page.reaches("10.10.10.2"), UP_S, "a ping")
        except AssertionError as missing:
            raise AssertionError(f"{missing}\n{node.text()}\n{page.charon.said()[-4000:]}") from None
        assert page.reaches(BEYOND, INSIDE)
        # The packet that tried may have made strongSwan begin while we did: of two children one goes.
        (child,) = installed(page.charon, within_s=UP_S)
        assert child["mode"] == "TRANSPORT"
        ours = page.space.ip_json("link", "show", "dev", "gre1")[0]["mtu"]
        largest = str(min(ours, 1442) - 28)
        assert page.space.ping("10.10.10.2", options=["-M", "do", "-s", largest])
        page.guest.run("ping", "-n", "-q", "-c", "1", "-W", "3", "-M", "do", "-s", largest, "10.10.10.1")
    wait_until(lambda: not page.charon.associations(), UP_S, "the end there, when ours is taken down")


def test_networks_to_networks(page: Page) -> None:
    """The page's other children and its other node file."""
    page.charon.load_text(page.swanctl(page.block("", "    children {")))
    with page.node(page.block("toml", "[tunnel.site1]")) as node:
        try:
            wait_until(lambda: page.reaches(BEYOND, INSIDE), UP_S, "a ping")
        except AssertionError as missing:
            raise AssertionError(f"{missing}\n{node.text()}\n{page.charon.said()[-4000:]}") from None
        (child,) = page.charon.children()
        assert child["mode"] == "TUNNEL"
        assert (child["local-ts"], child["remote-ts"]) == (["10.30.0.0/24"], ["10.20.0.0/24"])
